"""What contradicts itself on the command line of `convert`, before anything is read."""

import os

from absl import flags

from shared.errors import UsageError


def check_flags(values: flags.FlagValues, source: str, target: str) -> None:
    """Stops at flags that cannot be meant together.

    Args:
      values: of `convert`.
      source, target: the real paths that they give.

    Raises:
      UsageError: the flags are named.
    """
    for name in ("layer_layout", "param_scan_axis", "layers"):
        if (values.pair or values.weight_map) and values[name].present:
            raise UsageError(f"--{name} is of a map by rule: the pair or map given says the layout")
    for name in ("param_scan_axis", "layers"):
        if values.layer_layout == "keep" and values[name].present:
            raise UsageError(f"--{name} needs --layer_layout=stacked or unstacked")
    if values.allow_extra and not (values.pair or values.weight_map):
        raise UsageError("--allow_extra needs --pair or --weight_map: by rule no param is extra")
    renames_from_flags(values)
    if os.path.commonpath([source, target]) in (source, target):
        raise UsageError(
            f"--target_path={values.target_path} and --source_path={values.source_path} are one, "
            f"or one is within the other; choose a target outside"
        )
    if values.report is not None:
        _check_report(values, source, target)


def _check_report(values: flags.FlagValues, source: str, target: str) -> None:
    """Stops at a report that would stand in a checkpoint, or in the place of its manifest."""
    from shared.checkpoint.publishing.siblings import beside

    report = os.path.realpath(values.report)
    for place in (source, target):
        if report == beside(place) or os.path.commonpath([report, place]) == place:
            raise UsageError(
                f"--report={values.report} is in a checkpoint, or in the place of its manifest; "
                f"choose another place"
            )


def renames_from_flags(values: flags.FlagValues) -> dict[str, str]:
    """{old name: new one} of --rename.

    Raises:
      UsageError: one is none, or is there twice.
    """
    found = {}
    for each in values.rename:
        old, _, new = each.partition("=")
        if not old or not new or old in found:
            raise UsageError(f"--rename={each}: expected OLD=NEW, each OLD once")
        found[old] = new
    return found

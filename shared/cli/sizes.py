"""The flags that pick a case and its sizes, and the case that they make."""

import dataclasses
import math

from absl import flags

from shared.cases import CASES, Case
from shared.cli.names import define_name
from shared.errors import InputError, UsageError

MAX_BYTES = 4 * 2**30
_FLOAT32_BYTES = 4


def define_case_flags(
    values: flags.FlagValues,
    num_layers: int = 4,
    features: int | None = None,
    batch_size: int | None = None,
) -> None:
    """--case, --num_layers, --features, --batch_size; None is the case's own size."""
    define_name("case", "shared", CASES, f"How the lifts compose: {', '.join(CASES)}.", values)
    flags.DEFINE_integer(
        "num_layers", num_layers, "Layers of the stack, N.", lower_bound=1, flag_values=values
    )
    own = "" if features else " Default: 8."
    flags.DEFINE_integer(
        "features", features, f"Width of every layer, F.{own}", lower_bound=1, flag_values=values
    )
    flags.DEFINE_integer(
        "batch_size", batch_size, f"Examples, B.{own}", lower_bound=0, flag_values=values
    )


def case_from_flags(values: flags.FlagValues) -> Case:
    """The case at the sizes that the flags give; a size not given is the case's own.

    Raises:
      UsageError: the params or the batch would not fit into memory.
    """
    given = {"num_layers": values.num_layers}
    given |= {
        name: values[name].value
        for name in ("features", "batch_size")
        if values[name].value is not None
    }
    return check_sizes(dataclasses.replace(CASES[values.case], **given))


def check_sizes(case: Case, source: str | None = None) -> Case:
    """`case`, unless its arrays are too large.

    Raises:
      UsageError: the params or the batch would take more than `MAX_BYTES`.
      InputError: the same, where the sizes are those of the data in `source`.
    """
    # A list of layers has each leaf of its row as often as it has layers.
    is_list = case.has_own_layers and not any("layers" in leaf.axes for leaf in case.leaves)
    params = sum(math.prod(case.shape(leaf)) for leaf in case.leaves) * _FLOAT32_BYTES
    params *= case.num_layers if is_list else 1
    batch = sum(math.prod(case.shape(row)) for row in case.inputs) * _FLOAT32_BYTES
    for what, size in (("params", params), ("batch", batch)):
        if size > MAX_BYTES:
            problem = (
                f"{case.num_layers} layers, {case.features} features, {case.batch_size} examples: "
                f"the {what} would take {size / 2**30:,.1f} GiB, the limit is "
                f"{MAX_BYTES / 2**30:g} GiB; choose smaller sizes"
            )
            raise InputError(f"{source}: {problem}") if source else UsageError(problem)
    return case

"""`composed-lifts compare`: two checkpoints, leaf by leaf, across layouts and formats."""

import json
import sys
from typing import TYPE_CHECKING

from absl import flags

from shared.cli.apart import apart
from shared.cli.convert import (
    check_map_flags,
    define_map_flags,
    options_from_flags,
    path_from_flags,
)
from shared.cli.exit_codes import guarded
from shared.cli.names import define_name
from shared.errors import printable

if TYPE_CHECKING:
    from shared.files import Writer

SUMMARY = "Compare two checkpoints, values too, across layouts and formats."


def define_flags(values: flags.FlagValues) -> None:
    for number in (1, 2):
        flags.DEFINE_string(
            f"ckpt_path_{number}",
            None,
            "A checkpoint, of either API and of any format that `convert` reads.",
            flag_values=values,
        )
        flags.DEFINE_integer(
            f"step_{number}",
            None,
            "Which step of a folder that holds several.",
            0,
            flag_values=values,
        )
    define_map_flags(values)
    for name, what in (("atol", "absolute"), ("rtol", "relative")):
        flags.DEFINE_float(
            name,
            None,
            f"The {what} distance of two numbers that is taken for close. Default: the same bits.",
            lower_bound=0,
            flag_values=values,
        )
    flags.DEFINE_string("report", None, "Where to write all leaves: FILE.json.", values)
    define_name("format", "text", ("text", "json"), "What is printed: text, json.", values)


def run(values: flags.FlagValues) -> int:
    for number in (1, 2):
        path_from_flags(values, f"ckpt_path_{number}")
    check_map_flags(values)

    from shared.files import Writer

    writer = None
    if values.report is not None:
        writer = Writer(values.report, writable=(".json",), flag="--report")
    return apart(
        lambda: guarded(lambda: _compare(values, writer), values.verbose),
        f"{values.ckpt_path_1} or {values.ckpt_path_2}",
    )


def _compare(values: flags.FlagValues, writer: "Writer | None") -> int:
    from shared.checkpoint.compare import compare
    from shared.checkpoint.comparison import Tolerance
    from shared.checkpoint.document import comparison_json
    from shared.cli.progress import bytes_bar
    from shared.report.comparison import print_comparison

    tolerance = None
    if values.atol is not None or values.rtol is not None:
        tolerance = Tolerance(values.atol or 0.0, values.rtol or 0.0)
    with bytes_bar("compare") as progress:
        comparison = compare(
            (values.ckpt_path_1, values.ckpt_path_2),
            options_from_flags(values).weights,
            tolerance,
            (values.step_1, values.step_2),
            progress,
        )
    document = comparison_json(comparison)
    for side in document["checkpoints"]:
        if not side["has_manifest"]:
            note = (
                f"{side['path']} has no manifest: whether its bytes are those written is not known"
            )
            print(f"composed-lifts: note: {printable(note)}", file=sys.stderr)
    text = json.dumps(document, allow_nan=False)
    if values.format == "json":
        print(text)
    else:
        print_comparison(document)
    if writer is not None:
        writer.write_text(text + "\n")
    return 0 if comparison.is_equal else 1

"""`composed-lifts convert`: a checkpoint of one API as one of the other, and back, without loss."""

import dataclasses
import json
import os
import sys
from typing import TYPE_CHECKING

from absl import flags

from shared.cli.apart import apart
from shared.cli.convert_checks import check_flags, renames_from_flags
from shared.cli.exit_codes import guarded
from shared.cli.names import define_name
from shared.errors import ComposedLiftsError, InputError, UsageError, printable

if TYPE_CHECKING:
    from shared.checkpoint.options import Options
    from shared.files import Writer
    from shared.models.pair import Pair

SUMMARY = "Rewrite a checkpoint from the layout of one API to that of the other."
FORMATS = ("orbax", "safetensors", "msgpack")
# What NumPy knows by no name of its own.
DTYPES = ("bfloat16", "float8_e4m3", "float8_e4m3fn", "float8_e5m2")


def define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "source_path",
        None,
        "The checkpoint to convert: a folder of Orbax, of a CheckpointManager or of "
        "flax.training.checkpoints, or a .msgpack, .safetensors or .npz file. It is not changed.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "target_path",
        None,
        "Where to write: nothing is there yet. As Orbax, a step of a CheckpointManager stays one.",
        flag_values=values,
    )
    define_name(
        "direction",
        "auto",
        ("auto", "linen_to_nnx", "nnx_to_linen"),
        "auto, by the tree of the checkpoint, linen_to_nnx, nnx_to_linen.",
        values,
    )
    define_map_flags(values)
    define_name(
        "layer_layout",
        "keep",
        ("keep", "stacked", "unstacked"),
        "Layers on the other side, without a pair: keep, stacked along an axis, unstacked.",
        values,
    )
    flags.DEFINE_integer(
        "param_scan_axis",
        None,
        "The axis of params along which layers are stacked. Default: 0, where that is certain.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "layers", "", "Which layers, where more could be meant: decoder/layers.", flag_values=values
    )
    define_name("format", "orbax", FORMATS, f"Of the target: {', '.join(FORMATS)}.", values)
    flags.DEFINE_integer(
        "step", None, "Which step of a folder that holds several.", 0, flag_values=values
    )
    define_name(
        "dtype",
        None,
        DTYPES,
        "Of the arrays in a .npz file whose dtype NumPy has lost: bfloat16. Nothing is cast.",
        values,
    )
    flags.DEFINE_list(
        "rename",
        [],
        "Other names for modules of the source: Dense_0=dense,encoder/Dense_0=encoder/out.",
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "allow_extra",
        False,
        "Carry params along that are in no entry of the pair's map, or of --weight_map.",
        flag_values=values,
    )
    flags.DEFINE_boolean("dry_run", False, "Show what would be written, and write nothing.", values)
    flags.DEFINE_boolean(
        "overwrite",
        False,
        "Replace a checkpoint at the target; the old one is kept beside it.",
        flag_values=values,
    )
    flags.DEFINE_string("report", None, "Where to write what was done: FILE.json.", values)


def define_map_flags(values: flags.FlagValues) -> None:
    """Flags that say which weight is which."""
    flags.DEFINE_string(
        "pair",
        None,
        "A shared.Pair, from which the weight map is found: FILE.py:NAME or package.module:NAME. "
        "The file is executed.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "weight_map",
        None,
        "A weight map that WeightMap.save has written: FILE.json. Default: a map by rule.",
        flag_values=values,
    )


def run(values: flags.FlagValues) -> int:
    source, target = path_from_flags(values, "source_path"), path_from_flags(values, "target_path")
    check_map_flags(values)
    check_flags(values, source, target)

    from shared.files import Writer

    writer = None
    if values.report is not None:
        writer = Writer(values.report, writable=(".json",), flag="--report")
    try:
        return apart(
            lambda: guarded(lambda: _convert(values, writer), values.verbose),
            f"--source_path={values.source_path}",
        )
    except ComposedLiftsError:  # the process was ended, and could not do it itself
        from shared.checkpoint.publishing.publish import clear

        clear(target)
        raise


def path_from_flags(values: flags.FlagValues, name: str) -> str:
    """The real path that a flag gives, which may not be left out."""
    if not values[name].value:
        raise UsageError(f"--{name}=PATH is missing")
    if "\0" in str(values[name].value):
        raise UsageError(f"--{name}={values[name].value}: no path has a NUL in it")
    return os.path.realpath(str(values[name].value))


def check_map_flags(values: flags.FlagValues) -> None:
    """Stops where both a pair and a map are given."""
    if values.pair is not None and values.weight_map is not None:
        raise UsageError("give one of --pair=FILE.py:NAME and --weight_map=FILE.json")


def options_from_flags(values: flags.FlagValues) -> "Options":
    """What --pair or --weight_map tells of a conversion, nothing without."""
    from shared.checkpoint.options import Options

    if values.weight_map is not None:
        from shared.weights.weight_map import WeightMap

        if not os.path.isfile(values.weight_map):
            raise UsageError(f"--weight_map={values.weight_map}: there is no such file")
        return Options(weights=WeightMap.load(values.weight_map))
    if values.pair is None:
        return Options()
    from shared.cli.pair_file import load_pair, users_code
    from shared.cli.start import check_jax

    check_jax()
    pair = load_pair(values.pair)
    with users_code(f"--pair={values.pair}"):
        return options_of_pair(pair)


def options_of_pair(pair: "Pair") -> "Options":
    """What a pair tells of a conversion; both models are traced.

    Raises:
      InputError: a weight has no counterpart, or the pair's inputs, optimizer or state do not fit.
    """
    from shared.checkpoint.planning.of_pair import options_of
    from shared.models.pure_pair import pure_pair
    from shared.report.result import DifferentError
    from shared.verification.pipeline import find_weight_map

    pure = pure_pair(pair)
    try:
        weights = find_weight_map(pure)
    except DifferentError as error:
        raise InputError(
            f"the models of the pair differ: {error}; `composed-lifts verify` shows where"
        ) from error
    return options_of(pair, pure, weights)


def _convert(values: flags.FlagValues, writer: "Writer | None") -> int:
    from shared.checkpoint.convert import planned
    from shared.checkpoint.document import conversion_json
    from shared.cli.carried import convert
    from shared.cli.progress import bytes_bar
    from shared.report.conversion import print_conversion

    options = _options(values)
    if values.dry_run:
        conversion = planned(values.source_path, options)
    else:
        with bytes_bar("convert") as progress:
            conversion = convert(values.source_path, values.target_path, options, _note, progress)
    document = conversion_json(conversion, values.target_path)
    print_conversion(document)
    if writer is not None:
        writer.write_text(json.dumps(document, allow_nan=False) + "\n")
    return 0


def _options(values: flags.FlagValues) -> "Options":
    from shared.checkpoint.tree.layers import Layout

    return dataclasses.replace(
        options_from_flags(values),
        direction=values.direction,
        layout=Layout(values.layer_layout, values.param_scan_axis, values.layers),
        format=values.format,
        step=values.step,
        dtype=values.dtype or "",
        rename=renames_from_flags(values),
        allow_extra=values.allow_extra,
        overwrite=values.overwrite,
    )


def _note(message: str) -> None:
    print(f"composed-lifts: note: {printable(message)}", file=sys.stderr)

"""`composed-lifts forward`: one implementation on a file or on a seeded batch."""

import dataclasses
import sys
from functools import partial
from typing import TYPE_CHECKING

from absl import flags

from shared.cases import BATCH, Case
from shared.cli.names import define_name
from shared.cli.sizes import case_from_flags, check_sizes, define_case_flags
from shared.cli.start import check_jax
from shared.errors import UsageError, printable
from shared.interface import IMPLEMENTATIONS, INITS

if TYPE_CHECKING:
    from shared.batch import Batch
    from shared.interface import Implementation, Init, Variables

SUMMARY = "Run one implementation on --input=FILE or on a seeded batch."
MAX_SEED = 2**32 - 1


def define_flags(values: flags.FlagValues) -> None:
    define_name("impl", None, IMPLEMENTATIONS, "Which implementation runs: linen, nnx.", values)
    define_case_flags(values)
    flags.DEFINE_integer(
        "seed",
        0,
        "Seed of the params, and of the batch where no --input is given.",
        lower_bound=0,
        upper_bound=MAX_SEED,
        flag_values=values,
    )
    define_name(
        "init",
        "linen",
        INITS,
        "Whose initial numbers: linen's, or the implementation's native ones.",
        values,
    )
    flags.DEFINE_string(
        "input",
        None,
        "The batch (B, F): FILE.npy, FILE.csv, FILE.npz or FILE.npz:key; B and F follow from it.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "output",
        None,
        "Where to write the activation (B, F): FILE.npy or FILE.csv.",
        flag_values=values,
    )
    define_name("format", "text", ("text", "json"), "What is printed: text, json.", values)


def run(values: flags.FlagValues) -> int:
    if values.impl is None:
        raise UsageError("--impl is missing; choose --impl=linen or --impl=nnx")
    case, batch = _case_and_batch(values)

    from shared.files import Writer

    writer = None if values.output is None else Writer(values.output, source=values.input)
    for note in batch.notes:
        _note(note)

    import jax
    import numpy as np

    check_jax()
    from shared.batch import seeded_inputs
    from shared.interface import activation_of, load_implementation
    from shared.report.document import print_json
    from shared.report.forward import ForwardReport
    from shared.report.params import params_rows

    implementation = load_implementation(values.impl)
    variables = _init(implementation, case, values.seed, values.init)
    inputs = seeded_inputs(case, values.seed, batch.x)
    apply = jax.jit(lambda variables, inputs: implementation.apply(case, variables, *inputs))
    outputs, _ = apply(variables, inputs)
    activation = np.asarray(activation_of(outputs))
    report = ForwardReport(
        impl=values.impl,
        case=case,
        seed=values.seed,
        init=values.init,
        batch=batch,
        params=params_rows(case, variables),
        activation=activation,
    )
    if writer:
        writer.write(activation)
    if values.format == "json":
        print_json(report.to_json())
    else:
        report.print_text(written_to=values.output)
    return 0


def _case_and_batch(values: flags.FlagValues) -> tuple[Case, "Batch"]:
    from shared.batch import check_batch, seeded_batch

    case = case_from_flags(values)
    if values.input is None:
        return case, seeded_batch(case, values.seed)

    if case.inputs[0] != BATCH:
        axes = ", ".join(case.inputs[0].axes)
        raise UsageError(
            f"--input holds a batch of features, but case {case.name!r} takes "
            f"{case.inputs[0].name} ({axes}); leave --input out"
        )
    from shared.files import read_array

    batch = check_batch(read_array(values.input), features=values.features)
    batch_size, features = batch.x.shape
    if values.batch_size not in (None, batch_size):
        raise UsageError(
            f"--batch_size={values.batch_size}, but {values.input} holds {batch_size} examples; "
            f"leave --batch_size out, it follows from the data"
        )
    case = dataclasses.replace(case, batch_size=batch_size, features=features)
    return check_sizes(case, source=values.input), batch


def _note(text: str) -> None:
    print(f"composed-lifts: note: {printable(text)}", file=sys.stderr)


def _init(implementation: "Implementation", case: Case, seed: int, init: "Init") -> "Variables":
    """The variables of `case`, or those that fit it where its own init fails, and a note on it."""
    if case.params_of is not None:
        _note(
            f"case {case.name!r}: init fails with {init_error(implementation, case)}; "
            f"apply runs on the params of {case.params_of!r}"
        )
    return implementation.init(case.params_case, seed, init)


def init_error(implementation: "Implementation", case: Case) -> str:
    """What init of a case that cannot be initialised raises, in one line."""
    import jax

    try:
        jax.eval_shape(partial(implementation.init, case, seed=0))
    except ValueError as error:
        return f"ValueError: {' '.join(str(error).split())}"
    raise AssertionError(f"case {case.name!r} was initialised, its row in CASES says it cannot be")

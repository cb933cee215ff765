"""`composed-lifts train`: the transformer of CASES, trained with one implementation."""

import dataclasses
import math
import time
from typing import TYPE_CHECKING, Any

from absl import flags

from shared.cli.checkpointing import define_checkpoint_flags, keeping
from shared.cli.mesh import check_devices, check_heads, define_mesh_flag, mesh_sizes
from shared.cli.names import define_name
from shared.cli.processes import (
    Processes,
    check_same,
    connect,
    define_process_flags,
    in_worker,
    processes_from_flags,
)
from shared.errors import UsageError
from shared.interface import IMPLEMENTATIONS

if TYPE_CHECKING:
    from shared.cli.checkpointing import Kept
    from shared.report.trained import Trained
    from shared.report.training import Lines
    from shared.training.config import Config
    from shared.training.text import Text

SUMMARY = "Train a transformer with one implementation."
MAX_SEED = 2**32 - 1
# How often the validation text is read in a run.
VALIDATIONS = 10
SAMPLES = 3
GIVEN = 16
WRITABLE = (".png", ".json")

_COUNTS = {
    "steps": (1000, "How many steps; the learning rate of each depends on it."),
    "batch_size": (16, "Windows of text in a step."),
    "length": (64, "Characters of a window."),
    "num_layers": (2, "Layers of the stack, N."),
    "features": (128, "Width of every layer, F: a multiple of its 4 heads."),
}


def define_flags(values: flags.FlagValues) -> None:
    define_name("impl", None, IMPLEMENTATIONS, "Which implementation trains: linen, nnx.", values)
    for name, (default, text) in _COUNTS.items():
        flags.DEFINE_integer(name, default, text, lower_bound=1, flag_values=values)
    flags.DEFINE_integer(
        "seed",
        0,
        "Seed of the params, of dropout and of the order of the text.",
        lower_bound=0,
        upper_bound=MAX_SEED,
        flag_values=values,
    )
    flags.DEFINE_float(
        "learning_rate", 5e-3, "The highest learning rate of the run.", flag_values=values
    )
    flags.DEFINE_string(
        "text",
        None,
        "A text file in UTF-8 to train on. Default: the documentation that comes with Python.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "report",
        None,
        "Where to write the losses as well: FILE.png or FILE.json.",
        flag_values=values,
    )
    define_name(
        "format", "text", ("text", "json"), "What is printed: text, json: a line a step.", values
    )
    define_checkpoint_flags(values)
    define_mesh_flag(values)
    define_process_flags(values)


def run(values: flags.FlagValues) -> int:
    if values.impl is None and not values.resume:
        raise UsageError("--impl is missing; choose --impl=linen or --impl=nnx")
    processes = processes_from_flags(values)
    if processes is None:
        with keeping(values) as kept:
            return _run(values, None, kept)
    for name in ("checkpoint_dir", "checkpoint_every", "resume"):
        if values[name].present:
            raise UsageError(
                f"--{name} with --num_processes: a run in several processes is not saved; leave "
                f"one of them out"
            )
    return in_worker(lambda: _run(values, processes, None), processes, values.verbose)


def _run(values: flags.FlagValues, processes: Processes | None, kept: "Kept | None") -> int:
    sizes = mesh_sizes(values)

    from shared.files import Writer

    # All processes compute, the first one tells.
    is_first = processes is None or processes.process_id == 0
    writer = None
    if values.report is not None and is_first:
        writer = Writer(values.report, writable=WRITABLE, flag="--report")

    from shared.training.text import read_text, tokens_of, topics

    text = tokens_of(topics() if values.text is None else read_text(values.text), values.length)

    from shared.cli.start import check_jax

    if processes is None:
        check_jax()
    config = _config(values, text)
    if kept:
        kept.check(values, config, text)
    if sizes is not None:
        check_heads(sizes, config)
    if processes is not None:
        # Before the first look for devices, and after all that may be wrong in one process alone.
        connect(processes)
        check_jax()
        told = repr((values.impl, config, sizes)).encode()
        check_same(told, text.characters.encode(), text.train.data, text.validation.data)
    if sizes is not None:
        check_devices(sizes)

    from shared.report.training import LINES, NoLines, write_training

    lines = LINES[values.format]() if is_first else NoLines()
    found = _train(values.impl, values.text, config, text, lines, sizes, kept)
    lines.end(found)
    if writer:
        write_training(found, writer)
    return 0


def _config(values: flags.FlagValues, text: "Text") -> "Config":
    from shared.cli.sizes import check_sizes
    from shared.training.config import Config

    names = [field.name for field in dataclasses.fields(Config) if field.name in values]
    given: dict[str, Any] = {name: values[name].value for name in names}
    config = Config(**given)
    if not 0 < config.learning_rate < math.inf:
        raise UsageError(f"--learning_rate={config.learning_rate}: expected a number above 0")
    if config.features % config.num_heads:
        raise UsageError(
            f"--features={config.features}: expected a multiple of {config.num_heads}, for there "
            f"are {config.num_heads} heads"
        )
    check_sizes(config.case(len(text.characters)))
    return config


def _train(
    impl: str,
    path: str | None,
    config: "Config",
    text: "Text",
    lines: "Lines",
    sizes: dict[str, int] | None,
    kept: "Kept | None",
) -> "Trained":
    """The run, told to `lines` as it goes on."""
    import jax

    from shared.cli.progress import training_bar
    from shared.cli.stopping import stopping
    from shared.report.trained import Trained
    from shared.training.mesh import make_mesh, on_mesh
    from shared.training.ngrams import ngram_losses
    from shared.training.run import first_state, num_params, steps, validation_loss
    from shared.training.trainer import load_trainer

    trainer = load_trainer(impl)
    if sizes is None:
        first = first_state(trainer, config, text)
    else:
        trainer, first = on_mesh(trainer, config, text, make_mesh(sizes))
    found = Trained(
        impl,
        dataclasses.asdict(config),
        path or "the documentation of Python",
        {
            "different": len(text.characters),
            "train": len(text.train),
            "validation": len(text.validation),
        },
        num_params(trainer, first),
        ngram_losses(text),
        sizes,
        jax.process_count(),
    )
    if kept:
        first = kept.first(trainer, first, found)
    lines.start(found)
    state, done = first, max(found.losses, default=0)
    every = max(1, config.steps // VALIDATIONS)
    is_first = jax.process_index() == 0
    with training_bar(config.steps, shown=is_first) as progress, stopping() as stop:
        start = time.perf_counter() - found.seconds
        for number, state, loss in steps(trainer, first, config, text, done):
            found.losses[number] = float(loss)
            found.seconds = time.perf_counter() - start
            if number % every == 0 or number == config.steps:
                found.validation[number] = validation_loss(trainer, state, config, text)
                start += time.perf_counter() - start - found.seconds
            lines.step(found, number)
            progress(number, found)
            stopped = bool(stop)
            if kept:
                kept.after(number, trainer, state, found, stopped)
            if stopped:
                break
        where = f"after step {max(found.losses, default=0)}"
        stop.check(f"{where}, {kept.saved}" if kept else where)
    params = trainer.params_of(state)  # all processes have to ask for them
    if is_first:
        found.samples = _samples(impl, params, config, text)
    return found


def _samples(
    impl: str, params: dict[str, Any], config: "Config", text: "Text"
) -> list[tuple[str, str]]:
    """The beginning of a few windows of the validation text, and what the model writes next."""
    import numpy as np

    from shared.interface import load_implementation
    from shared.training.sample import sample
    from shared.training.text import batch, text_of

    given = min(GIVEN, config.length - 1)
    prompts = batch(text.validation, config.seed, config.steps, SAMPLES, config.length)[:, :given]
    written = sample(
        load_implementation(impl),
        config.case(len(text.characters)),
        params,
        prompts,
        config.seed,
    )
    return [
        (text_of(text, each[:given]), text_of(text, each[given:])) for each in np.asarray(written)
    ]

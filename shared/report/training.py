"""A run of training in a terminal, as lines of JSON, and as a picture."""

import json
import sys
from typing import Any, Protocol

import numpy as np
from rich.console import Console

from shared.errors import printable
from shared.files import Writer
from shared.report.document import SCHEMA_VERSION, versions
from shared.report.params import print_line, print_title, terminal
from shared.report.plot import COLORS, check_matplotlib, new_figure, saved
from shared.report.sparklines import sparklines
from shared.report.trained import Trained

UNIT = "nats a character"


class Lines(Protocol):
    """What is printed of a run, as it goes on."""

    def start(self, run: Trained) -> None: ...

    def step(self, run: Trained, number: int) -> None: ...

    def end(self, run: Trained) -> None: ...


class NoLines:
    """What all processes of a run print but the first."""

    def start(self, run: Trained) -> None: ...

    def step(self, run: Trained, number: int) -> None: ...

    def end(self, run: Trained) -> None: ...


class TextLines:
    """What a person reads: what is trained, a line for each validation, what came of it."""

    def start(self, run: Trained) -> None:
        config, text = run.config, run.num_characters
        print_title(terminal(), f"{run.impl}  case transformer  seed {config['seed']}")
        _line(
            "text ",
            f"{run.source}: {text['train']:,} characters to train, {text['validation']:,} to "
            f"validate, {text['different']} different",
        )
        _line(
            "model",
            f"{config['num_layers']} layers of {config['features']} features, {run.num_params:,} "
            f"params; {config['batch_size']} windows of {config['length']} characters a step",
        )
        if run.mesh:
            axes = ", ".join(f"{axis} {size}" for axis, size in run.mesh.items())
            _line("mesh ", f"{axes}; processes {run.num_processes}")
        if run.losses:
            _line("steps", _remaining(run))
        _line("loss ", f"{UNIT}; by counting: {_counted(run)}")

    def step(self, run: Trained, number: int) -> None:
        if number in run.validation:
            loss = np.float32(run.losses[number])  # all its digits, to be compared
            validation = run.validation[number]
            print(f"step {number:>6}  loss {loss!s:<11}  validation {validation:.6f}", flush=True)

    def end(self, run: Trained) -> None:
        console = terminal()
        if run.losses:
            _curve(console, run)
        for given, written in run.samples:
            _line("text ", f"{printable(given)} > {printable(written)}")
        if run.validation:
            last = run.validation[max(run.validation)]
            _line("loss ", f"validation {last:.4f} {UNIT}; by counting: {_counted(run)}")
        if run.losses and run.seconds:
            made = len(run.losses) * run.tokens_per_step
            _line("time ", f"{run.seconds:.1f} s, {made / run.seconds:,.0f} characters a second")


class JsonLines:
    """What a program reads: a document a line, each with its `event`."""

    def start(self, run: Trained) -> None:
        _print(
            "start",
            schema_version=SCHEMA_VERSION,
            command="train",
            impl=run.impl,
            config=dict(run.config),
            source=run.source,
            num_characters=dict(run.num_characters),
            num_params=run.num_params,
            counted=dict(run.counted),
            done=max(run.losses, default=0),
            mesh=run.mesh and dict(run.mesh),
            num_processes=run.num_processes,
            versions=versions(),
        )

    def step(self, run: Trained, number: int) -> None:
        validation = {}
        if number in run.validation:
            validation = {"validation": _number(run.validation[number])}
        loss, seconds = _number(run.losses[number]), round(run.seconds, 6)
        _print("step", step=number, loss=loss, seconds=seconds, **validation)

    def end(self, run: Trained) -> None:
        samples = [{"given": given, "written": written} for given, written in run.samples]
        _print("end", step=max(run.losses, default=0), seconds=run.seconds, samples=samples)


LINES: dict[str, type[Lines]] = {"text": TextLines, "json": JsonLines}


def write_training(run: Trained, writer: Writer) -> None:
    """The run as a file: a picture of its losses, or JSON."""
    if writer.suffix == ".json":
        writer.write_text(json.dumps(training_json(run), allow_nan=False) + "\n")
        return
    check_matplotlib(f"{writer.flag}={writer.shown}")
    writer.write_bytes(plot_training(run))


def training_json(run: Trained) -> dict[str, Any]:
    """The whole run in one document."""
    return {
        "schema_version": SCHEMA_VERSION,
        "command": "train",
        "impl": run.impl,
        "config": dict(run.config),
        "source": run.source,
        "num_characters": dict(run.num_characters),
        "num_params": run.num_params,
        "counted": dict(run.counted),
        "mesh": run.mesh and dict(run.mesh),
        "num_processes": run.num_processes,
        "losses": {str(step): _number(loss) for step, loss in run.losses.items()},
        "validation": {str(step): _number(loss) for step, loss in run.validation.items()},
        "seconds": run.seconds,
        "samples": [{"given": given, "written": written} for given, written in run.samples],
        "versions": versions(),
    }


def plot_training(run: Trained) -> bytes:
    """The losses of a run by steps, beside those of counting, as a PNG."""
    figure = new_figure(9, 4.5)
    axes = figure.subplots()
    axes.plot(list(run.losses), list(run.losses.values()), lw=0.8, color="#9db7e0", label="a step")
    axes.plot(
        list(run.validation),
        list(run.validation.values()),
        "o-",
        ms=3,
        color=COLORS[0],
        label="validation",
    )
    for color, (name, loss) in zip(COLORS[1:], run.counted.items(), strict=False):
        axes.axhline(loss, color=color, lw=1, ls="--", label=f"{name}, counted")
    axes.set_xlabel("step")
    axes.set_ylabel(f"loss, {UNIT}")
    axes.grid(color="#8883")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    axes.set_title(f"train --impl={run.impl}: {printable(run.source)}", loc="left")
    return saved(figure, "png")


def _curve(console: Console, run: Trained) -> None:
    losses = np.array(list(run.losses.values()))[:, None]
    for line in sparklines(losses, ["loss"], console.width - 6, console.encoding, "step"):
        print_line(console, "     ", line)


def _remaining(run: Trained) -> str:
    done, steps = max(run.losses), run.config["steps"]
    return f"{done} of {steps} are made: {steps - done or 'none'} to go"


def _counted(run: Trained) -> str:
    return ", ".join(f"{name} {loss:.4f}" for name, loss in run.counted.items())


def _line(label: str, text: str) -> None:
    print_line(terminal(), label, text)


def _print(event: str, **document: Any) -> None:
    print(json.dumps({"event": event, **document}, allow_nan=False))
    sys.stdout.flush()


def _number(value: float) -> float | str:
    """JSON has no NaN."""
    return float(value) if np.isfinite(value) else str(float(value))

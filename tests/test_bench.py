"""`bench` measures what is equal as equal, and says which program does more, and what.

No test asserts a time.
"""

import dataclasses
import functools
import gc
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from helpers import assert_identical

from shared import Pair, find_weight_map
from shared.bench import pipeline, timing
from shared.bench import rows as rows_of_tables
from shared.bench.advice import advice
from shared.bench.first_result import first_results
from shared.bench.pipeline import OWN_STATE, Budget, bench
from shared.bench.rows import training_rows
from shared.bench.train_step import train_step_rows
from shared.cases import CASES
from shared.cli import main
from shared.errors import InputError
from shared.files import Writer
from shared.models.forms import FORMS
from shared.models.pure_pair import pure_case
from shared.models.subject import SEED, subject_of_case, subject_of_pair, training_step
from shared.report import plot
from shared.report.bench import write_bench
from shared.report.measured import Benchmark, Quantity, Ratio
from shared.report.plot import plot_bench
from shared.training.config import Config, optimizer

pytestmark = pytest.mark.xdist_group("bench")

ROOT = Path(__file__).parent.parent
SHORTEST = Budget(seconds=0, times=1, processes=0, training=False)
ADVISED = ("split, flat leaves", "nnx.jit")
X = (jax.ShapeDtypeStruct((256, 64), "float32"),)


@pytest.fixture(autouse=True)
def _no_more_than_needed(monkeypatch):
    """Two rounds, warm, and of the forms those that the advice is made of: each is compiled."""
    monkeypatch.setattr(timing, "MOST", 2)
    monkeypatch.setattr(timing, "SHORTEST", 0)
    monkeypatch.setattr(jax, "clear_caches", lambda: None)
    monkeypatch.setattr(gc, "collect", lambda: None)  # of all that earlier tests have left
    monkeypatch.setattr(pipeline, "QUICK", SHORTEST)
    monkeypatch.setattr(rows_of_tables, "FORMS", {name: FORMS[name] for name in ADVISED})


def small_case(name):
    return dataclasses.replace(CASES[name], num_layers=3, features=5, batch_size=4)


def small(name):
    return subject_of_case(small_case(name))


@functools.cache
def of_the_exercise():
    """Measured once for all tests that look at it, or print it: they are in one process."""
    case = small_case("shared")
    return bench(subject_of_case(case), SHORTEST, names=names_of(pure_case(case)))


@functools.cache
def measured(name):
    """A case is measured once."""
    return of_the_exercise() if name == "shared" else bench(small(name), SHORTEST)


def said(found):
    """What is said of the programs, without the form to use and the noise."""
    of_this_run = ("use ", "two equal programs", OWN_STATE)
    lines = [line for line in found.advice if not line.startswith(of_this_run)]
    return [line for line in lines if " times as long as Linen (" not in line]


# One that changes nothing, with statistics, a cache, keys, no gradient, and many leaves.
@pytest.mark.quick("shared")
@pytest.mark.parametrize(
    "name", ["shared", "batch_norm", "decode", "dropout", "while_loop", "layer_list"]
)
def test_a_case_is_measured_and_its_programs_take_the_same(name):
    found = measured(name)
    columns = {"linen", "nnx", "jax"}
    rows = {row.name: row for row in found.implementations}
    assert rows["forward"].values.keys() == columns
    assert ("value and gradient" in rows) == (CASES[name].no_gradient is None)
    lines = [line for line in said(found) if not line.startswith("a call of NNX")]
    assert lines == ([] if CASES[name].no_gradient is None else [lines[0]])
    assert tuple(found.forms[0].values) == ADVISED
    assert all(np.isfinite(value) for row in found.implementations for value in row.values.values())


@pytest.mark.quick("batch_norm")
@pytest.mark.parametrize("name", ["shared", "batch_norm"])
def test_all_forms_return_the_same_and_are_traced_once(name):
    subject, traces = small(name), []

    def counted(module, *inputs):
        traces.append(1)
        return subject.nnx_call(module, *inputs)

    expected = subject.nnx_call(subject.nnx_init(SEED), *subject.inputs)
    for form in FORMS.values():
        call = form(subject.nnx_init(SEED), counted)
        traces.clear()
        for _ in range(3):
            outputs = call(*subject.inputs)
            outputs = outputs[0] if isinstance(outputs, tuple) else outputs
            np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
        assert len(traces) == 1


@pytest.mark.thorough
def test_a_training_step_is_the_same_step_of_all_and_writes_over_its_weights():
    subject = small("batch_norm")
    runners = pipeline.runners_of(subject)
    names = names_of(pure_case(subject.case))
    moved, started = {}, {}
    for column, runner in runners.items():
        value, held = jax.jit(training_step(runner))(runner.held, *subject.inputs)
        leaves = [names.get(name, name) for name in runner.names]
        moved[column] = {"": value, **dict(zip(leaves, jax.tree.leaves(held), strict=True))}
        started[column] = dict(zip(leaves, jax.tree.leaves(runner.held), strict=True))
    assert_identical(moved["linen"], moved["jax"])
    assert moved["nnx"].keys() == moved["linen"].keys()
    # Of another seed's draws: what is compared is which leaves a step changes.
    for column in runners:
        changed = {name for name, x in started[column].items() if (x != moved[column][name]).any()}
        assert changed
        assert all(name.startswith("params/") for name in changed)
    found = {row.name: row for row in training_rows(runners, subject.inputs, 0, 1)}
    assert found["training step"].values.keys() == runners.keys()
    assert len(set(found["training step: temp bytes"].values.values())) == 1
    donated = jax.jit(training_step(runners["nnx"]), donate_argnums=0)
    held = jax.tree.map(jnp.copy, runners["nnx"].held)
    donated(held, *subject.inputs)
    assert all(leaf.is_deleted() for leaf in held)


def shaped(x):
    """Much to keep for a gradient, and little to keep it of."""
    for _ in range(8):
        x = jnp.sin(x)
    return x


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return shaped(nn.Dense(64)(x)), None


Model = nn.scan(
    nn.remat(Block, prevent_cse=False),
    variable_axes={"params": 0},
    split_rngs={"params": True},
    length=3,
)


class PortBlock(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(64, 64, rngs=rngs)

    def __call__(self, x):
        return shaped(self.dense(x))


def scanned(layer):
    return nnx.scan(layer, in_axes=(0, nnx.Carry), out_axes=nnx.Carry, graph=False)


class Port(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.vmap(PortBlock, graph=False)(rngs.split(3))

    layer = nnx.remat(PortBlock.__call__, prevent_cse=False, graph=False)
    run = staticmethod(scanned(layer))

    def __call__(self, x):
        return self.run(self.layers, x)


class WithoutRemat(Port):
    run = staticmethod(scanned(PortBlock.__call__))


class MakesItsLift(Port):
    def __call__(self, x):
        return scanned(Port.layer)(self.layers, x)


class ReturnsItsState(Port):
    def __call__(self, x):
        return super().__call__(x), nnx.to_pure_dict(nnx.state(self))


KEPT = Port(nnx.Rngs(0))


class HasConstants(Port):
    def __call__(self, x):
        return KEPT(x)


def pair(port):
    return Pair(Model(), port, X, linen_call=lambda model, x: model(x, None)[0])


@pytest.mark.quick("without remat")
@pytest.mark.parametrize(
    ("port", "words"),
    [
        (WithoutRemat, "value and gradient: the program of NNX needs"),
        (ReturnsItsState, "forward: the program of NNX returns"),
        (HasConstants, "forward: the program of NNX has"),
        (MakesItsLift, "a call of NNX that is not jitted compiles 1 program"),
    ],
    ids=["without remat", "returns its state", "has constants", "makes its lift"],
)
def test_a_planted_slowdown_is_named(port, words):
    found = bench(subject_of_pair("pair", pair(port)), SHORTEST)
    assert [line for line in said(found) if line.startswith(words)]


def test_a_right_port_is_not_accused():
    assert said(bench(subject_of_pair("pair", pair(Port)), SHORTEST)) == []


def names_of(pair):
    rows = find_weight_map(pair).rows()
    return {row["nnx"]: row["linen"] for row in rows if row["transform"] == "identity"}


def test_twins_and_plain_jax_are_one_program():
    both = {"nnx": True, "jax": True}
    assert of_the_exercise().same_program == {"forward": both, "value and gradient": both}


@pytest.mark.thorough
def test_a_lost_remat_is_another_program_of_the_gradient_alone():
    given = pair(WithoutRemat)
    found = bench(subject_of_pair("pair", given), SHORTEST, names=names_of(given))
    assert found.same_program["forward"] == {"nnx": True}
    assert found.same_program["value and gradient"] == {"nnx": False}


@pytest.mark.parametrize(("spread", "words"), [(0.5, "this machine is too noisy now"), (0.1, "")])
def test_noise_is_said(spread, words):
    both = dict.fromkeys(ADVISED, 1e-3)
    ratios = dict.fromkeys(ADVISED, Ratio(1.0, 1 - spread, 1 + spread))
    forms = [Quantity(name, "s", both, ratios) for name in ("forward", "dispatch alone")]
    lines = list(advice([], forms, 2, 100, ratios["nnx.jit"]))
    assert words in lines[-1]
    assert len(lines) == 1 + bool(words)


def test_the_host_time_of_a_leaf_is_what_is_beyond_a_call_without_any():
    runners = pipeline.runners_of(small("layer_list"))
    timed = {name: [7e-6, 8e-6, 9e-6] for name in runners}
    row = rows_of_tables.each_leaf_row(runners, timed, [2e-6])
    assert {name: round(value * 1e9) for name, value in row.values.items()} == dict.fromkeys(
        runners, 1000
    )


def test_more_work_and_a_slower_call_are_said():
    steady, slow = Ratio(1.0, 0.98, 1.02), Ratio(2.0, 1.9, 2.1)
    both = dict.fromkeys(ADVISED, steady)
    forms = [
        Quantity(name, "s", dict.fromkeys(ADVISED, 1e-3), both)
        for name in ("forward", "dispatch alone")
    ]

    def lines(operations, forward):
        rows = [
            Quantity("forward: argument bytes", "bytes", {"linen": 1, "nnx": 1}, {}),
            Quantity("forward: operations", "flops", {}, {"nnx": operations}),
            Quantity("forward", "s", {}, {"nnx": forward}),
        ]
        return list(advice(rows, forms, 2, 100, steady))[:-1]

    assert lines(steady, steady) == []
    (line,) = lines(slow, steady)
    assert line.startswith("forward: the program of NNX has 2.00 times the operations of Linen's")
    (line,) = lines(steady, slow)
    assert line.startswith("forward: NNX takes 2.00 times as long as Linen (1.90 to 2.10)")


@pytest.mark.thorough
def test_a_module_with_state_of_its_own_is_told_who_keeps_it():
    assert OWN_STATE in measured("batch_norm").advice
    assert OWN_STATE not in bench(small("reversed"), SHORTEST).advice


@pytest.mark.quick("measured before")
@pytest.mark.parametrize("is_measured", [True, False], ids=["measured before", "measured now"])
def test_the_command_prints_both_tables_and_writes_the_report(
    is_measured, capsys, tmp_path, monkeypatch
):
    if is_measured:
        monkeypatch.setattr(pipeline, "bench", lambda *_: of_the_exercise())
    words = ["--quick", "--num_layers=2", "--features=3", "--batch_size=2"]
    assert main(["bench", *words, f"--report={tmp_path / 'out.html'}"]) == 0
    printed = capsys.readouterr().out
    assert "bench  shared" in printed
    assert "use 'split, flat leaves'" in " ".join(printed.split())
    assert "<table>" in (tmp_path / "out.html").read_text()


@pytest.fixture
def _measured(monkeypatch):
    """What the command does with what was measured."""
    monkeypatch.setattr(pipeline, "bench", lambda *_: of_the_exercise())


@pytest.mark.usefixtures("_measured")
def test_the_document(capsys):
    assert main(["bench", "--quick", "--format=json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["command"] == "bench"
    assert found["num_leaves"] == 2
    assert {row["name"] for row in found["forms"]} >= {"forward", "dispatch alone"}


@pytest.mark.parametrize(
    ("words", "expected", "code"),
    [
        (["--case=confused"], "--case=confused cannot be initialised", 2),
        (["--pair=port.py:PAIR", "--features=4"], "--features is of a case", 2),
        (["--report=out.txt"], "expected a name ending in .html or .png or .json", 2),
        (["--pair=none.py:PAIR"], "none.py does not exist", 3),
        (["--features=100000"], "the params would take", 2),
        (["--batch_size=0"], "leaves nothing to time", 2),
        (["--report="], "expected a name ending in .html or .png or .json", 2),
    ],
)
def test_a_users_mistake_is_one_line(capsys, words, expected, code):
    assert main(["bench", *words]) == code
    printed = capsys.readouterr().err
    assert expected in printed
    assert printed.count("\n") == 1


class Odd(nnx.Module):
    """A port of which one thing is odd: its weights, what it does with them, or its gradient."""

    def __init__(self, oddity, rngs):
        self.dense = nnx.data(None) if oddity == "no params" else nnx.Linear(64, 64, rngs=rngs)
        self.oddity = oddity
        if oddity == "large":
            self.large = nnx.Param(jnp.zeros((2**20, 2**20)))

    def __call__(self, x):
        if self.oddity == "no params":
            return jnp.sin(x)
        if self.oddity == "grows":
            self.seen = nnx.Cache(x)
        x = self.dense(x)
        if self.oddity == "no gradient":
            x = jax.lax.while_loop(lambda x: x.sum() < 0, lambda x: x + 1, x)
        return x


class Sine(nn.Module):
    @nn.compact
    def __call__(self, x):
        return jnp.sin(x)


@pytest.mark.quick("grows-'nnx.cached_partial' cannot call this module: The graph structure")
@pytest.mark.parametrize(
    ("oddity", "words"),
    [
        ("no params", "no gradient: the model has no params"),
        ("no gradient", "no gradient: Reverse-mode differentiation does not work"),
        ("grows", "'nnx.cached_partial' cannot call this module: The graph structure"),
    ],
)
def test_what_cannot_be_measured_is_said_and_the_rest_is_measured(oddity, words, monkeypatch):
    forms = (*ADVISED, "nnx.cached_partial")
    monkeypatch.setattr(rows_of_tables, "FORMS", {name: FORMS[name] for name in forms})
    model = Sine() if oddity == "no params" else nn.Dense(64)
    given = Pair(model, lambda rngs: Odd(oddity, rngs), X)
    found = bench(subject_of_pair("pair", given), SHORTEST)
    assert [line for line in found.advice if line.startswith(words)]
    assert {row.name: row for row in found.implementations}["forward"].values.keys() == {
        "linen",
        "nnx",
    }
    left_out = {"nnx.cached_partial"} if oddity == "grows" else set()
    assert set(forms) - found.forms[0].values.keys() == left_out


@pytest.mark.thorough
def test_a_pair_without_a_map_is_measured_and_its_programs_are_not_compared(capsys, tmp_path):
    path = tmp_path / "port.py"
    path.write_text(
        "import jax\nfrom flax import linen as nn, nnx\nfrom shared import Pair\n"
        "class Port(nnx.Module):\n"
        "    def __init__(self, rngs):\n        self.a = nnx.Linear(4, 5, rngs=rngs)\n"
        "    def __call__(self, x):\n        return self.a(x)\n"
        "PAIR = Pair(nn.Dense(6), Port, (jax.ShapeDtypeStruct((2, 4), 'float32'),))\n"
    )
    assert main(["bench", "--quick", f"--pair={path}:PAIR"]) == 0
    assert "the programs are not compared: no counterpart for" in capsys.readouterr().out


def test_a_port_that_does_not_fit_is_said_before_it_is_made():
    given = Pair(nn.Dense(64), lambda rngs: Odd("large", rngs), X)
    with pytest.raises(InputError, match=r"held 6 times, would take 24,576\.0 GiB"):
        bench(subject_of_pair("pair", given), SHORTEST)


def test_inputs_that_do_not_fit_are_said_before_they_are_made():
    huge = (jax.ShapeDtypeStruct((2**40, 64), "float32"),)
    with pytest.raises(InputError, match=r"the inputs would take 262,144\.0 GiB"):
        subject_of_pair("pair", Pair(nn.Dense(64), Port, huge))


def test_weights_that_do_not_fit_are_said_before_they_are_made(monkeypatch):
    monkeypatch.setattr("os.sysconf", lambda name: 16)
    with pytest.raises(Exception, match=r"held 6 times, would take .* choose smaller sizes"):
        bench(small("shared"), SHORTEST)


def test_a_picture_is_written_where_it_can_be_drawn(tmp_path):
    both = {name: Ratio(1.0, 0.9, 1.1) for name in ADVISED}
    rows = [Quantity(name, "s", {}, both) for name in ("forward", "dispatch alone")]
    found = Benchmark("pair", "", 2, 100, tuple(rows), tuple(rows), {}, Ratio(1, 1, 1), ())
    write_bench(found, {}, Writer(str(tmp_path / "out.png"), writable=(".png",)))
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    assert plot_bench(found, "svg") == plot_bench(found, "svg")


@pytest.mark.usefixtures("_measured")
def test_without_matplotlib_the_text_comes_and_the_extra_is_said(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(plot, "has_matplotlib", lambda: False)
    assert main(["bench", "--quick", f"--report={tmp_path / 'out.png'}"]) == 2
    printed = capsys.readouterr()
    assert "use 'split, flat leaves'" in " ".join(printed.out.split())
    assert "pip install 'composed-lifts[plot]'" in printed.err
    assert not list(tmp_path.iterdir())


def test_where_nothing_can_be_written_nothing_is_measured(capsys, tmp_path):
    assert main(["bench", f"--report={tmp_path}/none/out.html"]) == 4
    assert capsys.readouterr().out == ""


def test_a_process_is_timed_and_its_error_is_told():
    found = first_results({"a": ["-c", "pass"], "b": ["-m", "shared", "--help"]}, times=2)
    assert {name: len(seconds) for name, seconds in found.items()} == {"a": 2, "b": 2}
    with pytest.raises(InputError, match=r"in a process of its own: .*--case=nothing"):
        first_results({"a": ["-m", "shared", "forward", "--case=nothing"]}, times=1)


@pytest.mark.thorough
def test_a_model_of_a_pair_runs_in_a_process_of_its_own(tmp_path):
    path = tmp_path / "port.py"
    path.write_text(
        "import jax\nfrom linen_impl.composed import Shared as Model\n"
        "from nnx_impl.composed import Shared as Port\nfrom shared import Pair\n"
        "X = (jax.ShapeDtypeStruct((2, 3), 'float32'),)\n"
        "PAIR = Pair(Model(2, 3), lambda rngs: Port(2, 3, rngs=rngs), X,\n"
        "            linen_call=lambda model, x: model(x, None)[0])\n"
    )
    commands = {
        name: ["-m", "shared.cli.first_result", name, f"{path}:PAIR"] for name in ("linen", "nnx")
    }
    assert {len(seconds) for seconds in first_results(commands, times=1).values()} == {1}


@pytest.mark.thorough
def test_examples_are_spread_over_all_devices():
    """In a process with two devices: the programs are one still, and each has half of the batch."""
    command = [sys.executable, str(ROOT / "tests" / "bench_on_devices.py")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    both = {"nnx": True, "jax": True}
    same = {"forward": both, "value and gradient": both}
    assert ended.stdout.splitlines() == [str([(2, 5), (2, 5)]), str(same)]


def test_a_call_is_timed_after_one_that_is_not():
    called = []
    calls = {name: lambda name=name: called.append(name) for name in ("first", "second")}
    found = timing.in_turns(calls, seconds=0, fewest=3)
    assert {name: len(seconds) for name, seconds in found.items()} == {"first": 2, "second": 2}
    turns = called[6:]  # after those that say how often a call is repeated
    assert turns[::2] == turns[1::2]
    assert sorted(turns) == ["first"] * 4 + ["second"] * 4


@pytest.mark.thorough
def test_the_step_of_train_is_compiled_once_and_takes_what_plain_jax_takes():
    case = Config(batch_size=2, length=8, features=8, num_layers=2).case(vocab=11)
    rows = {row.name: row for row in train_step_rows(case, optimizer(Config()), 0, 1)}
    assert rows["train step: compiled again"].values == {"linen": 0, "nnx": 0, "jax": 0}
    for what in ("argument bytes", "output bytes", "temp bytes"):
        assert len(set(rows[f"train step: {what}"].values.values())) == 1
    assert rows["train step"].ratios.keys() == {"linen", "nnx", "jax"}

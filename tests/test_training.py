"""A hundred steps in both APIs are one trajectory; a mistake in any part of a step leaves it."""

import functools
import inspect
import itertools
import sys
import types
from typing import NamedTuple

import jax
import numpy as np
import pytest

from linen_impl import training as linen_training
from nnx_impl import training as nnx_training
from shared.bench import pure_training
from shared.bench.compiled import read_compiled
from shared.oracle.training import adamw, loss_and_gradient
from shared.training import config
from shared.training.config import DECAYED, Config, optimizer, schedule
from shared.training.run import first_state, steps
from shared.training.text import batch, tokens_of, topics

SMALL = Config(
    steps=100, batch_size=3, length=8, num_layers=2, features=8, rate=0.25, learning_rate=0.02
)
TEXT = tokens_of(topics()[:20_000], SMALL.length)
CASE = SMALL.case(len(TEXT.characters))


def by_name(state):
    """{name in Linen's TrainState: array} of a state of any API."""
    found = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        name = jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value")
        name = name.removeprefix("optimizer/").replace("model/", "params/")
        found[name] = leaf
    return found


def numbers(state):
    """The same as NumPy arrays; a key is its data, and a step its number."""
    leaves = by_name(state)
    leaves["key"] = jax.random.key_data(leaves["key"])
    found = {name: np.asarray(leaf) for name, leaf in leaves.items()}
    # Linen counts in int32, NNX in uint32.
    return found | {"step": found["step"].astype(np.int64)}


# What is traced and compiled for one test serves the others.
pytestmark = pytest.mark.xdist_group("training")
OPTIMIZER = optimizer(SMALL)


@functools.cache
def init_of(trainer, tx=OPTIMIZER, seed=SMALL.seed):
    """Makes the first state, which its first step writes over: compiled once."""
    return jax.jit(functools.partial(trainer.init, CASE, tx, seed))


def trajectory(trainer, init=None, run=SMALL):
    """(loss, the state in numbers) after each step."""
    init = init or init_of(trainer, seed=run.seed)
    for _, state, loss in steps(trainer, init(), run, TEXT, done=0):
        yield np.asarray(loss), numbers(state)


def first_difference(linen, nnx):
    """(step, what) of the first difference of two trajectories; None where there is none."""
    for number, (expected, received) in enumerate(zip(linen, nnx, strict=True), 1):
        if expected[0].tobytes() != received[0].tobytes():
            return number, "loss"
        if expected[1].keys() != received[1].keys():
            return number, "leaves"
        for name, leaf in expected[1].items():
            if leaf.tobytes() != received[1][name].tobytes():
                return number, name
    return None


@functools.cache
def linen_trajectory(num_steps):
    """The first steps of Linen's run."""
    generated = trajectory(linen_training)
    return [next(generated) for _ in range(num_steps)]


def test_a_hundred_steps_are_the_same_bit_for_bit():
    linen = linen_trajectory(SMALL.steps)
    assert first_difference(linen, trajectory(nnx_training)) is None
    losses = [loss for loss, _ in linen]
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.5
    assert len({loss.tobytes() for loss in losses}) == SMALL.steps


@pytest.mark.thorough
def test_another_seed_is_another_run():
    other = Config(**{**vars(SMALL), "steps": 1, "seed": 1})
    (first,) = trajectory(linen_training, run=other)
    (of_nnx,) = trajectory(nnx_training, run=other)
    assert first_difference([first], [of_nnx]) is None
    assert first[0] != linen_trajectory(1)[0][0]


@pytest.mark.quick("nnx")
@pytest.mark.parametrize("trainer", [linen_training, nnx_training], ids=["linen", "nnx"])
def test_a_second_run_in_a_process_compiles_no_step(trainer):
    windows = batch(TEXT.validation, SMALL.seed, 0, SMALL.batch_size, SMALL.length)
    sizes = []
    for _ in range(2):
        state = first_state(trainer, SMALL, TEXT)
        _, state, _ = next(steps(trainer, state, SMALL, TEXT, done=0))
        trainer.evaluate(state, windows)
        sizes.append((trainer.train_step._cache_size(), trainer.evaluate._cache_size()))
    assert sizes[0] == sizes[1]


class Mistake(NamedTuple):
    """One that is planted in NNX's side.

    Attributes:
      words, others: of a source, and what stands for them.
      found: the first step and leaf that differ.
      module: of the source.
    """

    words: str
    others: str
    found: tuple[int, str]
    module: types.ModuleType = nnx_training


MISTAKES = {
    "dropout key not folded by step": Mistake(
        "jax.random.fold_in(state.key[...], state.optimizer.step[...])",
        "state.key[...]",
        (1, "loss"),
    ),
    "dropout key folded by the step after": Mistake(
        "state.optimizer.step[...])", "state.optimizer.step[...] + 1)", (1, "loss")
    ),
    "dropout key of one step for all": Mistake("state.optimizer.step[...])", "0)", (2, "loss")),
    "mean of the gradient per device": Mistake(
        "state.optimizer.update(state.model, grads)",
        "state.optimizer.update(state.model, jax.tree.map(lambda g: g / 8, grads))",
        (1, "opt_state/1/0/mu/embed/embedding"),
    ),
    "optimizer of the wrong filter": Mistake(
        "wrt=nnx.Param", "wrt=nnx.All(nnx.Param, nnx.Not(nnx.PathContains('norm')))", (1, "leaves")
    ),
    "loss of other targets": Mistake(
        "cross_entropy(logits, windows[:, 1:])\n\n    value",
        "cross_entropy(logits, windows[:, :-1])\n\n    value",
        (1, "loss"),
    ),
    "loss after the step": Mistake(
        "return state, value", "return state, loss(state.model)", (2, "loss")
    ),
    "update not returned": Mistake(
        "state.optimizer.update(state.model, grads)",
        "nnx.clone(state.optimizer).update(nnx.clone(state.model), grads)",
        (1, "step"),
    ),
    "norms and biases decay": Mistake(
        ", mask=decays", "", (2, "params/layers/attention_norm/scale"), config
    ),
    "nothing decays": Mistake(
        "weight_decay=0.1", "weight_decay=0.0", (2, "params/embed/embedding"), config
    ),
    "schedule a step ahead": Mistake(
        "optax.adamw(schedule(config)",
        "optax.adamw(lambda count: schedule(config)(count + 1)",
        (1, "params/embed/embedding"),
        config,
    ),
    "gradients not clipped": Mistake(
        "clip_by_global_norm(1.0)",
        "clip_by_global_norm(1e9)",
        (1, "opt_state/1/0/mu/embed/embedding"),
        config,
    ),
}


def with_mistake(mistake):
    """A trainer of NNX and its init, one of them with the mistake."""
    source = inspect.getsource(mistake.module)
    assert source.count(mistake.words) == 1
    wrong = types.ModuleType(mistake.module.__name__)
    sys.modules[wrong.__name__] = wrong  # a dataclass looks itself up
    try:
        exec(source.replace(mistake.words, mistake.others), wrong.__dict__)
    finally:
        sys.modules[wrong.__name__] = mistake.module
    if mistake.module is config:
        return nnx_training, init_of(nnx_training, wrong.optimizer(SMALL))
    is_in_step = mistake.words in inspect.getsource(nnx_training.train_step.__wrapped__)
    return wrong, init_of(nnx_training if is_in_step else wrong)


@pytest.mark.quick(
    "dropout key of one step for all",
    "optimizer of the wrong filter",
)
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_the_step_is_found(name):
    mistake = MISTAKES[name]
    linen = linen_trajectory(2)
    wrong = itertools.islice(trajectory(*with_mistake(mistake)), len(linen))
    assert first_difference(linen, wrong) == mistake.found


def roles_and_program(step, state):
    """The program of a step: a function of {name: array} that returns such, whatever the API."""
    names, tree = list(by_name(state)), jax.tree.structure(state)

    def run(named, windows):
        given = jax.tree.unflatten(tree, [named[name] for name in names])
        state, loss = step(given, windows)
        return by_name(state), loss

    windows = jax.ShapeDtypeStruct((SMALL.batch_size, SMALL.length + 1), np.int32)
    program = jax.jit(run, donate_argnums=0, keep_unused=True)
    return [*sorted(names), "windows"], program.lower(by_name(state), windows).compile()


UINT32 = jax.ShapeDtypeStruct((), np.uint32)


@functools.cache
def compiled(name):
    """What XLA makes of a step of Linen, of NNX or of plain JAX."""
    trainer = nnx_training if name == "nnx" else linen_training
    step, state = trainer.train_step.__wrapped__, jax.eval_shape(init_of(trainer))
    if name.startswith("plain"):
        step = functools.partial(pure_training.train_step, CASE, OPTIMIZER)
        state = pure_training.State(state.step, state.params, state.opt_state, state.key)
    if name == "linen in uint32":
        state = state.replace(step=UINT32)
    if name == "plain in uint32":
        state = state._replace(step=UINT32)
    roles, program = roles_and_program(step, state)
    return read_compiled(program, roles)


# Of cases they are in tests/test_compiled_programs.py.
@pytest.mark.thorough
@pytest.mark.parametrize("name", ["linen", "plain"])
def test_the_step_is_one_program_of_linen_nnx_and_plain_jax(name):
    """But for one conversion: Linen counts steps in int32, and a key is folded with a uint32."""
    assert compiled(f"{name} in uint32") == compiled("nnx")
    assert compiled(name).fingerprint != compiled("nnx").fingerprint
    assert compiled(name).temp_bytes == compiled("nnx").temp_bytes
    assert compiled(name) == compiled("linen")


@pytest.mark.parametrize("trainer", [linen_training, nnx_training], ids=["linen", "nnx"])
def test_a_step_is_compiled_once_and_is_given_its_state(trainer):
    before = trainer.train_step._cache_size()
    state = init_of(trainer)()
    for number in range(3):
        given = jax.tree.leaves(state)
        state, _ = trainer.train_step(state, batch(TEXT.train, 0, number, 3, 8))
        assert all(leaf.is_deleted() for leaf in given)
    assert trainer.train_step._cache_size() <= before + 1


def test_evaluation_drops_nothing_and_both_agree():
    windows = batch(TEXT.validation, 0, 0, SMALL.batch_size, SMALL.length)
    losses = [
        np.asarray(trainer.evaluate(init_of(trainer)(), windows))
        for trainer in (linen_training, nnx_training)
        for _ in range(2)
    ]
    assert len({loss.tobytes() for loss in losses}) == 1


ONE_LAYER = Config(steps=4, batch_size=2, length=4, num_layers=1, features=4, rate=0.25)
# How far from float64 a step in float32 may be, relative to the largest number of a leaf: its
# rounding, times the length of its longest sums.
ORACLE_RTOL = 2e-6
# A bias of all keys adds the same to all scores of a query, and softmax does not see it: its
# gradient is rounding alone, of which Adam makes a step whose direction says nothing.
NO_GRADIENT = "layers/attention/key/bias"


@pytest.mark.quick("nnx")
@pytest.mark.parametrize("trainer", [linen_training, nnx_training], ids=["linen", "nnx"])
def test_loss_gradient_and_update_of_one_layer_are_those_of_numpy(trainer):
    text = tokens_of("the cat sat on the mat. " * 20, ONE_LAYER.length)
    state = first_state(trainer, ONE_LAYER, text)
    case = ONE_LAYER.case(len(text.characters))
    worst = 0.0
    for number in range(2):
        before, key = numbers(state), jax.random.fold_in(by_name(state)["key"], number)
        windows = batch(text.train, 0, number, ONE_LAYER.batch_size, ONE_LAYER.length)
        params, *moments = (
            {path.removeprefix(prefix): leaf for path, leaf in before.items() if prefix in path}
            for prefix in ("params/", "opt_state/1/0/mu/", "opt_state/1/0/nu/")
        )
        loss, gradient = loss_and_gradient(case, params, windows, key)
        rate = float(schedule(ONE_LAYER)(number))
        expected, (mean, square) = adamw(
            params, gradient, (moments[0], moments[1]), number, rate, weight_decay
        )
        state, value = trainer.train_step(state, windows)
        after = numbers(state)
        assert abs(float(value) - loss) <= ORACLE_RTOL * loss
        for prefix, leaves in (
            ("params", expected),
            ("opt_state/1/0/mu", mean),
            ("opt_state/1/0/nu", square),
        ):
            scale = max(np.abs(leaf).max() for leaf in leaves.values())
            for path, leaf in leaves.items():
                difference = np.abs(after[f"{prefix}/{path}"] - leaf).max()
                if (prefix, path) == ("params", NO_GRADIENT):
                    assert np.abs(gradient[path]).max() < 1e-12
                    assert difference <= 2 * rate
                    continue
                worst = max(worst, difference / scale)
    assert 0 < worst <= ORACLE_RTOL, f"largest difference {worst:.2e}"


def weight_decay(path):
    return 0.1 * (path.split("/")[-1] in DECAYED)

"""What a call costs beside its program: by the number of leaves, without `jit`, of the exercise."""

import functools
import gc
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

import linen_impl.composed
import linen_impl.rngs
import nnx_impl.composed
import nnx_impl.rngs
from shared.bench.compilations import count_compilations
from shared.bench.pure_jax import leaves_of
from shared.bench.pure_layers import dense_relu
from shared.bench.rows import jitted, timed_row
from shared.bench.timing import in_turns
from shared.models.forms import FORMS
from shared.models.subject import nothing
from shared.report.measured import Quantity, Ratio, Table

Call = Callable[[], Any]

NUM_LEAVES = (2, 10, 100, 500)
# Seconds for the calls of one row.
SECONDS = 5.0
# Calls in a row: one alone would be timed with what the call before it left in the caches.
IN_A_ROW = 10
# (batch_size, num_layers, features)
WITHOUT_JIT, EXERCISE = (8, 4, 64), (32, 12, 256)


def measure() -> list[Table]:
    return [by_leaves(), without_jit(), exercise()]


def by_leaves() -> Table:
    rows = [timed_row(f"{number} leaves", _timed(calls(number))) for number in NUM_LEAVES]
    notes = [
        f"{IN_A_ROW} calls in a row are timed, and their mean is taken; of the garbage that Python "
        "collects within, only what these calls have made is counted.",
        "Each leaf: the slope of the straight line through the rows above, each weighed alike.",
    ]
    if not _has_equinox():
        notes.append("Equinox was not installed: it is in the extra `.[peers]`.")
    return Table(
        "Host time of a jitted call that needs every leaf and computes next to nothing",
        (*rows, each_leaf(rows)),
        tuple(notes),
    )


def _timed(found: dict[str, Call]) -> dict[str, list[float]]:
    # A call pays for its own garbage, and not for a look through all that JAX has compiled.
    gc.collect()
    gc.freeze()
    timed = in_turns({name: _in_a_row(call) for name, call in found.items()}, SECONDS)
    gc.unfreeze()
    return {name: [seconds / IN_A_ROW for seconds in all_] for name, all_ in timed.items()}


def _in_a_row(call: Call) -> Call:
    def calls_in_a_row() -> Any:
        for _ in range(IN_A_ROW):
            result = call()
        return result

    return calls_in_a_row


class LinenLayers(nn.Module):
    """Linear layers of one feature, of which a call needs every leaf."""

    num_layers: int

    def setup(self):
        self.layers = [nn.Dense(1) for _ in range(self.num_layers)]

    def __call__(self) -> jax.Array:
        return nothing(self.variables)


class NnxLayers(nnx.Module):
    """The same."""

    def __init__(self, num_layers: int, *, rngs: nnx.Rngs):
        self.layers = nnx.List([nnx.Linear(1, 1, rngs=rngs) for _ in range(num_layers)])


def calls(num_leaves: int) -> dict[str, Call]:
    """{a way to call: a call that has been compiled}, all of `nothing`, of equal weights."""
    module = NnxLayers(num_leaves // 2, rngs=nnx.Rngs(0))
    layers = [{"kernel": x.kernel[...], "bias": x.bias[...]} for x in module.layers]
    variables = {"params": {f"layers_{i}": layer for i, layer in enumerate(layers)}}
    found = {
        "jax, tuple of leaves": jitted(nothing, tuple(jax.tree.leaves(variables))),
        "jax, nested dict": jitted(nothing, variables),
        "linen": jitted(LinenLayers(num_leaves // 2).apply, variables),
    }
    for name, form in FORMS.items():
        call = form(module, nothing)
        jax.block_until_ready(call())
        found[name if name.startswith("nnx") else f"nnx, {name}"] = call
    if _has_equinox():
        found["equinox filter_jit"] = _equinox_call(layers)
    return found


def _has_equinox() -> bool:
    return importlib.util.find_spec("equinox") is not None


def _equinox_call(layers: Sequence[dict[str, jax.Array]]) -> Call:
    import equinox

    class Layers(equinox.Module):
        layers: list[equinox.nn.Linear]

    key = jax.random.key(0)
    module = Layers([equinox.nn.Linear(1, 1, key=key) for _ in layers])
    leaves = [layer[name] for layer in layers for name in ("kernel", "bias")]
    module = jax.tree.unflatten(jax.tree.structure(module), leaves)
    call = equinox.filter_jit(nothing)
    jax.block_until_ready(call(module))
    return lambda: call(module)


def each_leaf(rows: Sequence[Quantity]) -> Quantity:
    """How much longer a call takes with one more leaf, of rows by `NUM_LEAVES`."""

    def slope(seconds: Sequence[float]) -> float:
        # An error is a part of a time: without weights, the longest would count alone.
        return float(np.polyfit(NUM_LEAVES, seconds, 1, w=1 / np.asarray(seconds))[0])

    slopes = {column: slope([row.values[column] for row in rows]) for column in rows[0].values}
    first = next(iter(slopes.values()))
    ratios = {column: Ratio(*[slope / first] * 3) for column, slope in slopes.items()}
    return Quantity("each leaf", "s", slopes, ratios)


def without_jit() -> Table:
    batch_size, num_layers, features = WITHOUT_JIT
    x = _batch(batch_size, features)
    model = linen_impl.composed.Shared(num_layers, features)
    variables = model.init(linen_impl.rngs.linen_rngs(0), x, None)
    module = nnx_impl.composed.Shared(num_layers, features, rngs=_nnx_rngs())
    leaves = leaves_of(variables)
    found: dict[str, Call] = {
        "linen": lambda: model.apply(variables, x, None)[0],
        "nnx": lambda: module(x),
        "jax": lambda: _stack(leaves, x),
    }
    for call in found.values():
        call()
    counted = {name: count_compilations(call) for name, call in found.items()}
    return Table(
        f"A call without jit, {_sizes(WITHOUT_JIT)}",
        (
            timed_row("a call", in_turns(found, SECONDS)),
            Quantity("compiled in a second call", "programs", counted, {}),
        ),
        ("Linen makes the body of its scan anew in each call; the others made it once.",),
    )


# The function that is scanned is made once: JAX knows by it what it has compiled.
@functools.partial(jax.vmap, in_axes=(None, 0))
def _stack(leaves: Any, x: jax.Array) -> jax.Array:
    return jax.lax.scan(_layer, x, leaves)[0]


def _layer(x: jax.Array, params: Any) -> tuple[jax.Array, None]:
    return dense_relu(x, params), None


def exercise() -> Table:
    batch_size, num_layers, features = EXERCISE
    x = _batch(batch_size, features)
    linen, twin = linen_impl.composed, nnx_impl.composed
    model, rngs = linen.Shared(num_layers, features), linen_impl.rngs.linen_rngs(0)
    variables = linen.init(model, rngs, x)
    nnx_rngs = _nnx_rngs()
    graphdef, state = twin.init(num_layers, features, nnx_rngs)
    found: dict[str, Call] = {
        "linen forward": lambda: linen.forward(model, variables, x),
        "linen both": lambda: linen.forward(model, linen.init(model, rngs, x), x),
        "linen": lambda: linen.composed_lifts_forward(0, x, num_layers, features),
        "nnx forward": lambda: twin.forward(graphdef, state, x),
        "nnx both": lambda: twin.forward(*twin.init(num_layers, features, nnx_rngs), x),
        "nnx": lambda: twin.composed_lifts_forward(0, x, num_layers, features),
    }
    for call in found.values():
        jax.block_until_ready(call())
    timed = in_turns(found, SECONDS)
    rows = [
        timed_row(
            f"{name}, to {words}",
            {"jitted": timed[f"{name} {which}"], "composed_lifts_forward": timed[name]},
        )
        for name in ("linen", "nnx")
        for which, words in (("forward", "forward alone"), ("both", "init, then forward"))
    ]
    return Table(
        f"composed_lifts_forward, called again, {_sizes(EXERCISE)}",
        tuple(rows),
        (
            "It makes the weights from the seed in each call: most of its time.",
            "Init and forward are two programs, jitted and called one after the other.",
        ),
    )


def _batch(batch_size: int, features: int) -> jax.Array:
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.standard_normal((batch_size, features)), jnp.float32)


def _nnx_rngs() -> nnx.Rngs:
    return nnx_impl.rngs.linen_rngs(0, draws=("Dense_0", "Dense_0"), num_scans=1)


def _sizes(sizes: tuple[int, int, int]) -> str:
    return "batch_size={}, num_layers={}, features={}".format(*sizes)

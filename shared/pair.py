"""A Linen model with its NNX port, and each of the two as one pure function over named arrays.

This is the one place in `shared` that knows Flax's modules. Everything behind it sees `PureModel`.
"""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx
from flax.core import DenyList, meta, unfreeze

from shared.batch import seeded_batch
from shared.cases import Case
from shared.errors import InputError
from shared.interface import load_implementation
from shared.program.trace import trace
from shared.trees import flatten, unflatten

_STREAMS = ("params", "dropout")


@dataclasses.dataclass(frozen=True)
class Pair:
    """A Linen model and its NNX port, to be compared.

    Attributes:
      linen: the Linen module.
      nnx: builds the port from `nnx.Rngs`, ready to be called.
      inputs: makes the inputs of a call from a key; or the inputs, arrays or `ShapeDtypeStruct`s.
      linen_kwargs: keyword arguments of the Linen call.
      nnx_kwargs: keyword arguments of the NNX call.
      linen_call: (module, *inputs) -> outputs, where that is not a plain call.
      nnx_call: (module, *inputs) -> outputs, where that is not a plain call.
      linen_output: from Linen's outputs to what is compared.
      nnx_output: from NNX's outputs to what is compared.
      weight_map: {Linen's path: NNX's path} of leaves that are known; the rest is found.
    """

    linen: nn.Module
    nnx: Callable[[nnx.Rngs], Any]
    inputs: Callable[[jax.Array], tuple] | tuple
    linen_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    nnx_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    linen_call: Callable[..., Any] | None = None
    nnx_call: Callable[..., Any] | None = None
    linen_output: Callable[[Any], Any] = lambda outputs: outputs
    nnx_output: Callable[[Any], Any] = lambda outputs: outputs
    weight_map: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises InputError where a field is not of its kind."""
        for name, kind, fine in (
            ("linen", "a Linen module", isinstance(self.linen, nn.Module)),
            ("nnx", "a function of nnx.Rngs that builds the port", callable(self.nnx)),
            (
                "inputs",
                "a tuple of inputs, or a function of a key that returns one",
                callable(self.inputs) or isinstance(self.inputs, tuple),
            ),
        ):
            if not fine:
                received = type(getattr(self, name)).__name__
                raise InputError(f"Pair.{name}: expected {kind}, received {received}")


@dataclasses.dataclass(frozen=True)
class PureModel:
    """One model of a pair as a pure function.

    Attributes:
      name: "linen" or "nnx".
      leaves: {path: shape and dtype} of every weight; a path starts with its collection.
      rng_leaves: paths of random state, which has no counterpart in Linen's variables.
      apply: (leaves, inputs) -> (outputs, updates). Updates are the collections other than
        `params` after the call, and what was sown.
    """

    name: str
    leaves: dict[str, jax.ShapeDtypeStruct]
    rng_leaves: tuple[str, ...]
    apply: Callable[[Mapping[str, Any], tuple], tuple[Any, dict[str, Any]]]


@dataclasses.dataclass(frozen=True)
class PurePair:
    """Both models of a pair as pure functions, and what they are called on.

    Attributes:
      inputs: shapes and dtypes.
      sample_inputs: seed -> inputs to compute with.
      weight_map: as in `Pair`.
    """

    linen: PureModel
    nnx: PureModel
    inputs: tuple
    sample_inputs: Callable[[int], tuple]
    weight_map: Mapping[str, str] = dataclasses.field(default_factory=dict)


def pure_pair(pair: Pair) -> PurePair:
    """`pair` without Flax's modules. Allocates no weight."""
    inputs = abstract_inputs(pair)
    linen, nnx = linen_model(pair), nnx_model(pair)
    sown = _made_by_the_call(linen, inputs)
    if sown and not _collections(nnx) - _KEPT:
        leaves = {p: leaf for p, leaf in linen.leaves.items() if p.split("/")[0] not in sown}
        linen = dataclasses.replace(linen, leaves=leaves)
    return PurePair(
        linen,
        nnx,
        inputs,
        functools.partial(sample_inputs, pair),
        pair.weight_map,
    )


def pure_case(case: Case) -> PurePair:
    """The two implementations of a built-in case."""

    def model(name: str) -> PureModel:
        implementation = load_implementation(name)
        init = functools.partial(implementation.init, case.params_case, seed=0)

        def apply(leaves, inputs):
            return implementation.apply(case, unflatten(leaves), *inputs), {}

        return PureModel(name, flatten(jax.eval_shape(init)), (), apply)

    return PurePair(
        model("linen"),
        model("nnx"),
        (jax.ShapeDtypeStruct(case.input_shape, jnp.float32),),
        lambda seed: (seeded_batch(case, seed).x,),
    )


def abstract_inputs(pair: Pair) -> tuple:
    """The shapes and dtypes of the inputs of a call."""
    if callable(pair.inputs):
        return jax.eval_shape(pair.inputs, jax.random.key(0))
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), pair.inputs
    )


def sample_inputs(pair: Pair, seed: int) -> tuple:
    """Inputs to compute with: the pair's own, or random ones of their shapes and dtypes."""
    if callable(pair.inputs):
        return pair.inputs(jax.random.key(seed))
    rng = np.random.default_rng(seed)

    def sample(x):
        if isinstance(x, jax.ShapeDtypeStruct):
            if jnp.issubdtype(x.dtype, jnp.floating):
                return jnp.asarray(rng.standard_normal(x.shape), x.dtype)
            # Small whole numbers are within any table that they may index.
            return jnp.asarray(rng.integers(0, 2, x.shape), x.dtype)
        if seed and jnp.issubdtype(jnp.result_type(x), jnp.floating):
            noise = rng.standard_normal(jnp.shape(x)) * (1 + float(jnp.std(jnp.asarray(x))))
            return jnp.asarray(x + noise, jnp.result_type(x))
        if seed:
            return jnp.asarray(rng.permuted(np.asarray(x).reshape(-1)).reshape(jnp.shape(x)))
        return jnp.asarray(x)

    return jax.tree.map(sample, pair.inputs)


def linen_model(pair: Pair) -> PureModel:
    """The Linen model of `pair` as a pure function. Allocates no weight."""
    model, inputs = pair.linen, abstract_inputs(pair)
    call = pair.linen_call or (lambda module, *args: module(*args, **pair.linen_kwargs))
    keys = {name: jax.random.key(i) for i, name in enumerate(_STREAMS)}

    def init(*args):
        return model.init(keys, *args, method=call)

    variables = meta.unbox(unfreeze(jax.eval_shape(init, *inputs)))
    leaves = flatten({name: tree for name, tree in variables.items() if name not in _SOWN})

    def apply(leaves, inputs):
        outputs, updated = model.apply(
            unflatten(leaves), *inputs, method=call, mutable=DenyList(("params",)), rngs=keys
        )
        return pair.linen_output(outputs), _plain(flatten(meta.unbox(unfreeze(updated))))

    return PureModel("linen", leaves, (), apply)


_SOWN = ("intermediates", "perturbations")
# Collections that a model keeps from call to call.
_KEPT = {"params", "batch_stats", "cache"}


def _collections(model: PureModel) -> set[str]:
    return {path.split("/")[0] for path in model.leaves}


def _made_by_the_call(model: PureModel, inputs: tuple) -> set[str]:
    """Collections that no output needs and that a call makes: what it sows, such as losses.

    Linen's `init` returns them with the variables, for it makes a call.
    """
    candidates = _collections(model) - _KEPT
    if not candidates:
        return set()
    graph, _ = trace(lambda leaves, inputs: model.apply(leaves, inputs)[0], model.leaves, inputs)
    used = {view.leaf.split("/")[0] for view in graph.views.values()}
    found = candidates - used
    rest = {p: leaf for p, leaf in model.leaves.items() if p.split("/")[0] not in found}
    _, updates = jax.eval_shape(model.apply, rest, inputs)
    return found & {path.split("/")[0] for path in updates}


def nnx_model(pair: Pair) -> PureModel:
    """The NNX model of `pair` as a pure function. Allocates no weight."""
    with nnx.use_eager_sharding(False):
        model = nnx.eval_shape(lambda: pair.nnx(nnx.Rngs(0, dropout=1)))
    if not isinstance(model, nnx.Pytree):
        raise InputError(
            f"Pair.nnx: expected it to return a module, it returns {type(model).__name__}"
        )
    graphdef, abstract = nnx.split(model)
    call = pair.nnx_call or (lambda module, *args: module(*args, **pair.nnx_kwargs))
    variables = {_path(path, variable): (path, variable) for path, variable in _flat(abstract)}
    random = {p for p, (_, variable) in variables.items() if isinstance(variable, nnx.RngState)}
    leaves = {p: _abstract(variable) for p, (_, variable) in variables.items() if p not in random}

    def apply(leaves, inputs):
        flat = [
            (path, variable.replace(_random_state(variable) if p in random else leaves[p]))
            for p, (path, variable) in variables.items()
        ]
        with nnx.use_eager_sharding(False), warnings.catch_warnings():
            # What is sown is read off the module here.
            warnings.filterwarnings("ignore", message=".*capture", category=DeprecationWarning)
            model = nnx.merge(graphdef, nnx.from_flat_state(flat), copy=True)
            outputs = pair.nnx_output(call(model, *inputs))
            after = {_path(path, variable): variable for path, variable in _flat(nnx.state(model))}
        updates = {
            path: variable.get_value()
            for path, variable in after.items()
            if not isinstance(variable, nnx.RngState) and not path.startswith("params/")
        }
        return outputs, _plain(updates)

    return PureModel("nnx", dict(sorted(leaves.items())), tuple(sorted(random)), apply)


def _plain(updates: Mapping[str, Any]) -> dict[str, Any]:
    """What is sown is a tuple, one value for each call: each is a leaf."""
    plain = {}
    for path, value in updates.items():
        if isinstance(value, tuple):
            plain.update({f"{path}/{i}": one for i, one in enumerate(value)})
        else:
            plain[path] = value
    return plain


def _flat(state: nnx.State) -> list[tuple[tuple, nnx.Variable]]:
    return list(nnx.to_flat_state(state))


def _path(path: tuple, variable: nnx.Variable) -> str:
    if isinstance(variable, nnx.RngState):
        return "/".join(map(str, ("rng", *path)))
    return "/".join(map(str, (_collection(type(variable)), *path)))


def _collection(kind: type[nnx.Variable]) -> str:
    """What Flax calls the collection of a variable; of one that it does not know, its class."""
    try:
        return nnx.variable_name_from_type(kind)
    except ValueError:
        return kind.__name__


def _abstract(variable: nnx.Variable) -> jax.ShapeDtypeStruct:
    value = variable.get_value()
    return jax.ShapeDtypeStruct(value.shape, value.dtype)


def _random_state(variable: nnx.Variable) -> jax.Array:
    value = variable.get_value()
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return jnp.broadcast_to(jax.random.key(1), value.shape)
    return jnp.zeros(value.shape, value.dtype)

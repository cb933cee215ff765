"""An NNX module as a pure function."""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from shared.errors import InputError
from shared.models.nnx_training import switch
from shared.models.pure import Pieces, PureModel, arrays
from shared.models.random_state import random_state
from shared.models.sources import nnx_sources
from shared.models.switches import Switches
from shared.program.traced_once import TracedOnce
from shared.trees import Place, escape

# The collection of what is no variable: a plain array that is an attribute of a module.
ARRAY = "array"


class _Stream(nnx.RngStream):
    """Counts without looking up the sharding of its traced count.

    That look-up walks the whole trace, for each weight that is made (jax 0.10.2, flax 0.12.8).
    """

    def __call__(self) -> jax.Array:
        key = jax.random.fold_in(self.key.get_value(), self.count.get_value())
        self.count.set_value(self.count.get_value() + 1)
        return key


def _rngs(streams: Sequence[str]) -> nnx.Rngs:
    """Random numbers for whatever a model calls them; `streams` have keys of their own."""
    rngs = nnx.Rngs(0, dropout=1, **{name: 2 + i for i, name in enumerate(streams)})
    for name, stream in list(rngs.items()):
        setattr(rngs, name, _Stream(stream.key.get_value(), tag=name))
    return rngs


@dataclasses.dataclass(frozen=True)
class Port:
    """A module that is built once: JAX cannot compare what is built twice, where it has arrays.

    Attributes:
      make: makes the module.
      graphdef: of the module, without numbers.
      held: {path: (its keys, what is there)}, a variable or a plain array. The path of an array
        starts with `array/`.
    """

    make: Callable[[], Any]
    graphdef: nnx.GraphDef
    held: dict[str, tuple[tuple, Any]]


def built(build: Callable[[nnx.Rngs], Any], streams: Sequence[str] = ()) -> Port:
    """The module that `build` makes. Allocates no weight.

    Args:
      build: makes the module from random numbers.
      streams: names of these, beside those that Flax uses by itself.
    """
    if isinstance(build, nnx.Pytree):
        raise InputError(
            "Pair.nnx: expected a function of nnx.Rngs that builds the port, received a "
            f"{type(build).__name__}; write nnx=lambda rngs: {type(build).__name__}(..., rngs=rngs)"
        )

    def make() -> Any:
        return _is_module(build(_rngs(streams)))

    with nnx.use_eager_sharding(False):
        model = nnx.eval_shape(make)
        tables = {key: node for key, node, value in _attributes(model) if _is_table(value)}
        if tables:
            # XLA drops what they do not need: no weight is made. A number is an array here if the
            # attribute has held a variable before.
            found = jax.jit(lambda: {k: v for k, _, v in _attributes(make()) if k in tables})()
            for key, node in tables.items():
                setattr(node, key.rsplit("/", 1)[-1], nnx.data(found[key]))
    graphdef, abstract = nnx.split(model)
    held = {_path(path, value): (path, value) for path, value in _flat(abstract)}
    return Port(make, graphdef, held)


def nnx_model(
    port: Port,
    call: Callable[..., Any],
    output: Callable[[Any], Any],
    is_fixed: Callable[[str], bool],
    in_training: Callable[..., Any] | None = None,
) -> PureModel:
    """A port as a pure function.

    Args:
      port: the module.
      call: (module, *inputs) -> outputs.
      output: from outputs to what is compared.
      is_fixed: whether what is at a path keeps its initial value, and is no weight.
      in_training: the call in training; without, `call` with all switches switched.
    """
    held = port.held
    random = {p for p, (_, value) in held.items() if isinstance(value, nnx.RngState)}
    fixed = {p for p in held if p not in random and is_fixed(p)}
    tables = {p: value for p, (_, value) in held.items() if not isinstance(value, nnx.Variable)}

    def initial(paths: Collection[str], inputs: tuple) -> dict[str, Any]:
        others = set(paths) - tables.keys()
        with nnx.use_eager_sharding(False):
            made = jax.jit(lambda: _values(port.make(), others))() if others else {}
        return {path: tables[path] if path in tables else made[path] for path in paths}

    def init(leaves, inputs):
        with nnx.use_eager_sharding(False):
            made = _values(port.make(), pieces.leaves.keys() - tables.keys())
        return made | {p: jnp.asarray(tables[p]) for p in pieces.leaves.keys() & tables.keys()}

    def start(leaves, inputs):
        with nnx.use_eager_sharding(False):
            return _values(port.make(), random)

    kept = initial(fixed, ()) | random_state(TracedOnce(start), random)
    own = {p: _value(value) for p, (_, value) in held.items() if p not in random | fixed}
    pieces = Pieces(own)
    leaves = {p: jax.ShapeDtypeStruct(x.shape, x.dtype) for p, x in pieces.leaves.items()}
    places = {p: Place(held[of][0], keys) for p, (of, keys) in pieces.inside.items()}

    def applied(switches: Switches, called: Callable[..., Any], leaves, inputs):
        known = {**kept, **pieces.join(leaves)}
        flat = [
            (path, known[p] if p in tables else value.replace(known[p]))
            for p, (path, value) in held.items()
        ]
        with nnx.use_eager_sharding(False), warnings.catch_warnings():
            # What is sown is read off the module here.
            warnings.filterwarnings("ignore", message=".*capture", category=DeprecationWarning)
            model = nnx.merge(port.graphdef, nnx.from_flat_state(flat), copy=True)
            switch(model, switches, arguments=called is call)
            outputs = arrays(output(called(model, *inputs)))
            after = {_path(path, value): value for path, value in _flat(nnx.state(model))}
        updates = {
            path: _value(value)
            for path, value in after.items()
            if not isinstance(value, nnx.RngState)
            if isinstance(value, nnx.Variable) or path in own
        }
        return outputs, Pieces(updates).leaves

    evaluation = Switches(training=False)

    def apply(leaves, inputs):
        return applied(evaluation, call, leaves, inputs)

    def apply_in_training(leaves, inputs):
        return applied(Switches(training=True), in_training or call, leaves, inputs)

    return PureModel(
        "nnx",
        dict(sorted(leaves.items())),
        tuple(sorted(random)),
        TracedOnce(apply),
        initial,
        places,
        init=TracedOnce(init),
        in_training=TracedOnce(apply_in_training),
        switches=evaluation.off,
        axis_names=_axis_names(held),
        sources=functools.cache(lambda: nnx_sources(port.make, _path)),
    )


def _axis_names(held: Mapping[str, tuple[tuple, Any]]) -> dict[str, tuple]:
    """{path: the name of each axis} of the variables that have a partitioning."""
    found = {}
    for path, (_, value) in held.items():
        names = (
            value.get_metadata().get("out_sharding") if isinstance(value, nnx.Variable) else None
        )
        if names:
            found[path] = tuple(names)
    return found


def _values(model: Any, paths: Collection[str]) -> dict[str, Any]:
    """{path: value} of variables, or of the arrays in them."""
    variables = nnx.state(model, nnx.Variable)
    named = {_path(path, variable): variable.get_value() for path, variable in _flat(variables)}
    every = {**Pieces(named).leaves, **named}
    return {path: every[path] for path in paths}


def _is_module(model: Any) -> Any:
    if not isinstance(model, nnx.Pytree):
        raise InputError(
            f"Pair.nnx: expected it to return a module, it returns {_description(model)}"
        )
    return model


def _description(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}; call it"
    return type(value).__name__


def _attributes(model: Any) -> Iterator[tuple[str, Any, Any]]:
    """(path, module, value) of each attribute of each module."""
    for path, node in nnx.iter_graph(model):
        if isinstance(node, nnx.Pytree):
            for name, value in sorted(vars(node).items()):
                yield "/".join(map(str, (*path, name))), node, value


def _is_table(value: Any) -> bool:
    """Whether an attribute is an array, or a collection of arrays."""
    if isinstance(value, nnx.Pytree | nnx.Variable):
        return False
    kinds = (jax.Array, np.ndarray, jax.ShapeDtypeStruct)
    leaves = jax.tree.leaves(value, is_leaf=lambda x: isinstance(x, nnx.Pytree | nnx.Variable))
    return bool(leaves) and all(isinstance(leaf, kinds) for leaf in leaves)


def leaf_names(state: nnx.State) -> list[str]:
    """The path of each variable of a state, in the order of its leaves: `params/dense/kernel`."""
    return [_path(path, value) for path, value in _flat(state)]


def _flat(state: nnx.State) -> list[tuple[tuple, Any]]:
    return list(nnx.to_flat_state(state))


def _value(held: Any) -> Any:
    return held.get_value() if isinstance(held, nnx.Variable) else held


def _path(path: tuple, held: Any) -> str:
    if isinstance(held, nnx.RngState):
        return "/".join(map(escape, ("rng", *path)))
    kind = _collection(type(held)) if isinstance(held, nnx.Variable) else ARRAY
    return "/".join(map(escape, (kind, *path)))


def _collection(kind: type[nnx.Variable]) -> str:
    """What Flax calls the collection of a variable; of one that it does not know, its class.

    A kind of parameter, of statistic or of cache is one, whatever it is called: `nnx.LoRAParam`.
    """
    for known in (nnx.Param, nnx.BatchStat, nnx.Cache):
        if issubclass(kind, known):
            return nnx.variable_name_from_type(known)
    try:
        return nnx.variable_name_from_type(kind)
    except ValueError:
        return kind.__name__

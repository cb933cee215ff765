"""An NNX module as a pure function."""

import warnings
from collections.abc import Callable, Collection, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from shared.errors import InputError
from shared.models.pure import Pieces, PureModel, arrays
from shared.program.traced_once import TracedOnce
from shared.trees import Place, escape


class _Stream(nnx.RngStream):
    """Counts without looking up the sharding of its traced count.

    That look-up walks the whole trace, for each weight that is made (jax 0.10.2, flax 0.12.8).
    """

    def __call__(self) -> jax.Array:
        key = jax.random.fold_in(self.key.get_value(), self.count.get_value())
        self.count.set_value(self.count.get_value() + 1)
        return key


def _rngs() -> nnx.Rngs:
    rngs = nnx.Rngs(0, dropout=1)
    for name, stream in list(rngs.items()):
        setattr(rngs, name, _Stream(stream.key.get_value(), tag=name))
    return rngs


def nnx_model(
    build: Callable[[nnx.Rngs], Any],
    call: Callable[..., Any],
    output: Callable[[Any], Any],
    is_fixed: Callable[[str], bool] = lambda path: False,
) -> PureModel:
    """The module that `build` returns as a pure function. Allocates no weight.

    Args:
      build: makes the module.
      call: (module, *inputs) -> outputs.
      output: from outputs to what is compared.
      is_fixed: whether the variable at a path keeps its initial value, and is no weight.
    """
    if isinstance(build, nnx.Pytree):
        raise InputError(
            "Pair.nnx: expected a function of nnx.Rngs that builds the port, received a "
            f"{type(build).__name__}; write nnx=lambda rngs: {type(build).__name__}(..., rngs=rngs)"
        )
    with nnx.use_eager_sharding(False):
        model = nnx.eval_shape(lambda: _is_module(build(_rngs())))
        if any(True for _ in _tables(model)):
            # XLA drops what they do not need: no weight is made.
            values = jax.jit(lambda: {key: value for key, _, value in _tables(build(_rngs()))})()
            for key, node, _ in list(_tables(model)):
                setattr(node, key.rsplit("/", 1)[-1], nnx.data(values[key]))
    graphdef, abstract = nnx.split(model)
    flat = _flat(abstract)
    tables = [(path, value) for path, value in flat if not isinstance(value, nnx.Variable)]
    variables = {
        _path(path, variable): (path, variable)
        for path, variable in flat
        if isinstance(variable, nnx.Variable)
    }
    random = {p for p, (_, variable) in variables.items() if isinstance(variable, nnx.RngState)}
    fixed = {p for p in variables if p not in random and is_fixed(p)}

    def initial(paths: Collection[str], inputs: tuple) -> dict[str, Any]:
        return jax.jit(lambda: _values(build(_rngs()), paths))()

    kept = initial(fixed, ()) if fixed else {}
    pieces = Pieces(
        {
            p: variable.get_value()
            for p, (_, variable) in variables.items()
            if p not in random and p not in fixed
        }
    )
    leaves = {p: jax.ShapeDtypeStruct(x.shape, x.dtype) for p, x in pieces.leaves.items()}
    places = {p: Place(variables[of][0], keys) for p, (of, keys) in pieces.inside.items()}

    def apply(leaves, inputs):
        known = {**kept, **pieces.join(leaves)}
        flat = tables + [
            (path, variable.replace(_random_state(variable) if p in random else known[p]))
            for p, (path, variable) in variables.items()
        ]
        with nnx.use_eager_sharding(False), warnings.catch_warnings():
            # What is sown is read off the module here.
            warnings.filterwarnings("ignore", message=".*capture", category=DeprecationWarning)
            model = nnx.merge(graphdef, nnx.from_flat_state(flat), copy=True)
            outputs = arrays(output(call(model, *inputs)))
            after = {
                _path(path, variable): variable
                for path, variable in _flat(nnx.state(model))
                if isinstance(variable, nnx.Variable)
            }
        updates = {
            path: variable.get_value()
            for path, variable in after.items()
            if not isinstance(variable, nnx.RngState)
        }
        return outputs, Pieces(updates).leaves

    return PureModel(
        "nnx",
        dict(sorted(leaves.items())),
        tuple(sorted(random)),
        TracedOnce(apply),
        initial,
        places,
    )


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


def _tables(model: Any) -> Iterator[tuple[str, Any, Any]]:
    """(path, module, value) of each attribute that is an array, or a collection of arrays."""
    for path, node in nnx.iter_graph(model):
        if isinstance(node, nnx.Pytree):
            for name, value in sorted(vars(node).items()):
                if _is_table(value):
                    yield "/".join(map(str, (*path, name))), node, value


def _is_table(value: Any) -> bool:
    if isinstance(value, nnx.Pytree | nnx.Variable):
        return False
    kinds = (jax.Array, np.ndarray, jax.ShapeDtypeStruct)
    leaves = jax.tree.leaves(value, is_leaf=lambda x: isinstance(x, nnx.Pytree | nnx.Variable))
    return bool(leaves) and all(isinstance(leaf, kinds) for leaf in leaves)


def _flat(state: nnx.State) -> list[tuple[tuple, Any]]:
    return list(nnx.to_flat_state(state))


def _path(path: tuple, variable: nnx.Variable) -> str:
    if isinstance(variable, nnx.RngState):
        return "/".join(map(escape, ("rng", *path)))
    return "/".join(map(escape, (_collection(type(variable)), *path)))


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


def _random_state(variable: nnx.Variable) -> jax.Array:
    value = variable.get_value()
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return jnp.broadcast_to(jax.random.key(1), value.shape)
    return jnp.zeros(value.shape, value.dtype)

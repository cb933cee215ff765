"""The value of every operation of a flat program, in float64.

In float64 another order of summation moves a value by about 1e-16 of its size and an epsilon of
1e-5 instead of 1e-6 by 1e-6: rounding and porting mistakes are far apart. Casts to a narrower type
that the program itself makes are kept.
"""

import functools
import types
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from shared.program import numpy_operations
from shared.program.graph import Graph, Node
from shared.program.jax_programs import CALLBACKS

Values = dict[Node, tuple[Any, ...]]


def evaluate(
    graph: Graph,
    leaves: Mapping[str, np.ndarray],
    inputs: Sequence[Any],
    wide: bool = True,
    casts: bool = True,
    nudges: Mapping[Node, float] = types.MappingProxyType({}),
) -> Values:
    """{node: its results} of a program.

    Args:
      graph: the program.
      leaves: {path: array} of the weights.
      inputs: the arrays of the inputs, flat.
      wide: in float64; otherwise in the types of the program.
      casts: whether casts to less than float32 round, in float64.
      nudges: {constant: what it is multiplied by}, in float64.
    """
    values: Values = {}
    # What XLA computes is computed in the types that are asked for. A program that was traced with
    # 64 bits has them.
    has_64_bits = jax.dtypes.canonicalize_dtype(np.float64) == np.float64
    with jax.enable_x64(wide or has_64_bits):
        for node in graph.nodes:
            if node.op == "constant":
                value = _constant(node, wide, casts)
                values[node] = (value * nudges[node] if node in nudges else value,)
            else:
                args = [values[arg][which] for arg, which in node.args]
                values[node] = _compute(node, args, leaves, inputs, wide, casts)
    return values


def computed_again(
    nodes: Sequence[Node], values: Values, changed: Values, casts: bool = True
) -> Values:
    """What becomes of a program where some values are others: those values and what changes.

    Args:
      nodes: what is computed, in order.
      values: of the program as it is, in float64.
      changed: {node: its results instead}.
      casts: as in `evaluate`.
    """
    found = dict(changed)
    with jax.enable_x64(True):
        for node in nodes:
            if node.params.get("of") in found and node.op == "constant":
                found[node] = (found[node.params["of"]][0].astype(_wide(node.avals[0].dtype)),)
            elif node not in found and any(arg in found for arg, _ in node.args):
                args = [found.get(arg, values[arg])[which] for arg, which in node.args]
                found[node] = _compute(node, args, {}, (), True, casts)
    return found


def result(node: Node, args: Sequence[Any]) -> tuple[Any, ...]:
    """What an operation makes of other operands of the same types."""
    return _compute(node, list(args), {}, (), wide=False, casts=True)


def _compute(
    node: Node,
    args: list[Any],
    leaves: Mapping[str, np.ndarray],
    inputs: Sequence[Any],
    wide: bool,
    casts: bool,
) -> tuple[Any, ...]:
    if node.op == "leaf":
        return (_held(leaves[node.params["path"]], wide),)
    if node.op == "input":
        return (_held(inputs[node.params["index"]], wide),)
    if node.primitive is None:
        return _take(node, args)
    if node.op == "convert_element_type" and wide:
        return (_convert(args[0], node.params["new_dtype"], casts),)
    if not any(map(_is_key, (*args, *node.avals))):
        full = [_held(arg, wide=True) for arg in args]
        made = numpy_operations.compute(node.op, full, node.params, node.avals[0])
        if made is not None:
            return (_held(made, wide) if wide else made.astype(node.avals[0].dtype),)
    return tuple(_held(x, wide) for x in _by_jax(node, args, wide))


def _by_jax(node: Node, args: list[Any], wide: bool) -> tuple[Any, ...]:
    """The results of an operation as JAX computes it, in float64 if it takes that."""
    # Put there, and not made by `jnp.asarray`, which compiles a program for each shape.
    as_written = [
        arg if _is_key(arg) else jax.device_put(np.asarray(arg).astype(source.avals[which].dtype))
        for arg, (source, which) in zip(args, node.args, strict=True)
    ]
    if not wide or node.op in CALLBACKS:
        results = node.primitive.bind(*as_written, **node.params)
    else:
        try:
            results = node.primitive.bind(*map(jax.device_put, args), **_wide_params(node.params))
        except (TypeError, ValueError, NotImplementedError, jax.errors.JaxRuntimeError):
            # It insists on its own types: a bit pattern, say, or a program within the program.
            results = node.primitive.bind(*as_written, **node.params)
    return tuple(results) if node.primitive.multiple_results else (results,)


def _constant(node: Node, wide: bool, casts: bool) -> Any:
    if wide and not casts and "exact" in node.params:
        return np.asarray(node.params["exact"], np.float64)
    value = node.params["value"]
    return _held(
        value if _is_key(node.avals[0]) else np.asarray(value).astype(node.avals[0].dtype), wide
    )


def _take(node: Node, args: list[Any]) -> tuple[Any, ...]:
    """A part of a leaf, of what a scan takes, or what it returns."""
    if node.op == "view":
        return (node.params["view"].of(args[0]),)
    if node.op == "choose":
        return (args[1 + choice_of(node, args[0])],)
    if node.op == "index":
        return (args[0][node.params["i"]],)
    if any(map(_is_key, args)):
        return (jnp.stack(args),)
    return (np.stack(args) if args else np.zeros(node.avals[0].shape, node.avals[0].dtype),)


def choice_of(node: Node, index: Any) -> int:
    """Which of the values that `node` may choose it takes."""
    return int(np.clip(int(index), 0, len(node.args) - 2))


def _convert(x: Any, dtype: Any, casts: bool) -> Any:
    if np.iscomplexobj(x) and not jnp.issubdtype(dtype, jnp.complexfloating):
        x = x.real  # as JAX does
    if casts and jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32:
        return x.astype(dtype).astype(np.float64)
    return x.astype(_wide(dtype))


@functools.cache
def _wide(dtype: Any) -> Any:
    if jnp.issubdtype(dtype, jnp.floating):
        return np.dtype(np.float64)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return np.dtype(np.complex128)
    return dtype


def _held(x: Any, wide: bool) -> Any:
    """`x` as it is held: an array of NumPy, in float64 if `wide`; a key as it is."""
    if _is_key(x):
        return x
    x = np.asarray(x)
    return x.astype(_wide(x.dtype), copy=False) if wide else x


def _is_key(x: Any) -> bool:
    if type(x) is np.ndarray:  # as nearly all are: the question takes long
        return False
    return hasattr(x, "dtype") and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def _wide_params(params: Mapping[str, Any]) -> dict[str, Any]:
    names = {"dtype", "preferred_element_type"}
    return {
        key: _wide(value) if key in names and value is not None else value
        for key, value in params.items()
    }

"""Scans, `while` loops and choices as operations of a flat graph."""

from collections.abc import Sequence
from typing import Any

from jax import lax

from shared.program.graph import Iteration, Layer, Stack, Turn, Value
from shared.program.indexing import known, taken
from shared.program.jax_programs import CALLS
from shared.program.source import users_place
from shared.program.tracer import Handler, Tracer, opened
from shared.program.view import any_layer

# A scan is unrolled unless that would make more operations than this.
MAX_UNROLLED = 100_000


def scan(
    tracer: Tracer,
    eqn: Any,
    args: list[Value],
    stack: Stack,
    layer: Layer,
) -> list[Value] | None:
    """A scan, unrolled if the tracer does so and that does not make too many operations."""
    if not tracer.unroll:
        return _rolled(tracer, eqn, args, stack, layer)
    size = eqn.params["length"] * _size(eqn.params["jaxpr"])
    return _unrolled(tracer, eqn, args, stack, layer) if size <= MAX_UNROLLED else None


def _unrolled(
    tracer: Tracer,
    eqn: Any,
    args: list[Value],
    stack: Stack,
    layer: Layer,
) -> list[Value]:
    """A scan, each iteration with operations of its own."""
    params = eqn.params
    body, consts = opened(params["jaxpr"])
    num_consts, num_carry = params["num_consts"], params["num_carry"]
    fixed, xs = args[:num_consts], args[num_consts + num_carry :]
    carry = args[num_consts : num_consts + num_carry]
    length = params["length"]
    ys: list[list[Value]] = [[] for _ in eqn.outvars[num_carry:]]
    order = range(length)
    place = users_place(stack)
    for i in reversed(order) if params["reverse"] else order:
        slices = [taken(tracer, x, i, stack, layer) for x in xs]
        inside = (*layer, Iteration(i, place, params["reverse"]))
        results = tracer.inline(body, consts, [*fixed, *carry, *slices], stack, inside)
        carry = results[:num_carry]
        for column, value in zip(ys, results[num_carry:], strict=True):
            column.append(value)
    stacked = []
    for var, column in zip(eqn.outvars[num_carry:], ys, strict=True):
        if params["reverse"]:
            column.reverse()
        made = tracer.node("stack", column, {}, (var.aval,), stack, layer)
        stacked.append((made, 0))
    return [*carry, *stacked]


def _rolled(
    tracer: Tracer,
    eqn: Any,
    args: list[Value],
    stack: Stack,
    layer: Layer,
) -> list[Value]:
    """A scan as the operations of any one of its iterations."""
    params = eqn.params
    body, consts = opened(params["jaxpr"])
    num_consts, num_carry = params["num_consts"], params["num_carry"]
    fixed, first = args[:num_consts], args[num_consts : num_consts + num_carry]
    depth = tracer.depth
    scan = {"depth": depth, "length": params["length"]}
    order = {**scan, "reverse": params["reverse"]}
    slices = [
        taken(tracer, x, any_layer(depth), stack, layer) for x in args[num_consts + num_carry :]
    ]
    carry = _carries(tracer, first, order, stack, layer)
    tracer.depth = depth + 1
    results = tracer.inline(body, consts, [*fixed, *carry, *slices], stack, layer)
    tracer.depth = depth
    made = []
    for i, (var, result) in enumerate(zip(eqn.outvars, results, strict=True)):
        if i < num_carry:
            tracer.feeds[carry[i][0]] = result
            op, operands, about = "last", [carry[i], result], order
        else:
            op, operands, about = "collect", [result], scan
        made.append((tracer.node(op, operands, about, (var.aval,), stack, layer), 0))
    return made


def choice(
    tracer: Tracer,
    eqn: Any,
    args: list[Value],
    stack: Stack,
    layer: Layer,
) -> list[Value]:
    """A choice as the results of all branches, and the operation that takes those of one."""
    index, *operands = args
    branches = [
        tracer.inline(*opened(branch), operands, stack, layer) for branch in eqn.params["branches"]
    ]
    return [
        _chosen(tracer, index, results, var.aval, stack, layer)
        for var, results in zip(eqn.outvars, zip(*branches, strict=True), strict=True)
    ]


def selection(
    tracer: Tracer,
    eqn: Any,
    args: list[Value],
    stack: Stack,
    layer: Layer,
) -> list[Value] | None:
    """`jnp.where` with one condition for all elements as a choice; None with more than one."""
    if (made := known(tracer, eqn, args, stack, layer)) is not None:
        return made
    index, *cases = args
    while index[0].op == "broadcast_in_dim":
        index = index[0].args[0]
    if index[0].avals[index[1]].shape:
        return None
    return [_chosen(tracer, index, cases, eqn.outvars[0].aval, stack, layer)]


def _chosen(
    tracer: Tracer, index: Value, cases: Sequence[Value], aval: Any, stack: Stack, layer: Layer
) -> Value:
    """One of `cases`; `cond` counts a condition that is true as 1, `where` takes it as it is."""
    if all(case == cases[0] for case in cases):
        return cases[0]
    node, _ = index
    if node.op == "convert_element_type":
        value, which = node.args[0]
        if value.avals[which].dtype == bool:
            index = node.args[0]
    return tracer.node("choose", [index, *cases], {}, (aval,), stack, layer), 0


def loop(
    tracer: Tracer,
    eqn: Any,
    args: list[Value],
    stack: Stack,
    layer: Layer,
) -> list[Value]:
    """A `while` as the operations of any one of its iterations; unrolled, of the first one.

    That one is followed by the loop over the others, which shows nothing of its body.
    """
    params, avals = eqn.params, [var.aval for var in eqn.outvars]
    num_cond, num_body = params["cond_nconsts"], params["body_nconsts"]
    fixed, first = args[: num_cond + num_body], args[num_cond + num_body :]
    depth = tracer.depth
    if tracer.unroll:
        carry = [_apart(tracer, value, fixed, stack, layer) for value in first]
    else:
        carry = _carries(tracer, first, {"while": depth}, stack, layer)
    tracer.depth = depth + 1
    test = [*fixed[:num_cond], *carry]
    (goes_on,) = tracer.inline(*opened(params["cond_jaxpr"]), test, stack, layer)
    turn = [*fixed[num_cond:], *carry]
    results = tracer.inline(*opened(params["body_jaxpr"]), turn, stack, layer)
    tracer.depth = depth
    if tracer.unroll:
        others = tracer.node(
            "while", [*fixed, *results], params, avals, stack, layer, eqn.primitive
        )
        others.turn = Turn(goes_on, tuple(carry), tuple(results))
        return [
            (tracer.node("choose", [goes_on, value, (others, i)], {}, (aval,), stack, layer), 0)
            for i, (value, aval) in enumerate(zip(first, avals, strict=True))
        ]
    tracer.feeds.update((node, value) for (node, _), value in zip(carry, results, strict=True))
    return [
        (tracer.node("last", [*both, goes_on], {}, (aval,), stack, layer), 0)
        for aval, *both in zip(avals, carry, results, strict=True)
    ]


def _carries(
    tracer: Tracer, first: Sequence[Value], order: dict, stack: Stack, layer: Layer
) -> list[Value]:
    """The carries of a loop in any iteration, of their first values."""
    return [
        (tracer.node("carry", [value], order, (value[0].avals[value[1]],), stack, layer), 0)
        for value in first
    ]


def _apart(
    tracer: Tracer, value: Value, fixed: Sequence[Value], stack: Stack, layer: Layer
) -> Value:
    """What a carry starts with: a value of its own where the loop takes it in other turns too."""
    node, which = value
    if value not in fixed or node in tracer.views or node.op in ("leaf", "constant"):
        return value
    aval = node.avals[which]
    params = {"new_sizes": aval.shape, "dimensions": None, "sharding": None}
    return tracer.node("reshape", [value], params, (aval,), stack, layer, lax.reshape_p), 0


def _size(jaxpr: Any) -> int:
    """How many operations `jaxpr` has, scans in it unrolled."""
    inner, _ = opened(jaxpr)
    total = 0
    for eqn in inner.eqns:
        name = eqn.primitive.name
        if name in CALLS and CALLS[name] in eqn.params:
            total += _size(eqn.params[CALLS[name]])
        elif name == "scan":
            total += eqn.params["length"] * _size(eqn.params["jaxpr"])
        elif name == "cond":
            total += sum(map(_size, eqn.params["branches"]))
        else:
            total += 1
    return total


HANDLERS: dict[str, Handler] = {
    "scan": scan,
    "while": loop,
    "cond": choice,
    "select_n": selection,
}

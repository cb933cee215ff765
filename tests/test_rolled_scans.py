"""Programs with scans are compared without unrolling them: what is proven so must be true.

The programs here are functions of JAX alone. Unrolled, two of them are the same or are not; rolled,
they must be found to be so in the same cases.
"""

import itertools

import jax
import jax.numpy as jnp
import pytest

from shared.program.canonical import Names, value_names_of_all
from shared.program.trace import trace
from shared.weights.entry import Entry, leaf_names

N = 3
LEAVES = {
    "w": jax.ShapeDtypeStruct((N, N), "float32"),
    "v": jax.ShapeDtypeStruct((N, N), "float32"),
}
ROW = jax.ShapeDtypeStruct((N,), "float32")


def two_carries(first, second):
    """Carries that start alike and go on unlike."""

    def function(p, x):
        def body(carry, w):
            a, b = carry
            return (first(a, b, w), second(a, b, w)), None

        (a, b), _ = jax.lax.scan(body, (x, x), p["w"])
        return a - b

    return function


def layers(body, over="w", reverse=False):
    def function(p, x):
        return jax.lax.scan(lambda c, w: (body(p, c, w), None), x, p[over], reverse=reverse)[0]

    return function


def outputs_of_layers(reverse=False, last=False):
    def function(p, x):
        _, ys = jax.lax.scan(lambda c, w: (c, x * w), x, p["w"], reverse=reverse)
        return ys[-1] if last else ys

    return function


def nested(inner_over, outer_over):
    """`inner_over` is sliced by the inner scan, `outer_over` by the outer one."""

    def function(p, x):
        def outer(c, w):
            def inner(d, v):
                return jnp.sin(d) + v * w, None

            return jax.lax.scan(inner, c, p[inner_over])[0], None

        return jax.lax.scan(outer, x, p[outer_over])[0]

    return function


def square(taken_by_inner):
    """A cell of a square leaf by both scans: row by the outer one or by the inner one."""

    def function(p, x):
        def outer(c, row):
            def inner(d, cell):
                return jnp.sin(d) + cell, None

            return jax.lax.scan(inner, c, row)[0], None

        w = p["w"].T if taken_by_inner else p["w"]
        return jax.lax.scan(outer, x, w)[0]

    return function


def one_of_two_slices(by_inner, computed=False):
    """Two scans of one length, one in the other: a stack sliced by the one or by the other."""

    def function(p, x):
        stack = jax.lax.scan(lambda c, w: (c, x * w), x, p["w"])[1] if computed else p["w"]

        def outer(c, outer_slice):
            def inner(d, inner_slice):
                return jnp.sin(d) + (inner_slice if by_inner else outer_slice), None

            return jax.lax.scan(inner, c, stack)[0], None

        return jax.lax.scan(outer, x, stack)[0]

    return function


def handed_on(p, x):
    """What the body needs is a carry that never changes."""
    (y, _), _ = jax.lax.scan(lambda c, w: ((jnp.tanh(c[0] * w + c[1]), c[1]), None), (x, x), p["w"])
    return y


def captured(p, x):
    return jax.lax.scan(lambda c, w: (jnp.tanh(c * w + x), None), x, p["w"])[0]


def in_two_scans(p, x):
    """The first scan stacks what the second one takes."""
    c, ys = jax.lax.scan(lambda c, w: (jnp.tanh(c * w), jnp.tanh(c * w)), x, p["w"])
    return jax.lax.scan(lambda c, y: (jnp.sin(c) + y, None), c, ys)[0]


def crossing_scans(p, x):
    """As `in_two_scans`, but the second takes the stack from its end."""
    c, ys = jax.lax.scan(lambda c, w: (jnp.tanh(c * w), jnp.tanh(c * w)), x, p["w"])
    return jax.lax.scan(lambda c, y: (jnp.sin(c) + y, None), c, ys[::-1])[0]


def stacked_sine(p, x):
    c, ys = jax.lax.scan(lambda c, w: (jnp.tanh(c * w), jnp.sin(c * w)), x, p["w"])
    return jax.lax.scan(lambda c, y: (jnp.tanh(c) + y, None), c, ys)[0]


def sine_of_the_stacked(p, x):
    c, ys = jax.lax.scan(lambda c, w: (jnp.tanh(c * w), c * w), x, p["w"])
    return jax.lax.scan(lambda c, y: (jnp.tanh(c) + jnp.sin(y), None), c, ys)[0]


def gradient(function):
    def of(p, x):
        return jax.grad(lambda p, x: function(p, x).sum(), argnums=(0, 1))(p, x)

    return of


def recurrent(swapped=False):
    """Shared weights: their gradients are carries that all start with zeros."""

    def function(p, x):
        def body(c, _):
            a, b = (p["v"], p["w"]) if swapped else (p["w"], p["v"])
            return jnp.tanh(c @ a) + jnp.sin(c @ b), None

        return jax.lax.scan(body, x, None, length=4)[0]

    return function


FAMILIES = {
    "two carries": {
        "a+w, b*w": two_carries(lambda a, b, w: a + w, lambda a, b, w: b * w),
        "a*w, b+w": two_carries(lambda a, b, w: a * w, lambda a, b, w: b + w),
        "b+w, a*w": two_carries(lambda a, b, w: b + w, lambda a, b, w: a * w),
        "a+w, b+w": two_carries(lambda a, b, w: a + w, lambda a, b, w: b + w),
        "b+w, a+w": two_carries(lambda a, b, w: b + w, lambda a, b, w: a + w),
    },
    "one layer": {
        "w": layers(lambda p, c, w: jnp.tanh(c * w)),
        "w twice": lambda p, x: layers(lambda p, c, w: jnp.tanh(c * w))(
            p, layers(lambda p, c, w: jnp.tanh(c * w))(p, x)
        ),
        "v": layers(lambda p, c, w: jnp.tanh(c * w), over="v"),
        "reversed": layers(lambda p, c, w: jnp.tanh(c * w), reverse=True),
        "sin": layers(lambda p, c, w: jnp.sin(c * w)),
        "with the first layer": layers(lambda p, c, w: jnp.tanh(c * w + p["w"][0])),
        "carry handed on": handed_on,
        "captured": captured,
        "stacked": in_two_scans,
        "stacked, from its end": crossing_scans,
        "stacked sine": stacked_sine,
        "sine of the stacked": sine_of_the_stacked,
    },
    "outputs": {
        "stacked": outputs_of_layers(),
        "stacked backwards": outputs_of_layers(reverse=True),
        "last": outputs_of_layers(last=True),
    },
    "nested": {
        "v in w": nested("v", "w"),
        "w in v": nested("w", "v"),
        "w in w": nested("w", "w"),
        "rows": square(False),
        "columns": square(True),
        "outer slice": one_of_two_slices(False),
        "inner slice": one_of_two_slices(True),
        "outer slice, computed": one_of_two_slices(False, computed=True),
        "inner slice, computed": one_of_two_slices(True, computed=True),
    },
    "recurrent": {"w, v": recurrent(), "v, w": recurrent(swapped=True)},
}
PAIRS = [
    pytest.param(FAMILIES[family][one], FAMILIES[family][other], id=f"{family}: {one} | {other}")
    for family in FAMILIES
    for one, other in itertools.combinations_with_replacement(FAMILIES[family], 2)
]


def same(one, other, unroll):
    names = Names()
    graphs = [
        trace(function, LEAVES, (ROW,), unroll)[0] for function in (unpack(one), unpack(other))
    ]
    entries = [Entry(view, view) for graph in graphs for view in graph.views.values()]
    if not unroll:
        entries = [
            Entry(layer, layer)
            for entry in entries
            for layer in entry.linen.layers(LEAVES[entry.linen.leaf].shape)
        ]
    leaves = [leaf_names(entries, graph, True) for graph in graphs]
    ups = value_names_of_all(names, graphs, leaves)
    outputs = [
        [(up[node], which) for node, which in graph.outputs]
        for graph, up in zip(graphs, ups, strict=True)
    ]
    return outputs[0] == outputs[1]


def unpack(function):
    return lambda leaves, inputs: function(leaves, *inputs)


# Exchanged carries: residuals that are equal are computed from carries with other names.
TOO_CAREFUL = "two carries: a+w, b+w | b+w, a+w"


@pytest.mark.one_in(2)
@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_forward_is_the_same_rolled_where_it_is_unrolled(one, other):
    assert same(one, other, unroll=False) == same(one, other, unroll=True)


@pytest.mark.one_in(3)
@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_gradients_are_the_same_rolled_where_they_are_unrolled(one, other, request):
    one, other = gradient(one), gradient(other)
    rolled, unrolled = same(one, other, unroll=False), same(one, other, unroll=True)
    if TOO_CAREFUL in request.node.name:
        assert (rolled, unrolled) == (False, True)
    else:
        assert rolled == unrolled

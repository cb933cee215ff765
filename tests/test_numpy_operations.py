"""Operations computed in NumPy are those of JAX: in float64, to the last few bits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from shared.program import numpy_operations
from shared.program.evaluate import evaluate
from shared.program.trace import trace

RNG = np.random.default_rng(0)
X, Y = (RNG.standard_normal((3, 4)).astype(np.float32) for _ in range(2))
POSITIVE, SMALL = np.abs(X) + 0.5, np.clip(X, -0.9, 0.9)
WHOLE, OTHER = (RNG.integers(-9, 9, (3, 4)).astype(np.int32) for _ in range(2))
COUNTS = np.abs(OTHER).astype(np.uint32)
TRUE, FALSE = X > 0, Y > 0
COMPLEX = (X + 1j * Y).astype(np.complex64)
CUBE = RNG.standard_normal((2, 3, 4)).astype(np.float32)
ODD = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 2.5, -2.5, 0.5], np.float32)


def plain(name, *args):
    return name, getattr(lax, name), args


def product(contracted, batched):
    return lambda x, y: lax.dot_general(x, y, (contracted, batched))


CASES = [
    *(plain(name, X) for name in ("neg", "sign", "abs", "exp", "exp2", "expm1", "sin", "cos")),
    *(plain(name, X) for name in ("tan", "sinh", "cosh", "tanh", "atan", "cbrt", "square")),
    *(plain(name, X) for name in ("floor", "ceil", "is_finite", "logistic", "erf", "erfc")),
    *(plain(name, POSITIVE) for name in ("log", "log1p", "sqrt", "rsqrt", "lgamma", "digamma")),
    *(plain(name, SMALL) for name in ("asin", "acos", "erf_inv")),
    *(plain(name, X, Y) for name in ("add", "sub", "mul", "div", "rem", "max", "min", "atan2")),
    *(plain(name, X, Y) for name in ("eq", "ne", "lt", "le", "gt", "ge")),
    *(plain(name, WHOLE, OTHER) for name in ("add", "sub", "mul", "div", "rem", "max", "eq")),
    *(plain(name, COUNTS, COUNTS[::-1].copy()) for name in ("add", "sub", "div", "rem")),
    *(plain(name, WHOLE) for name in ("neg", "sign", "abs")),
    *(("and", lax.bitwise_and, each) for each in ((TRUE, FALSE), (WHOLE, OTHER))),
    *(("or", lax.bitwise_or, each) for each in ((TRUE, FALSE), (WHOLE, OTHER))),
    *(("xor", lax.bitwise_xor, each) for each in ((TRUE, FALSE), (WHOLE, OTHER))),
    *(("not", lax.bitwise_not, (each,)) for each in (TRUE, WHOLE)),
    *(plain(name, COMPLEX) for name in ("real", "imag", "conj", "abs", "exp")),
    *(plain(name, ODD) for name in ("sign", "floor", "exp", "log", "tanh", "is_finite", "sqrt")),
    *(plain(name, ODD, ODD[::-1].copy()) for name in ("max", "min", "mul", "div", "lt")),
    plain("pow", POSITIVE, Y),
    plain("clamp", np.float32(-0.3), X, np.float32(0.4)),
    ("pow", lambda x: lax.pow(x, 3), (X,)),
    ("integer_pow", lambda x: lax.integer_pow(x, 3), (X,)),
    ("integer_pow", lambda x: lax.integer_pow(x, -2), (X,)),
    ("round", lambda x: lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN), (ODD,)),
    ("round", lambda x: lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO), (ODD,)),
    ("add_any", jax.grad(lambda x: jnp.sum(jnp.sin(x) * jnp.exp(x))), (X,)),
    ("stop_gradient", lax.stop_gradient, (X,)),
    ("select_n", lambda c, x, y: lax.select(c, x, y), (TRUE, X, Y)),
    ("select_n", lambda c, x, y: lax.select_n(c, x, y, -x), (np.abs(WHOLE) % 3, X, Y)),
    ("broadcast_in_dim", lambda x: lax.broadcast_in_dim(x, (3, 2, 4), (0, 2)), (X,)),
    ("broadcast_in_dim", lambda x: lax.broadcast_in_dim(x, (3, 4), (0, 1)), (X[:, :1],)),
    ("reshape", lambda x: lax.reshape(x, (2, 6)), (X,)),
    ("reshape", lambda x: lax.reshape(x, (2, 6), dimensions=(1, 0)), (X,)),
    ("squeeze", lambda x: lax.squeeze(x, (1,)), (X[:, None],)),
    ("transpose", lambda x: lax.transpose(x, (2, 0, 1)), (CUBE,)),
    ("rev", lambda x: lax.rev(x, (0, 2)), (CUBE,)),
    ("concatenate", lambda x, y: lax.concatenate([x, y], 1), (X, Y)),
    ("slice", lambda x: lax.slice(x, (0, 1), (3, 4), (2, 1)), (X,)),
    (
        "dynamic_slice",
        lambda x, i: lax.dynamic_slice(x, (i, np.int32(1)), (2, 3)),
        (X, np.int32(2)),
    ),
    (
        "dynamic_slice",
        lambda x, i: lax.dynamic_slice(x, (i, np.int32(1)), (2, 3)),
        (X, np.int32(0)),
    ),
    (
        "dynamic_update_slice",
        lambda x, y, i: lax.dynamic_update_slice(x, y[:2, :2], (i, i)),
        (X, Y, np.int32(3)),
    ),
    ("pad", lambda x: lax.pad(x, x.dtype.type(7), ((1, 2, 0), (0, 1, 2))), (X,)),
    ("pad", lambda x: lax.pad(x, x.dtype.type(7), ((-1, 2, 1), (1, -3, 0))), (X,)),
    ("iota", lambda x: lax.broadcasted_iota(jnp.int32, (3, 4), 1) + x, (WHOLE,)),
    ("reduce_sum", lambda x: jnp.sum(x, axis=(0, 2)), (CUBE,)),
    ("reduce_sum", lambda x: jnp.sum(x, axis=1), (WHOLE,)),
    ("reduce_prod", lambda x: jnp.prod(x, axis=1), (CUBE,)),
    ("reduce_max", lambda x: jnp.max(x, axis=(0, 1)), (CUBE,)),
    ("reduce_min", lambda x: jnp.min(x, axis=0), (WHOLE,)),
    ("reduce_max", jnp.max, (ODD,)),
    ("reduce_and", lambda x: jnp.all(x, axis=0), (TRUE,)),
    ("reduce_or", lambda x: jnp.any(x, axis=1), (TRUE,)),
    *(
        (name, functools.partial(getattr(lax, name), axis=1, reverse=turned), (X,))
        for name in ("cumsum", "cumprod", "cummax", "cummin")
        for turned in (False, True)
    ),
    ("argmax", lambda x: jnp.argmax(x, axis=1), (X,)),
    ("argmin", lambda x: jnp.argmin(x, axis=0), (WHOLE,)),
    ("dot_general", product(((1,), (1,)), ((), ())), (X, Y)),
    ("dot_general", product(((2,), (2,)), ((0,), (0,))), (CUBE, CUBE[:, ::-1].copy())),
    ("dot_general", product(((0, 2), (0, 2)), ((), ())), (CUBE, CUBE * 2)),
    ("dot_general", product(((1,), (0,)), ((), ())), (WHOLE, OTHER.T.copy())),
    ("dot_general", product(((0,), (0,)), ((), ())), (X[0], Y[0])),
    ("dot_general", product(((), ()), ((), ())), (X[0, 0], Y[0, 0])),
]


@pytest.mark.parametrize(("name", "function", "args"), CASES)
def test_it_is_what_jax_computes(name, function, args):
    graph, shape = trace(lambda leaves, inputs: function(*inputs), {}, args)
    assert name in {node.op for node in graph.nodes}
    values = evaluate(graph, {}, args)
    node, which = graph.outputs[0]
    received = values[node][which]
    wide = [
        x.astype({"f": np.float64, "c": np.complex128}.get(x.dtype.kind, x.dtype)) for x in args
    ]
    with jax.enable_x64(True):
        expected = np.asarray(function(*wide))
    assert received.shape == expected.shape == shape.shape
    assert received.dtype.kind == expected.dtype.kind
    np.testing.assert_allclose(received, expected, rtol=1e-12, atol=1e-14)


def test_every_operation_is_tested():
    ours = numpy_operations.NAMES - {"copy", "expand_dims"}  # of JAX's own making alone
    assert ours == {name for name, *_ in CASES}


@pytest.mark.parametrize("name", ["add", "reduce_sum", "dot_general"])
def test_a_wrong_operation_is_noticed(monkeypatch, name):
    monkeypatch.setitem(
        numpy_operations._OPERATIONS, name, lambda x, *_, params, aval: np.zeros(aval.shape)
    )
    case = next(case for case in CASES if case[0] == name)
    with pytest.raises(AssertionError):
        test_it_is_what_jax_computes(*case)


def test_a_narrow_evaluation_rounds_each_operation():
    args = (np.float32(1e8), np.float32(1.0))
    graph, _ = trace(lambda leaves, inputs: inputs[0] + inputs[1] - inputs[0], {}, args)
    (node, _), last = graph.outputs[0], float
    assert last(evaluate(graph, {}, args)[node][0]) == 1.0
    assert last(evaluate(graph, {}, args, wide=False)[node][0]) == 0.0

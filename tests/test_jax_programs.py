"""What the project takes for granted of JAX's programs holds in the JAX that is installed."""

import inspect

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax._src.interpreters import mlir
from jax.extend.core import primitives

from shared.program import jax_programs
from shared.program.trace import trace

# Names that are no `lax` primitive: our own, those of `jax.random`, `stop_gradient` of ad_util.
ELSEWHERE = {
    *("index", "expand_dims", "add_any", "stop_gradient", "random_bits", "threefry2x32"),
    *("random_gamma", "random_gamma_grad"),
}


@pytest.mark.parametrize("name", ["COMMUTATIVE", "ELEMENTWISE", "RANDOM", "RESHAPES", "SELECTIONS"])
def test_primitives_have_the_names_that_are_listed(name):
    listed = getattr(jax_programs, name) - ELSEWHERE
    assert [op for op in sorted(listed) if not hasattr(lax, f"{op}_p")] == []


CATEGORIES = (
    *("CALLS", "CONTROL_FLOW", "SAME_VALUE", "REWRITTEN", "RESHAPES", "REDUCTIONS", "MOVES"),
    *("PRODUCTS", "ELEMENTWISE", "SAME_OPERATION"),
)


def every_primitive():
    """The names of those that are public, and of those that JAX can lower."""
    public = {
        getattr(module, name).name
        for module in (lax, primitives)
        for name in dir(module)
        if name.endswith("_p")
    }
    return public | {primitive.name for primitive in mlir._lowerings}


def test_every_primitive_is_known_or_opaque_with_its_reason():
    known = set().union(*(getattr(jax_programs, name) for name in CATEGORIES))
    opaque = set().union(*jax_programs.OPAQUE.values())
    assert not known & opaque
    assert every_primitive() <= known | opaque, every_primitive() - known - opaque


def test_a_primitive_that_is_new_is_noticed(monkeypatch):
    monkeypatch.setattr(jax_programs, "REWRITTEN", {"split"})
    with pytest.raises(AssertionError, match="'tile'"):
        test_every_primitive_is_known_or_opaque_with_its_reason()


@jax.custom_vjp
def with_rule(x):
    return jnp.sin(x)


with_rule.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),))

CALLS = {
    "jit": jax.jit(jnp.sin),
    "custom_jvp": lambda x: jax.nn.relu(x),
    "custom_vjp": with_rule,
    "remat": jax.checkpoint(jnp.sin),
    "scan": lambda x: lax.scan(lambda c, _: (jnp.sin(c), None), x, None, length=3)[0],
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_are_opened(name):
    graph, _ = trace(lambda leaves, inputs: CALLS[name](inputs[0]), {}, (jnp.ones(3),))
    ops = {node.op for node in graph.nodes}
    assert ops <= {"input", "constant", "sin", "max"}


def test_a_split_is_slices():
    graph, _ = trace(lambda leaves, inputs: jnp.split(inputs[0], 3), {}, (jnp.ones(6),))
    assert [node.op for node in graph.nodes] == ["input", "slice", "slice", "slice"]


def test_an_operation_knows_its_line_and_column():
    def double(x):
        return jnp.sin(jnp.sin(x))

    closed = jax.make_jaxpr(double)(1.0)
    first, second = (
        next(f for f in jax_programs.frames(eqn.source_info.traceback) if f[0] == __file__)
        for eqn in closed.jaxpr.eqns
    )
    lines, start = inspect.getsourcelines(double)
    assert first[1] == second[1] == start + 1
    text = lines[1]
    assert {first[3], second[3]} == {text.index("jnp.sin(jnp"), text.index("jnp.sin(x)")}

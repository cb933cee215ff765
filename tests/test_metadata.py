"""Names of axes are compared, moved as the weights are."""

import jax
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, verify
from shared.report.result import PASSES

N, F, H = 3, 4, 6
X = (jax.ShapeDtypeStruct((2, F), "float32"),)
init = nn.initializers.lecun_normal()


class Block(nn.Module):
    box: object = nn.with_logical_partitioning

    @nn.compact
    def __call__(self, x, _=None):
        up = self.param("up", self.box(init, ("embed", "mlp")), (F, H))
        down = self.param("down", init, (H, F))
        return x + nn.relu(x @ up) @ down, None


class Stack(nn.Module):
    axis: int = 0
    name_of_stack: str | None = "layers"

    @nn.compact
    def __call__(self, x):
        layers = nn.scan(
            Block,
            variable_axes={"params": self.axis},
            split_rngs={"params": True},
            length=N,
            metadata_params={nn.PARTITION_NAME: self.name_of_stack},
        )
        return layers(name="layers")(x, None)[0]


class PortBlock(nnx.Module):
    def __init__(self, rngs, names=("embed", "mlp")):
        self.up = nnx.Param(init(rngs.params(), (F, H)), out_sharding=names)
        self.down = nnx.Param(init(rngs.params(), (H, F)))

    def __call__(self, x):
        return x + nnx.relu(x @ self.up[...]) @ self.down[...]


class PortStack(nnx.Module):
    def __init__(self, rngs, axis=0, name="layers", names=("embed", "mlp")):
        self.axis, told = axis, {} if name is None else {nnx.PARTITION_NAME: name}
        make = nnx.vmap(lambda rngs: PortBlock(rngs, names), out_axes=axis, transform_metadata=told)
        self.layers = make(rngs.split(N))
        self.told = told

    def __call__(self, x):
        axes = (nnx.Carry, self.axis)
        run = nnx.scan(
            lambda x, layer: layer(x),
            in_axes=axes,
            out_axes=nnx.Carry,
            transform_metadata=self.told,
        )
        return run(x, self.layers)


class PortList(nnx.Module):
    def __init__(self, rngs, names=("embed", "mlp")):
        self.layers = nnx.List([PortBlock(rngs, names) for _ in range(N)])

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def compared(linen, build):
    return verify(Pair(linen, lambda rngs: build(rngs), X), ("programs", "metadata"), samples=1)


SAME = {
    "stacked alike": (Stack(), PortStack),
    "on another axis": (Stack(axis=1), PortStack),
    "on another axis, the reverse": (Stack(), lambda rngs: PortStack(rngs, axis=1)),
    "a list": (Stack(), PortList),
    "a list, of another axis": (Stack(axis=1), PortList),
    "a stack without a name": (Stack(name_of_stack=None), lambda rngs: PortStack(rngs, name=None)),
}


@pytest.mark.parametrize("way", SAME)
def test_names_are_moved_with_the_weights(way):
    linen, build = SAME[way]
    if way == "a stack without a name":

        def build(rngs):
            port = PortStack(rngs, name=None)
            port.layers.up.set_metadata("out_sharding", (None, "embed", "mlp"))
            return port

    found = compared(linen, build)
    assert found.verdict in PASSES, found.checks[-1]
    assert found.checks[-1].name == "metadata"


OTHER = {
    "exchanged": (Stack(), lambda rngs: PortStack(rngs, names=("mlp", "embed")), "self.up ="),
    "exchanged, in a list": (Stack(), lambda rngs: PortList(rngs, ("mlp", "embed")), "self.up ="),
    "lost": (Stack(), lambda rngs: PortStack(rngs, names=None), "self.up ="),
    "one lost": (Stack(), lambda rngs: PortStack(rngs, names=("embed", None)), "self.up ="),
    "of the stack, lost": (Stack(), lambda rngs: PortStack(rngs, name=None), "self.layers = make("),
    "of the stack, another": (
        Stack(),
        lambda rngs: PortStack(rngs, name="stages"),
        "self.layers = make(",
    ),
}


@pytest.mark.parametrize("way", OTHER)
def test_other_names_are_different(way):
    linen, build, line = OTHER[way]
    found = compared(linen, build)
    assert (found.verdict, found.remark) == ("different", "equal but for sharding")
    assert "('layers', 'embed', 'mlp') in Linen" in found.checks[-1].note
    assert 'self.param("up"' in found.divergence.linen.source
    assert line in found.divergence.nnx.source


def test_a_statement_that_sets_other_names_is_named():
    def build(rngs):
        port = PortStack(rngs)
        port.layers.up.set_metadata("out_sharding", ("layers", "mlp", "embed"))
        return port

    found = compared(Stack(), build)
    assert "set_metadata" in found.divergence.nnx.source


def test_names_that_only_the_port_has_are_said():
    class Plain(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Block(lambda init, names: init)(x)[0]

    found = compared(Plain(), PortBlock)
    assert found.verdict == "identical"
    assert found.checks[-1].note == "only NNX names axes of params/up"


def test_without_names_there_is_no_such_check():
    class Plain(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Block(lambda init, names: init)(x)[0]

    found = compared(Plain(), lambda rngs: PortBlock(rngs, names=None))
    assert "metadata" not in [check.name for check in found.checks]


def test_partitioned_params_of_a_mesh():
    box = nn.with_partitioning

    class One(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Block(box)(x)[0]

    assert compared(One(), PortBlock).verdict == "identical"
    found = compared(One(), lambda rngs: PortBlock(rngs, names=("mlp", "embed")))
    assert found.verdict == "different"


MESH = jax.make_mesh((1, 1), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)


def asking(*names):
    spec = jax.sharding.NamedSharding(MESH, jax.sharding.PartitionSpec(*names))
    return lambda x: jax.lax.with_sharding_constraint(x, spec)


class Asks(nn.Module):
    ask: object

    @nn.compact
    def __call__(self, x):
        return nn.Dense(H)(self.ask(x))


class PortAsks(nnx.Module):
    def __init__(self, rngs, ask):
        self.dense, self.ask = nnx.Linear(F, H, rngs=rngs), ask

    def __call__(self, x):
        return self.dense(self.ask(x))


def test_shardings_that_calls_ask_for_are_compared():
    same = compared(Asks(asking("data")), lambda rngs: PortAsks(rngs, asking("data", None)))
    assert (same.verdict, same.checks[-1].name) == ("identical", "metadata")
    found = compared(Asks(asking("data")), lambda rngs: PortAsks(rngs, asking(None, "model")))
    assert found.verdict == "different"
    assert found.divergence.reason == (
        "sharding of (2, 4): ('data', None) in Linen, (None, 'model') in NNX"
    )
    assert "with_sharding_constraint(x, spec)" in found.divergence.nnx.source


def test_a_sharding_that_one_side_asks_for_is_named():
    found = compared(Asks(asking("data")), lambda rngs: PortAsks(rngs, lambda x: x))
    assert found.verdict == "identical"
    assert "only Linen asks for the sharding ('data', None) of (2, 4)" in found.checks[-1].note

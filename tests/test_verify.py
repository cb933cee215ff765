"""`verify` passes ports that are right, whatever their names and layout, and says what it knows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from helpers import assert_identical

import shared
from shared import Pair, WeightMap, find_weight_map, verify
from shared.cases import CASES
from shared.errors import CorruptFileError, InputError
from shared.models.pure_pair import pure_case, pure_pair
from shared.report.result import PASSES, DifferentError
from shared.trees import flatten, unflatten
from tests.ports import convnet, mlp, stacks, transformer

X = (jax.ShapeDtypeStruct((4, 6), "float32"),)


# That all have the same programs: tests/test_programs.py.
@pytest.mark.quick("shared", "dropout")
@pytest.mark.parametrize("name", CASES)
def test_built_in_cases_are_identical(name):
    assert verify(pure_case(CASES[name]), samples=1).verdict == "identical"


@pytest.mark.quick("mlp", "convnet")
@pytest.mark.parametrize(
    "pair",
    [mlp.PAIR, transformer.PAIR, convnet.PAIR, convnet.TRAINING],
    ids=["mlp", "transformer", "convnet", "convnet training"],
)
def test_ports_that_are_right_pass(pair):
    found = verify(pair, samples=1)
    assert found.verdict in PASSES, found
    assert found.divergence is None
    assert found.raise_if_different() is found


@pytest.mark.quick("scan to list", "axis 1 to attributes", "nested to axis 1")
@pytest.mark.parametrize("name", stacks.PAIRS)
def test_a_stack_in_any_layout_passes_and_is_mapped_in_order(name):
    found = verify(stacks.PAIRS[name], checks=("programs", "forward"), samples=1)
    assert found.verdict in ("identical", "equal"), found
    weights = find_weight_map(stacks.PAIRS[name])
    variables = unflatten(
        {
            path: np.arange(np.prod(spec.shape), dtype=np.float32).reshape(spec.shape)
            for path, spec in weights.linen.items()
        }
    )
    assert_identical(variables, weights.to_linen(weights.to_nnx(variables)))


@pytest.mark.parametrize("name", ["scan to stack", "axis 1 to stack", "scan to axis 1"])
def test_what_is_scanned_on_both_sides_is_not_unrolled(name):
    found = verify(stacks.PAIRS[name], checks=("structure", "programs"))
    assert found.verdict == "identical"
    assert not found.ported.is_unrolled
    assert len(found.ported.linen_program.graph.nodes) < stacks.N
    assert len(found.ported.entries) == 2 * stacks.N


def test_layers_that_run_backwards_are_different_and_the_remark_says_how():
    found = verify(stacks.BACKWARDS)
    assert (found.verdict, found.remark) == (
        "different",
        "equal if the layer axis were reversed",
    )
    assert "reverse=True" in found.divergence.nnx.source
    with pytest.raises(DifferentError, match=r"reversed.*stacks\.py:\d+: .*reverse=True"):
        found.raise_if_different()


class Attend(nn.Module):
    @nn.compact
    def __call__(self, x):
        q, k = nn.Dense(6, name="query")(x), nn.Dense(6, name="key")(x)
        return jax.nn.softmax(q @ k.T) @ x


class AttendPort(nnx.Module):
    def __init__(self, rngs, swapped=False):
        self.key = nnx.Linear(6, 6, rngs=rngs)
        self.query = nnx.Linear(6, 6, rngs=rngs)
        self.swapped = swapped

    def __call__(self, x):
        k, q = self.key(x), self.query(x)
        if self.swapped:
            q, k = k, q
        return jax.nn.softmax(q @ k.T) @ x


def test_query_and_key_are_told_apart_by_what_becomes_of_them():
    found = verify(Pair(Attend(), lambda rngs: AttendPort(rngs), X))
    assert found.verdict in ("equal", "close")  # the gradients are summed in another order
    rows = {row["linen"]: row["nnx"] for row in found.rows}
    assert rows["params/query/kernel"] == "params/query/kernel"


def test_query_in_the_place_of_key_is_different_and_the_remark_says_so():
    found = verify(Pair(Attend(), lambda rngs: AttendPort(rngs, swapped=True), X))
    assert found.verdict == "different"
    assert found.remark == "equal if query and key were exchanged"


def test_a_user_may_pin_weights():
    crossed = {
        f"params/{a}/{leaf}": f"params/{b}/{leaf}"
        for a, b in (("query", "key"), ("key", "query"))
        for leaf in ("kernel", "bias")
    }
    pair = Pair(Attend(), lambda rngs: AttendPort(rngs, swapped=True), X, weight_map=crossed)
    assert verify(pair).verdict in PASSES


class Scale(nn.Module):
    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.ones, ())
        return {"y": x * scale, "sum": x.sum()}


class ScalePort(nnx.Module):
    def __init__(self):
        self.scale = nnx.Param(jnp.ones(()))

    def __call__(self, x):
        return {"y": self.scale * x, "sum": x.sum()}


def test_raw_scalar_params_and_dict_outputs():
    assert verify(Pair(Scale(), lambda rngs: ScalePort(), X)).verdict == "identical"


class Sine(nn.Module):
    @nn.compact
    def __call__(self, x):
        return jnp.sin(x)


class SinePort(nnx.Module):
    def __call__(self, x):
        return jnp.sin(x)


def test_a_model_without_weights():
    assert verify(Pair(Sine(), lambda rngs: SinePort(), X), samples=1).verdict == "identical"


def test_an_extra_weight_is_named():
    class Port(ScalePort):
        def __init__(self):
            super().__init__()
            self.shift = nnx.Param(jnp.zeros(6))

        def __call__(self, x):
            return {"y": self.scale * x + self.shift, "sum": x.sum()}

    found = verify(Pair(Scale(), lambda rngs: Port(), X))
    assert (found.verdict, found.unmatched_nnx) == ("different", ["params/shift"])
    assert "self.shift" in found.divergence.nnx.source
    with pytest.raises(DifferentError, match="params/shift"):
        find_weight_map(Pair(Scale(), lambda rngs: Port(), X))


def test_outputs_of_another_structure_are_different():
    pair = Pair(Scale(), lambda rngs: ScalePort(), X, nnx_output=lambda out: out["y"])
    found = verify(pair)
    assert found.verdict == "different"
    assert "output['sum']: float32[] in Linen, nothing in NNX" in found.checks[0].note


def test_not_a_number_is_undecided():
    class Root(nn.Module):
        @nn.compact
        def __call__(self, x):
            return jnp.sqrt(-jnp.abs(nn.Dense(3)(x)) - 1)

    class RootPort(nnx.Module):
        def __init__(self, rngs):
            self.dense = nnx.Linear(6, 3, rngs=rngs)

        def __call__(self, x):
            return jnp.sqrt(-1 - jnp.abs(self.dense(x)))

    found = verify(Pair(Root(), lambda rngs: RootPort(rngs), X), checks=("forward",))
    assert found.verdict == "undecided"


def test_random_state_is_reported_apart():
    assert verify(convnet.PAIR, checks=(), samples=1).rng_leaves == [
        "rng/drop/rngs/count",
        "rng/drop/rngs/key",
    ]


class Sowing(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(6)(x)
        self.sow("intermediates", "hidden", x)
        return nn.Dropout(0.5, deterministic=not train)(x)


class SowingPort(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(6, 6, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x, train):
        return self.drop(self.dense(x), deterministic=not train)


def sowing(train, train_port):
    return Pair(
        Sowing(),
        lambda rngs: SowingPort(rngs),
        X,
        linen_kwargs={"train": train},
        nnx_kwargs={"train": train_port},
    )


def test_what_only_one_side_returns_is_named():
    found = verify(sowing(False, False), samples=1)
    assert found.verdict == "identical"
    note = next(check.note for check in found.checks if check.name == "updates")
    assert note == "not compared, for only one side has it: intermediates/hidden/0"


def test_random_draws_on_both_sides_are_paired_and_on_one_side_are_different():
    both = verify(sowing(True, True), samples=1)
    assert both.verdict == "identical"
    assert both.checks[0].note == "1 random draw paired"
    one = verify(sowing(False, True), samples=1)
    assert one.verdict == "different"
    assert one.divergence.nnx.source.startswith("return self.drop(")


class KeyedByWeights(nn.Module):
    """Draws of a key that is a weight: nobody knows it before it is loaded."""

    @nn.compact
    def __call__(self, x):
        key = self.variable("state", "key", lambda: jnp.zeros(2, jnp.uint32)).value
        return nn.Dense(6)(x) + jax.random.normal(jax.random.wrap_key_data(key), x.shape)


class KeyedByWeightsPort(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(6, 6, rngs=rngs)
        self.key = nnx.Variable(jnp.zeros(2, jnp.uint32))

    def __call__(self, x):
        key = jax.random.fold_in(jax.random.wrap_key_data(self.key[...]), 1)
        return self.dense(x) + jax.random.normal(key, x.shape)


def test_draws_of_keys_that_are_weights_are_undecided():
    pair = Pair(KeyedByWeights(), lambda rngs: KeyedByWeightsPort(rngs), X)
    found = verify(pair, samples=1)
    assert found.verdict == "undecided"
    with pytest.raises(
        DifferentError, match="undecided; both models draw of keys that are made of"
    ):
        found.raise_if_different()


class Experts(nn.Module):
    @nn.compact
    def __call__(self, x):
        gate = jax.nn.softmax(nn.Dense(3, name="gate")(x))
        expert = nn.vmap(
            nn.Dense,
            in_axes=None,
            out_axes=0,
            axis_size=3,
            variable_axes={"params": 0},
            split_rngs={"params": True},
        )
        return jnp.einsum("be,ebf->bf", gate, expert(6, name="experts")(x))


class ExpertsPort(nnx.Module):
    def __init__(self, rngs):
        def expert(rngs):
            return nnx.Linear(6, 6, rngs=rngs)

        self.experts = nnx.vmap(expert)(rngs.split(3))
        self.gate = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        gate = jax.nn.softmax(self.gate(x))
        y = nnx.vmap(lambda m, x: m(x), in_axes=(0, None))(self.experts, x)
        return jnp.einsum("be,ebf->bf", gate, y)


class Decode(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.MultiHeadDotProductAttention(2, decode=True)(x)


class DecodePort(nnx.Module):
    def __init__(self, rngs):
        self.attention = nnx.MultiHeadAttention(2, 8, decode=True, rngs=rngs)
        self.attention.init_cache((2, 1, 8))

    def __call__(self, x):
        return self.attention(x)


class Half(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, dtype=jnp.bfloat16)(nn.gelu(nn.Dense(8, dtype=jnp.bfloat16)(x)))


class HalfPort(nnx.Module):
    def __init__(self, rngs):
        self.up = nnx.Linear(6, 8, dtype=jnp.bfloat16, rngs=rngs)
        self.down = nnx.Linear(8, 3, dtype=jnp.bfloat16, rngs=rngs)

    def __call__(self, x):
        return self.down(nnx.gelu(self.up(x)))


def partitioned(linear, module):
    def initializer(shapes):
        return module.with_partitioning(module.initializers.lecun_normal(), shapes)

    return linear(initializer((None, "model")))


class Boxed(nn.Module):
    @nn.compact
    def __call__(self, x):
        return partitioned(lambda init: nn.Dense(3, kernel_init=init), nn)(x)


class BoxedPort(nnx.Module):
    def __init__(self, rngs):
        self.dense = partitioned(lambda init: nnx.Linear(6, 3, kernel_init=init, rngs=rngs), nnx)

    def __call__(self, x):
        return self.dense(x)


class Einsum(nn.Module):
    @nn.compact
    def __call__(self, x):
        w = self.param("w", nn.initializers.normal(), (6, 2, 3))
        return jnp.einsum("bf,fhk->bhk", x, w).reshape(x.shape[0], -1)


class ReshapePort(nnx.Module):
    def __init__(self):
        self.w = nnx.Param(jnp.zeros((6, 2, 3)))

    def __call__(self, x):
        return x @ self.w[...].reshape(6, 6)


class Remat(nn.Module):
    @nn.compact
    def __call__(self, x):
        block = nn.remat(stacks.Layer, prevent_cse=False)
        scan = nn.scan(block, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        return scan()(x, None)[0]


class RematPort(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([stacks.PortLayer(rngs) for _ in range(3)])

    def __call__(self, x):
        for layer in self.layers:
            x = nnx.remat(lambda layer, x: layer(x))(layer, x)
        return x


HARD = {
    "vmapped experts": Pair(Experts(), lambda rngs: ExpertsPort(rngs), X),
    "attention with a cache": Pair(
        Decode(), lambda rngs: DecodePort(rngs), (jax.ShapeDtypeStruct((2, 1, 8), "float32"),)
    ),
    "bfloat16": Pair(Half(), lambda rngs: HalfPort(rngs), X),
    "boxed params without a mesh": Pair(Boxed(), lambda rngs: BoxedPort(rngs), X),
    "other operations, equal values": Pair(Einsum(), lambda rngs: ReshapePort(), X),
    "remat in a scan against a loop": Pair(Remat(), lambda rngs: RematPort(rngs), X),
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", HARD)
def test_hard_pairs_pass(name):
    found = verify(HARD[name], samples=1)
    assert found.verdict in PASSES, found


def test_given_limits_decide_instead_of_float64():
    class Port(mlp.Port):
        def __call__(self, x):
            return super().__call__(x) * 1.0001

    pair = Pair(mlp.MLP(), lambda rngs: Port(rngs), mlp.PAIR.inputs)
    checks = ("forward",)
    assert verify(pair, checks=checks).verdict == "different"
    loose = shared.Limits(rtol=1e-3, atol=0.0)
    assert verify(pair, checks=checks, limits=loose).verdict == "close"
    tight = shared.Limits(rtol=1e-6, atol=0.0)
    assert verify(pair, checks=checks, limits=tight).verdict == "different"


def test_tracing_takes_no_memory_for_weights():
    class Wide(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(200_000)(nn.Dense(200_000)(x))

    class WidePort(nnx.Module):
        def __init__(self, rngs):
            self.a = nnx.Linear(6, 200_000, rngs=rngs)
            self.b = nnx.Linear(200_000, 200_000, rngs=rngs)

        def __call__(self, x):
            return self.b(self.a(x))

    found = verify(Pair(Wide(), lambda rngs: WidePort(rngs), X), checks=("structure", "programs"))
    assert sum(np.prod(row["linen_shape"]) for row in found.rows) > 4e10
    assert found.checks[0].status == "equal"


@pytest.mark.thorough
def test_weight_map_keeps_every_number_and_refuses_the_rest(tmp_path):
    weights = find_weight_map(transformer.PAIR)
    path = tmp_path / "map.json"
    weights.save(str(path))
    again = WeightMap.load(str(path))
    assert again.entries == weights.entries
    model = transformer.LM()
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, transformer.T), int))
    moved = again.to_nnx(variables)
    assert_identical(variables, again.to_linen(moved))

    port = transformer.Port(nnx.Rngs(0))
    state = nnx.state(port, nnx.Param)
    nnx.replace_by_pure_dict(state, nnx.restore_int_paths(moved["params"]))
    nnx.update(port, state)
    tokens = jnp.arange(2 * transformer.T).reshape(2, -1) % transformer.V
    received = nnx.jit(lambda port, tokens: port(tokens))(port, tokens)
    expected = jax.jit(model.apply)(variables, tokens)
    np.testing.assert_allclose(expected, received, rtol=2e-5, atol=2e-6)

    leaves = flatten(variables)
    leaves.pop("params/LayerNorm_0/bias")
    with pytest.raises(InputError, match="params/LayerNorm_0/bias: missing"):
        weights.to_nnx(unflatten(leaves))
    path.write_text("{}")
    with pytest.raises(CorruptFileError, match="not a weight map"):
        WeightMap.load(str(path))


def test_nothing_of_flax_is_behind_the_pair():
    pure = pure_pair(mlp.PAIR)
    assert all(isinstance(spec, jax.ShapeDtypeStruct) for spec in pure.linen.leaves.values())


class Logarithm(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = nn.Dense(6)(x)
        h = jnp.log(h)
        return nn.Dense(6)(h)


class LogarithmPort(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(6, 6, rngs=rngs)
        self.last = nnx.Linear(6, 6, rngs=rngs)

    def __call__(self, x):
        return self.last(jnp.log(self.first(x)))


def test_the_first_nan_is_named():
    found = verify(Pair(Logarithm(), lambda rngs: LogarithmPort(rngs), X), checks=("forward",))
    assert found.verdict == "undecided"
    assert found.remark.startswith("the first NaN of Linen: log")
    assert found.divergence.linen.source == "h = jnp.log(h)"


def test_what_a_failed_assertion_shows_is_short():
    found = verify(transformer.PAIR, samples=1, checks=("structure", "programs"))
    assert len(repr(found)) < 20_000
    graph = found.ported.linen_program.graph
    assert len(repr(graph)) + len(repr(graph.nodes[-1])) < 100

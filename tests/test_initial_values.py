"""What models start with is compared: tables exactly, random numbers by their distributions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from scipy import stats

from shared import Pair, verify
from shared.program.canonical import Names
from shared.program.distribution import name_of
from shared.program.draws import Draws
from shared.program.made_of import Terms
from shared.program.trace import trace
from shared.report.result import PASSES
from shared.verification import same_distribution, start
from tests.ports import resnet, transformer

F, N = 8, 3
X = (jax.ShapeDtypeStruct((4, F), "float32"),)
FASTER = np.linspace(1.0, 2.0, F, dtype=np.float32)
random, initializers = jax.random, nnx.initializers


class Waves(nn.Module):
    @nn.compact
    def __call__(self, x):
        rates = self.variable("tables", "rates", lambda: jnp.linspace(0.0, 1.0, F))
        return nn.Dense(F)(x) * jnp.cos(rates.value)


class Table(nnx.Variable):
    pass


class PortWaves(nnx.Module):
    def __init__(self, rates, rngs):
        self.dense = nnx.Linear(F, F, rngs=rngs)
        self.rates = Table(rates)

    def __call__(self, x):
        return self.dense(x) * jnp.cos(self.rates[...])


def waves(rates, **more):
    return Pair(Waves(), lambda rngs: PortWaves(rates, rngs), X, **more)


def test_a_table_with_other_numbers_is_different():
    found = verify(waves(FASTER), samples=1)
    assert (found.verdict, found.remark) == ("different", "equal with the same weights")
    assert "rates = self.variable" in found.divergence.linen.source
    assert "self.rates = Table(rates)" in found.divergence.nnx.source


def test_a_pair_whose_weights_are_loaded_may_start_otherwise():
    found = verify(waves(FASTER, initial="loaded"), samples=1)
    assert found.verdict == "identical"
    assert found.remark == "starts otherwise in NNX, load it: Table/rates"
    assert found.checks[-1].status == "undecided"


def test_the_check_can_be_left_out():
    assert verify(waves(FASTER), ("programs", "forward"), samples=1).verdict == "identical"


def test_a_table_that_numpy_made_is_the_same():
    assert verify(waves(np.linspace(0.0, 1.0, F, dtype=np.float32)), samples=1).remark == ""


@pytest.mark.parametrize("pair", [resnet.PAIR, transformer.PAIR], ids=["resnet", "transformer"])
def test_statistics_and_params_start_alike(pair):
    found = verify(pair, samples=1, checks=("structure", "programs", "initial"))
    assert [(check.name, check.status) for check in found.checks[-1:]] == [("initial", "identical")]


class One(nn.Module):
    kernel: object = initializers.lecun_normal()
    bias: object = initializers.zeros

    @nn.compact
    def __call__(self, x):
        return nn.Dense(F, kernel_init=self.kernel, bias_init=self.bias)(x)


class PortOne(nnx.Module):
    def __init__(self, rngs, kernel, bias):
        self.dense = nnx.Linear(F, F, kernel_init=kernel, bias_init=bias, rngs=rngs)

    def __call__(self, x):
        return self.dense(x)


def of_kernels(linen, nnx_kernel, bias=initializers.zeros, port_bias=initializers.zeros):
    pair = Pair(One(linen, bias), lambda rngs: PortOne(rngs, nnx_kernel, port_bias), X)
    return verify(pair, ("programs", "initial"), samples=1)


def by_hand(scale):
    return lambda key, shape, dtype=jnp.float32: scale * random.normal(key, shape, dtype)


def box_muller(scale):
    """Normal numbers of two uniform ones."""

    def init(key, shape, dtype=jnp.float32):
        one, other = (random.uniform(k, shape, dtype, 1e-7) for k in random.split(key))
        return scale * jnp.sqrt(-2 * jnp.log(one)) * jnp.cos(2 * jnp.pi * other)

    return init


NORMAL, LECUN = initializers.normal(0.02), initializers.lecun_normal()
ALIKE = {
    "the default": (LECUN, initializers.variance_scaling(1.0, "fan_in", "truncated_normal")),
    "by hand": (NORMAL, by_hand(0.02)),
    "with the other sign": (NORMAL, by_hand(-0.02)),
    "uniform": (
        initializers.uniform(0.1),
        lambda key, shape, dtype=jnp.float32: random.uniform(key, shape, dtype, 0, 0.1),
    ),
    "of two draws": (NORMAL, box_muller(0.02)),
    "orthogonal": (initializers.orthogonal(), initializers.orthogonal()),
}
UNLIKE = {
    "a scale": (NORMAL, initializers.normal(0.022)),
    "a scale, of two draws": (NORMAL, box_muller(0.022)),
    "the default instead": (NORMAL, LECUN),
    "uniform of that scale": (initializers.lecun_uniform(), LECUN),
    "a range": (
        initializers.uniform(0.1),
        lambda key, shape, dtype=jnp.float32: random.uniform(key, shape, dtype, -0.1, 0.1),
    ),
    "orthogonal, wider": (initializers.orthogonal(), initializers.orthogonal(1.5)),
    "orthogonal, as wide": (initializers.orthogonal(), LECUN),
    "zeros": (LECUN, initializers.zeros),
    "standard normal, as an initialiser": (LECUN, random.normal),
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("way", ALIKE)
def test_one_distribution_written_in_two_ways(way):
    found = of_kernels(*ALIKE[way])
    assert found.verdict in PASSES, found.checks[-1]
    assert found.checks[-1].status in ("identical", "equal")


@pytest.mark.parametrize("way", UNLIKE)
def test_another_distribution_is_different(way):
    found = of_kernels(*UNLIKE[way])
    assert found.verdict == "different"
    assert found.checks[-1].worst_leaf == "params/dense/kernel"
    assert "nn.Dense(F, kernel_init" in found.divergence.linen.source
    assert "nnx.Linear(F, F, kernel_init" in found.divergence.nnx.source


def test_constants_are_compared_exactly():
    ones, half = initializers.ones, initializers.constant(0.5)
    assert of_kernels(LECUN, LECUN, half, half).verdict == "identical"
    found = of_kernels(LECUN, LECUN, ones, half)
    assert found.verdict == "different"
    assert found.divergence.reason.endswith("starts with other numbers: 1 in Linen, 0.5 in NNX")


def terms(*inits):
    """How numbers are made by initialisers, with the names of their distributions."""
    names, found = Names(), []
    for init in inits:
        draws = Draws(tuple)
        made = trace(lambda leaves, inputs: {"x": init(random.key(0), (2, 2))}, {}, ())  # noqa: B023
        graph = draws.given(made[0])
        found.append(Terms(graph, draws.found).of(graph.outputs[0], ()))
    return found, [name_of(names, term) for term in found]


def compared(one, other):
    (a, b), names = terms(one, other)
    assert names[0] != names[1]
    return same_distribution.compare(a, b, (None, None))


def test_the_test_finds_a_factor_of_a_tenth_and_no_difference_where_there_is_none(pytestconfig):
    """In 20 tries each, 4 without --thorough."""
    num_tries = 20 if pytestconfig.getoption("thorough") else 4
    rng = np.random.default_rng(0)
    n = same_distribution.SAMPLES
    rows = [rng.standard_normal((2, n)) for _ in range(num_tries)]
    none = [stats.ks_2samp(x, y) for x, y in rows]
    wider = [stats.ks_2samp(x, 1.1 * y) for x, y in rows]
    assert max(r.statistic for r in none) < 0.009 < min(r.statistic for r in wider)
    assert min(r.pvalue for r in none) > same_distribution.ERROR_RATE
    assert max(r.pvalue for r in wider) < same_distribution.ERROR_RATE


def test_one_draw_is_compared_by_its_quantiles():
    assert "quantiles" in compared(by_hand(0.02), by_hand(-0.02)).how
    assert not compared(by_hand(0.02), by_hand(0.0201)).is_same


def test_two_draws_are_compared_by_a_test():
    found = compared(by_hand(0.02), box_muller(0.02))
    assert (found.is_same, found.how.startswith("a test of 262144 and 262144")) == (True, True)


def test_what_is_too_large_is_not_drawn(monkeypatch):
    monkeypatch.setattr(start, "MAX_SIZE", F * F - 1)
    found = of_kernels(initializers.orthogonal(), initializers.orthogonal(1.5))
    assert found.verdict == "identical"
    assert found.checks[-1].status == "undecided"
    assert "params/dense/kernel is not compared" in found.checks[-1].note
    assert of_kernels(NORMAL, by_hand(0.03)).verdict == "different"


class Layer(nn.Module):
    kernel: object

    @nn.compact
    def __call__(self, x, _):
        return x + nn.tanh(nn.Dense(F, kernel_init=self.kernel)(x)), None


class Stack(nn.Module):
    own: bool = True
    kernel: object = LECUN

    @nn.compact
    def __call__(self, x):
        scan = nn.scan(
            Layer, variable_axes={"params": 0}, split_rngs={"params": self.own}, length=N
        )
        return scan(self.kernel)(x, None)[0]


class PortStack(nnx.Module):
    def __init__(self, rngs, make):
        self.layers = make(rngs)

    def __call__(self, x):
        run = nnx.scan(
            lambda x, layer: x + nnx.tanh(layer(x)),
            in_axes=(nnx.Carry, 0),
            out_axes=nnx.Carry,
        )
        return run(x, self.layers)


class PortList(nnx.Module):
    def __init__(self, rngs, make):
        self.layers = nnx.List([make(rngs, i) for i in range(N)])

    def __call__(self, x):
        for layer in self.layers:
            x = x + nnx.tanh(layer(x))
        return x


def linear(rngs):
    return nnx.Linear(F, F, rngs=rngs)


def of_keys(keys):
    return nnx.vmap(lambda key: linear(nnx.Rngs(key)))(keys)


def drawn_whole(rngs):
    layers = nnx.vmap(linear)(rngs.split(N))
    layers.kernel[...] = initializers.lecun_normal(batch_axis=0)(rngs.params(), (N, F, F))
    return layers


def one_copied(rngs):
    graphdef, state = nnx.split(linear(rngs))
    return nnx.merge(graphdef, jax.tree.map(lambda x: jnp.broadcast_to(x, (N, *x.shape)), state))


KEYS = [random.key(i) for i in range(N)]
OWN = {
    "split": (PortStack, lambda rngs: nnx.vmap(linear)(rngs.split(N))),
    "split_rngs": (PortStack, lambda rngs: nnx.split_rngs(splits=N)(nnx.vmap(linear))(rngs)),
    "a key for each": (PortStack, lambda rngs: of_keys(jnp.stack(KEYS))),
    "all at once": (PortStack, drawn_whole),
    "a list": (PortList, lambda rngs, i: linear(rngs)),
    "a seed for each": (PortList, lambda rngs, i: linear(nnx.Rngs(i))),
}
SHARED = {
    "no axis": (PortStack, lambda rngs: nnx.vmap(linear, in_axes=None, axis_size=N)(rngs)),
    "one key": (PortStack, lambda rngs: of_keys(jnp.stack(KEYS[:1] * N))),
    "two of three": (PortStack, lambda rngs: of_keys(jnp.stack([*KEYS[:2], KEYS[0]]))),
    "one, copied": (PortStack, one_copied),
    "a seed for all": (PortList, lambda rngs, i: linear(nnx.Rngs(0))),
    "a seed for two": (PortList, lambda rngs, i: linear(nnx.Rngs(i // 2))),
}


def of_stacks(port, own=True, kernel=LECUN):
    build, make = port
    pair = Pair(Stack(own, kernel), lambda rngs: build(rngs, make), X)
    return verify(pair, ("programs", "initial"), samples=1)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("way", OWN)
def test_layers_with_numbers_of_their_own(way):
    assert of_stacks(OWN[way]).verdict in PASSES


@pytest.mark.parametrize("way", SHARED)
def test_layers_that_start_with_the_same_numbers_are_different(way):
    found = of_stacks(SHARED[way])
    assert found.verdict == "different"
    assert "starts with the numbers of" in found.divergence.reason
    assert "rngs.split(" in found.divergence.reason


def test_where_linens_layers_start_alike_so_have_those_of_the_port_to():
    assert of_stacks(SHARED["one key"], own=False).verdict in PASSES
    assert of_stacks(SHARED["a seed for all"], own=False).verdict in PASSES
    found = of_stacks(OWN["split"], own=False)
    assert (found.verdict, "in Linen, not in NNX" in found.divergence.reason) == ("different", True)


def test_orthogonal_layers_are_told_by_their_numbers():
    orthogonal = initializers.orthogonal()

    def make(rngs):
        return nnx.Linear(F, F, kernel_init=orthogonal, rngs=rngs)

    own = PortStack, lambda rngs: nnx.vmap(make)(rngs.split(N))
    shared = PortStack, lambda rngs: nnx.vmap(make, in_axes=None, axis_size=N)(rngs)
    assert of_stacks(own, kernel=orthogonal).verdict in PASSES
    assert of_stacks(shared, kernel=orthogonal).verdict == "different"


class Held(nnx.Module):
    """Weights that hold a place for what is loaded."""

    def __init__(self, rngs, make):
        self.kernel, self.bias = nnx.Param(make(rngs.params())), nnx.Param(jnp.zeros(F))

    def __call__(self, x):
        return x @ self.kernel[...] + self.bias[...]


@pytest.mark.parametrize(
    "make", [lambda key: random.normal(key, (F, F)), lambda key: jnp.zeros((F, F))]
)
def test_what_holds_a_place_free_is_to_be_loaded(make):
    found = verify(Pair(One(), lambda rngs: Held(rngs, make), X), samples=1)
    assert found.verdict in PASSES
    assert found.remark == "starts otherwise in NNX, load it: params/kernel"


def test_what_an_initialiser_made_holds_no_place_free():
    zeros = initializers.zeros
    pair = Pair(One(), lambda rngs: Held(rngs, lambda key: zeros(key, (F, F))), X)
    assert verify(pair, samples=1).verdict == "different"


def test_weights_that_the_user_has_mapped_are_to_be_loaded():
    pins = {"params/Dense_0/kernel": "params/dense/kernel"}
    pair = Pair(One(NORMAL), lambda rngs: PortOne(rngs, LECUN, initializers.zeros), X)
    assert verify(pair, samples=1).verdict == "different"
    found = verify(dataclasses.replace(pair, weight_map=pins), samples=1)
    assert found.remark == "starts otherwise in NNX, load it: params/dense/kernel"


class Counts(nn.Module):
    @nn.compact
    def __call__(self, x):
        count = self.variable("state", "count", lambda: jnp.zeros((), jnp.int32))
        count.value += 1
        return nn.Dense(F)(x) * count.value


class State(nnx.Variable):
    pass


class PortCounts(nnx.Module):
    def __init__(self, rngs):
        self.dense, self.count = nnx.Linear(F, F, rngs=rngs), State(jnp.zeros((), jnp.int32))

    def __call__(self, x):
        self.count[...] += 1
        return self.dense(x) * self.count[...]


def test_what_a_call_changes_linens_init_has_changed_once():
    found = verify(Pair(Counts(), lambda rngs: PortCounts(rngs), X), samples=1)
    assert found.verdict == "identical"
    assert "Linen's init has called the model" in found.checks[-1].note


class Members(nn.Module):
    @nn.compact
    def __call__(self, x):
        many = nn.vmap(
            nn.Dense,
            in_axes=None,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            axis_size=N,
        )
        return many(F)(x).mean(0)


class PortMembers(nnx.Module):
    def __init__(self, rngs, make):
        self.members = make(rngs)

    def __call__(self, x):
        return nnx.vmap(lambda member, x: member(x), in_axes=(0, None))(self.members, x).mean(0)


@pytest.mark.parametrize(("way", "verdict"), [("split", "identical"), ("no axis", "different")])
def test_members_that_both_sides_have_in_one_array(way, verdict):
    _, make = {**OWN, **SHARED}[way]
    pair = Pair(Members(), lambda rngs: PortMembers(rngs, make), X)
    found = verify(pair, ("programs", "initial"), samples=1)
    assert found.verdict == verdict
    if verdict == "different":
        assert found.divergence.reason.endswith("the same numbers several times in NNX alone")

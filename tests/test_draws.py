"""Random draws are paired: how a key was made is no difference, what shares one is."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, find_weight_map, verify
from shared.models.pure_pair import pure_pair
from shared.program.drawn_leaves import is_draw
from shared.program.draws import Draws
from shared.program.trace import trace
from shared.report.result import PASSES
from shared.verification.drawn import with_draws

B, F, N = 4, 6, 3
X = (jax.ShapeDtypeStruct((B, F), "float32"),)
random = jax.random


def graph_of(function, *inputs):
    """The graph of a function of inputs alone, its draws as leaves, and these draws."""
    draws = Draws(lambda: jax.tree.leaves(inputs))
    traced = trace(lambda leaves, inputs: function(*inputs), {}, inputs)
    return draws.given(traced[0]), draws.found


def drawn(function, *inputs):
    """The shapes of what is drawn, in order of their first use."""
    graph, found = graph_of(function, *inputs)
    return [found[view.leaf].spec.shape for view in graph.views.values()]


KEY = random.key(0)
WAYS = {
    "bits": (lambda: random.bits(KEY, (3,)), [(3,)]),
    "bernoulli": (lambda: random.bernoulli(KEY, 0.3, (3,)), [(3,)]),
    "normal": (lambda: random.normal(KEY, (3,)), [(3,)]),
    "uniform": (lambda: random.uniform(KEY, (3,)), [(3,)]),
    "truncated_normal": (lambda: random.truncated_normal(KEY, -1, 1, (3,)), [(3,)]),
    "gumbel": (lambda: random.gumbel(KEY, (3,)), [(3,)]),
    "categorical": (lambda: random.categorical(KEY, jnp.zeros((2, 3))), [(2, 3)]),
    "randint": (lambda: random.randint(KEY, (3,), 0, 5), [(3,), (3,)]),
    "permutation": (lambda: random.permutation(KEY, 3), [(3,)]),
    "gamma, of a key": (lambda: random.gamma(KEY, 2.0, (3,)), [(2,)]),
    "a raw key": (lambda: random.normal(random.PRNGKey(1), (3,)), [(3,)]),
    "rbg": (lambda: random.normal(random.key(1, impl="rbg"), (3,)), [(3,)]),
    "a key that is folded": (lambda: random.normal(random.fold_in(KEY, 7), (3,)), [(3,)]),
    "one key for each": (
        lambda: jax.vmap(lambda key: random.normal(key, (3,)))(random.split(KEY, 2)),
        [(2, 3)],
    ),
    "one key for all": (
        lambda: jax.vmap(lambda i: random.normal(KEY, (3,)) + i)(jnp.arange(2.0)),
        [(3,)],
    ),
    "equal keys": (
        lambda: jax.vmap(lambda key: random.normal(key, (3,)))(jnp.stack([KEY, KEY])),
        [(3,)],
    ),
    "some equal keys": (
        lambda: jax.vmap(lambda key: random.normal(key, (3,)))(
            jnp.stack([KEY, random.key(1), KEY])
        ),
        [(3,), (3,)],
    ),
    "a key twice": (lambda: random.normal(KEY, (3,)) + random.normal(KEY, (3,)), [(3,)]),
    "two keys": (lambda: random.normal(KEY, (3,)) + random.normal(random.key(1), (3,)), [(3,)] * 2),
    "in a loop, own keys": (
        lambda: jax.lax.scan(
            lambda c, k: (c + random.normal(k, (3,)), None),
            0.0 + jnp.zeros(3),
            random.split(KEY, 2),
        )[0],
        [(3,)] * 2,
    ),
    "in a loop, one key": (
        lambda: jax.lax.fori_loop(0, 2, lambda i, c: c + random.normal(KEY, (3,)), jnp.zeros(3)),
        [(3,)],
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_drawn_becomes_a_leaf(way):
    function, shapes = WAYS[way]
    graph, found = graph_of(function)
    assert [found[view.leaf].spec.shape for view in graph.views.values()] == shapes
    assert not [node for node in graph.nodes if node.op == "random_bits"]


def test_a_key_among_the_inputs_draws_what_it_draws():
    def function(key):
        one, other = random.split(key)
        return random.normal(one, (3,)) + random.normal(one, (3,)) + random.normal(other, (2, 1))

    assert drawn(function, random.key(3)) == [(3,), (2, 1)]


class Noise(nn.Module):
    """The loss of a diffusion model."""

    @nn.compact
    def __call__(self, x):
        noise = random.normal(self.make_rng("noise"), x.shape)
        time = random.randint(self.make_rng("noise"), (x.shape[0], 1), 0, 10)
        share = jnp.cos(time / 10.0)
        return ((nn.Dense(F)(share * x + (1 - share) * noise) - noise) ** 2).mean()


class PortNoise(nnx.Module):
    """The same; draws in the order `times`, noise."""

    most = 10

    def __init__(self, rngs):
        self.dense, self.rngs = nnx.Linear(F, F, rngs=rngs), rngs

    def noise(self, x):
        return random.normal(self.rngs.noise(), x.shape)

    def target(self, noise, x):
        return noise

    def __call__(self, x):
        time = random.randint(self.rngs.time(), (x.shape[0], 1), 0, self.most)
        share, noise = jnp.cos(time / 10.0), self.noise(x)
        return ((self.dense(share * x + (1 - share) * noise) - self.target(noise, x)) ** 2).mean()


def port(noise=None, target=None, most=10):
    """A port that draws its noise in another way."""
    methods = {"noise": noise, "target": target, "most": most}
    own = {name: value for name, value in methods.items() if value is not None}
    return type("Other", (PortNoise,), own)


def broadcast(noise, x):
    return jax.vmap(lambda _: noise)(x)


def keys(self, x):
    return random.split(self.rngs.noise(), x.shape[0])


SAME = {
    "another order": port(),
    "a constant key": port(lambda self, x: random.normal(random.key(7), x.shape)),
    "a raw key": port(lambda self, x: random.normal(random.PRNGKey(7), x.shape)),
    "rbg": port(lambda self, x: random.normal(random.key(7, impl="rbg"), x.shape)),
    "a key for each example": port(
        lambda self, x: jax.vmap(lambda key: random.normal(key, (F,)))(keys(self, x))
    ),
    "a loop over examples": port(
        lambda self, x: jnp.stack([random.normal(key, (F,)) for key in keys(self, x)])
    ),
    "a scan over examples": port(
        lambda self, x: jax.lax.scan(lambda c, k: (c, random.normal(k, (F,))), 0, keys(self, x))[1]
    ),
}
OTHER = {
    "drawn twice": (port(target=lambda self, noise, x: self.noise(x)), "self.target(noise, x)"),
    "uniform": (port(lambda self, x: random.uniform(self.rngs.noise(), x.shape)), "self.noise(x)"),
    "a range": (port(most=11), "random.randint(self.rngs.time()"),
    "one for all examples": (
        port(lambda self, x: random.normal(self.rngs.noise(), (1, F)) + 0 * x),
        "",
    ),
    "one key for all examples": (
        port(lambda self, x: broadcast(random.normal(self.rngs.noise(), (F,)), x)),
        "",
    ),
    "one key, copied": (
        port(
            lambda self, x: jax.vmap(lambda key: random.normal(key, (F,)))(
                jnp.broadcast_to(self.rngs.noise(), (B,))
            )
        ),
        "",
    ),
}


def compared(linen, build, inputs=X, **more):
    return verify(Pair(linen, lambda rngs: build(rngs), inputs, **more), samples=1)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("way", SAME)
def test_how_a_key_was_made_is_no_difference(way):
    found = compared(Noise(), SAME[way])
    assert found.verdict in PASSES, found
    assert "random draws paired" in found.checks[0].note


@pytest.mark.parametrize("way", OTHER)
def test_what_is_drawn_otherwise_is_different(way):
    build, line = OTHER[way]
    found = compared(Noise(), build)
    assert found.verdict == "different"
    assert line in found.divergence.nnx.source


def test_draws_are_no_weights():
    pair = Pair(Noise(), lambda rngs: PortNoise(rngs), X)
    weights = find_weight_map(pair)
    assert not [path for path in (*weights.linen, *weights.nnx) if is_draw(path)]
    found = verify(pair, samples=1)
    assert not [row for row in found.rows if is_draw(row["linen"])]
    models = with_draws(pure_pair(pair))
    assert sum(map(is_draw, models.linen.leaves)) == sum(map(is_draw, models.nnx.leaves)) == 3


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return x + nn.Dropout(0.3, deterministic=False)(nn.relu(nn.Dense(F)(x))), None


class Stack(nn.Module):
    own: bool = True

    @nn.compact
    def __call__(self, x):
        axes, rngs = {"params": 0}, {"params": True, "dropout": self.own}
        return nn.scan(Layer, variable_axes=axes, split_rngs=rngs, length=N)()(x, None)[0]


class PortLayer(nnx.Module):
    def __init__(self, rngs):
        self.dense, self.drop = nnx.Linear(F, F, rngs=rngs), nnx.Dropout(0.3, rngs=rngs)

    def __call__(self, x):
        return x + self.drop(nnx.relu(self.dense(x)))


class Scanned(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.vmap(PortLayer)(rngs.split(N))

    def __call__(self, x):
        run = nnx.scan(lambda x, layer: layer(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        return run(x, self.layers)


class Listed(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([PortLayer(rngs) for _ in range(N)])

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class Outside(nnx.Module):
    """The masks are drawn in front of the scan: `many` of them."""

    many = N

    def __init__(self, rngs):
        self.layers = nnx.vmap(lambda rngs: nnx.Linear(F, F, rngs=rngs))(rngs.split(N))
        self.rngs = rngs

    def __call__(self, x):
        shape = (self.many, *x.shape) if self.many else x.shape
        masks = random.bernoulli(self.rngs.dropout(), 0.7, shape)

        @nnx.scan(in_axes=(nnx.Carry, 0, 0 if self.many else None), out_axes=nnx.Carry)
        def run(x, layer, mask):
            return x + jnp.where(mask, nnx.relu(layer(x)) / 0.7, 0)

        return run(x, self.layers, masks)


class OutsideOnce(Outside):
    many = None


@pytest.mark.parametrize(
    ("own", "build"), [(True, Scanned), (True, Listed), (True, Outside), (False, OutsideOnce)]
)
def test_a_mask_for_each_layer_or_one_for_all_is_what_linen_says(own, build):
    assert compared(Stack(own), build).verdict in PASSES


@pytest.mark.parametrize(
    ("own", "build"), [(False, Scanned), (False, Listed), (False, Outside), (True, OutsideOnce)]
)
def test_masks_that_layers_share_on_one_side_are_different(own, build):
    found = compared(Stack(own), build)
    assert found.verdict == "different"
    assert "random draws without a counterpart" in found.remark


class Two(nn.Module):
    """Two masks, of two shapes."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dropout(0.5, deterministic=False)(nn.Dense(F)(x))
        return nn.Dropout(0.5, deterministic=False)(nn.Dense(8)(x))


class PortTwo(nnx.Module):
    def __init__(self, rngs, same):
        self.a, self.b = nnx.Linear(F, F, rngs=rngs), nnx.Linear(F, 8, rngs=rngs)
        self.drop, self.rngs, self.same = nnx.Dropout(0.5), rngs, same

    def __call__(self, x):
        first = self.rngs.dropout()
        second = first if self.same else self.rngs.dropout()
        return self.drop(self.b(self.drop(self.a(x), rngs=first)), rngs=second)


def test_one_key_for_draws_of_two_shapes_is_different():
    assert compared(Two(), lambda rngs: PortTwo(rngs, same=False)).verdict == "identical"
    found = compared(Two(), lambda rngs: PortTwo(rngs, same=True))
    assert found.verdict == "different"
    assert "of one key in NNX alone" in found.remark
    assert "rngs=second" in found.divergence.nnx.source


class Keyed(nn.Module):
    """The key is an input."""

    @nn.compact
    def __call__(self, x, key):
        one, other = random.split(key)
        noisy = nn.Dense(F)(x + random.normal(one, x.shape))
        return noisy * random.bernoulli(other, 0.7, x.shape)


class PortKeyed(nnx.Module):
    def __init__(self, rngs, share=0.7):
        self.dense, self.share = nnx.Linear(F, F, rngs=rngs), share

    def __call__(self, x, key):
        mask = random.bernoulli(random.fold_in(key, 1), self.share, x.shape)
        return self.dense(x + random.normal(random.fold_in(key, 2), x.shape)) * mask


def inputs(key):
    return random.normal(key, (B, F)), key


def test_keys_that_are_inputs():
    assert compared(Keyed(), PortKeyed, inputs).verdict == "identical"
    assert compared(Keyed(), PortKeyed, (*X, random.key(0))).verdict == "identical"
    found = compared(Keyed(), lambda rngs: PortKeyed(rngs, 0.3), inputs)
    assert (found.verdict, found.divergence.reason) == ("different", "lt: 0.7 in Linen, 0.3 in NNX")


class Sampled(nn.Module):
    @nn.compact
    def __call__(self, x):
        logits = nn.Dense(3)(x)
        rng = self.make_rng
        route = nn.softmax(logits + random.gumbel(rng("gate"), logits.shape))
        size = random.gamma(rng("gate"), 2.0, (B, 1))
        order = random.permutation(rng("gate"), F)
        return route * nn.one_hot(random.categorical(rng("gate"), logits), 3) * size, x[:, order]


class PortSampled(nnx.Module):
    def __init__(self, rngs, shape=2.0, greedy=False):
        self.dense, self.rngs = nnx.Linear(F, 3, rngs=rngs), rngs
        self.shape, self.greedy = shape, greedy

    def __call__(self, x):
        logits, rngs = self.dense(x), self.rngs
        order = random.permutation(rngs.gate(), F)
        size = random.gamma(rngs.gate(), self.shape, (B, 1))
        drawn = jnp.argmax(logits, -1) if self.greedy else random.categorical(rngs.gate(), logits)
        route = nnx.softmax(logits + random.gumbel(rngs.gate(), logits.shape))
        return route * jax.nn.one_hot(drawn, 3) * size, x[:, order]


@pytest.mark.thorough
def test_routing_and_sampling():
    assert compared(Sampled(), PortSampled).verdict == "identical"
    found = compared(Sampled(), lambda rngs: PortSampled(rngs, shape=3.0))
    assert (found.verdict, "random.gamma" in found.divergence.nnx.source) == ("different", True)
    found = compared(Sampled(), lambda rngs: PortSampled(rngs, greedy=True))
    assert found.verdict == "different"


class Masked(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dropout(0.3, deterministic=False)(nn.Dense(F)(x))


class PortMasked(nnx.Module):
    """The mask is made by hand: of which draws it is true, and of what share."""

    def __init__(self, rngs, keeps):
        self.dense, self.rngs, self.keeps = nnx.Linear(F, F, rngs=rngs), rngs, keeps

    def __call__(self, x):
        y = self.dense(x)
        return jnp.where(self.keeps(self.rngs.dropout(), y.shape), y / 0.7, 0)


KEEPS = {
    "small": lambda key, shape: random.uniform(key, shape) < 0.7,
    "large": lambda key, shape: random.uniform(key, shape) >= 0.3,
    "not dropped": lambda key, shape: ~random.bernoulli(key, 0.3, shape),
}


@pytest.mark.parametrize("way", KEEPS)
def test_a_mask_is_true_as_often_of_small_numbers_as_of_large_ones(way):
    found = compared(Masked(), lambda rngs: PortMasked(rngs, KEEPS[way]))
    assert found.verdict in PASSES


@pytest.mark.parametrize("share", [0.25, 0.7])
def test_a_mask_of_another_share_is_different(share):
    other = {"large": lambda key, shape: random.uniform(key, shape) >= share}
    found = compared(Masked(), lambda rngs: PortMasked(rngs, other["large"]))
    assert found.verdict == "different"


def test_paired_draws_get_equal_numbers():
    pair = with_draws(pure_pair(Pair(Noise(), lambda rngs: SAME["another order"](rngs), X)))
    found = verify(dataclasses.replace(pair), samples=1, checks=("forward", "gradients"))
    ported = found.ported
    linen, nnx = ported.random_leaves(0)
    pairs = [(e.linen.leaf, e.nnx.leaf) for e in ported.entries if e.by == "draw"]
    assert len(pairs) == 3
    assert [np.array_equal(linen[a], nnx[b]) for a, b in pairs] == [True] * 3
    assert [linen[a].dtype for a, _ in pairs] == [np.uint32] * 3

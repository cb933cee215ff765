"""A weight that is repeated or reshaped without new numbers is the same weight, however written."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, verify
from shared.program.graph import Graph
from shared.program.view import View
from shared.report.result import PASSES
from shared.weights.pieces import Found
from shared.weights.storage import paired_but_for_axes
from tests.helpers import assert_identical, moved_there_and_back

D, B = 6, 2
X = (jax.ShapeDtypeStruct((B, 5, D), "float32"),)
CHECKS = ("programs", "forward")


class Model(nn.Module):
    """A class token of (D,) in front of the rows."""

    @nn.compact
    def __call__(self, x):
        token = self.param("token", nn.initializers.normal(0.02), (D,))
        token = jnp.broadcast_to(token, (x.shape[0], 1, D))
        x = jnp.concatenate([token, nn.Dense(D)(x)], axis=1)
        return nn.Dense(3)(nn.gelu(x[:, 0] + x[:, 1]))


class Port(nnx.Module):
    def __init__(self, shape, repeat, act, rngs):
        self.token = nnx.Param(jax.random.normal(rngs.params(), shape))
        self.patch, self.head = nnx.Linear(D, D, rngs=rngs), nnx.Linear(D, 3, rngs=rngs)
        self.repeat, self.act = repeat, act

    def __call__(self, x):
        token = self.repeat(self.token[...])
        x = jnp.concatenate([token, self.patch(x)], axis=1)
        return self.head(self.act(x[:, 0] + x[:, 1]))


def pair(shape, repeat, act=nnx.gelu):
    return Pair(Model(), lambda rngs: Port(shape, repeat, act, rngs), X)


WAYS = {
    "tile": ((1, 1, D), lambda w: jnp.tile(w, (B, 1, 1))),
    "repeat": ((1, 1, D), lambda w: jnp.repeat(w, B, axis=0)),
    "broadcast": ((1, 1, D), lambda w: jnp.broadcast_to(w, (B, 1, D))),
    "none": ((D,), lambda w: jnp.tile(w[None, None], (B, 1, 1))),
    "expand_dims": ((1, D), lambda w: jnp.tile(jnp.expand_dims(w, 0), (B, 1, 1))),
    "squeeze": ((1, 1, D), lambda w: jnp.broadcast_to(jnp.squeeze(w), (B, 1, D))),
    "moveaxis": ((1, 1, D), lambda w: jnp.tile(jnp.moveaxis(w, 0, 1), (B, 1, 1))),
    "stack": ((1, D), lambda w: jnp.stack([w, w])),
    "stack of one": ((D,), lambda w: jnp.tile(jnp.stack([w])[None], (B, 1, 1))),
    "concatenate": ((1, 1, D), lambda w: jnp.concatenate([w, w])),
    "zeros plus": ((1, 1, D), lambda w: jnp.zeros((B, 1, D)) + w),
    "ones times": ((1, 1, D), lambda w: jnp.ones((B, 1, D)) * w),
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("way", WAYS)
def test_it_is_seen_through(way):
    found = verify(pair(*WAYS[way]), CHECKS, samples=1)
    assert found.verdict in PASSES, found
    row = next(row for row in found.rows if row["linen"] == "params/token")
    assert row["nnx"] == "params/token"


@pytest.mark.parametrize("way", ["tile", "stack", "expand_dims"])
def test_a_mistake_behind_it_is_named(way):
    found = verify(pair(*WAYS[way], act=nnx.relu), CHECKS, samples=1)
    assert found.verdict == "different"
    assert found.divergence.linen.source == "return nn.Dense(3)(nn.gelu(x[:, 0] + x[:, 1]))"
    assert found.divergence.nnx.source == "return self.head(self.act(x[:, 0] + x[:, 1]))"


@pytest.mark.parametrize(
    "repeat",
    [
        lambda w: jnp.tile(w[:, :, ::-1], (B, 1, 1)),
        lambda w: jnp.concatenate([w, 2 * w]),
        lambda w: jnp.stack([w[0], jnp.roll(w[0], 1, axis=-1)]),
    ],
    ids=["turned", "scaled", "rolled"],
)
def test_other_numbers_are_a_difference(repeat):
    assert verify(pair((1, 1, D), repeat), CHECKS, samples=1).verdict == "different"


@pytest.mark.parametrize("way", ["tile", "expand_dims"])
def test_it_moves_without_loss(way):
    _, linen, moved, back = moved_there_and_back(pair(*WAYS[way]))
    assert_identical(linen, back)
    assert moved["params/token"].shape == WAYS[way][0]


def interleaved(x):
    """Each row twice, one behind the other: not the rows, twice."""
    return jnp.repeat(x, 2, axis=1)


def test_the_order_of_what_is_repeated_counts():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3)(jnp.tile(x, (1, 2, 1)))

    class PortTwice(nnx.Module):
        def __init__(self, twice, rngs):
            self.head, self.twice = nnx.Linear(D, 3, rngs=rngs), twice

        def __call__(self, x):
            return self.head(self.twice(x))

    for twice, verdicts in (
        (lambda x: jnp.concatenate([x, x], axis=1), PASSES),
        (interleaved, ("different",)),
    ):
        port = Pair(Twice(), lambda rngs, twice=twice: PortTwice(twice, rngs), X)
        assert verify(port, CHECKS, samples=1).verdict in verdicts


class TwoTokens(nn.Module):
    """Two tokens of (1, 1, D) in front of the rows, and a position for each row."""

    @nn.compact
    def __call__(self, x):
        draw = nn.initializers.normal(0.02)
        first, second = (self.param(name, draw, (1, 1, D)) for name in ("first", "second"))
        tokens = jnp.concatenate([first, second], axis=1)
        x = jnp.concatenate([jnp.tile(tokens, (x.shape[0], 1, 1)), x], axis=1)
        return nn.Dense(3)(x + self.param("position", draw, (1, 7, D)))


class TwoTokensPort(nnx.Module):
    def __init__(self, rows, rngs):
        def draw(*shape):
            return nnx.Param(0.02 * jax.random.normal(rngs.params(), shape))

        self.first, self.second, self.position = draw(D), draw(D), draw(7, D)
        self.head, self.rows = nnx.Linear(D, 3, rngs=rngs), rows

    def __call__(self, x):
        return self.head(self.rows(self, x))


def stacked(self, x):
    tokens = jnp.broadcast_to(jnp.stack([self.first[...], self.second[...]]), (B, 2, D))
    return jnp.concatenate([tokens, x], axis=1) + self.position


def each_repeated(self, x):
    tokens = [jnp.broadcast_to(token[...], (B, 1, D)) for token in (self.first, self.second)]
    return jnp.concatenate([*tokens, x], axis=1) + self.position


def positions_first(self, x):
    tokens = jnp.stack([self.first[...], self.second[...]]) + self.position[:2]
    return jnp.concatenate([jnp.broadcast_to(tokens, (B, 2, D)), x + self.position[2:]], axis=1)


def no_position_of_tokens(self, x):
    tokens = jnp.broadcast_to(jnp.stack([self.first[...], self.second[...]]), (B, 2, D))
    return jnp.concatenate([tokens, x + self.position[2:]], axis=1)


def first_twice(self, x):
    tokens = jnp.broadcast_to(jnp.stack([self.first[...], self.first[...]]), (B, 2, D))
    return jnp.concatenate([tokens, x], axis=1) + self.position


def of_two(rows):
    return Pair(TwoTokens(), lambda rngs: TwoTokensPort(rows, rngs), X)


@pytest.mark.parametrize("rows", [stacked, each_repeated, positions_first])
def test_several_are_seen_through_too(rows):
    found = verify(of_two(rows), CHECKS, samples=1)
    assert found.verdict in PASSES, found
    pairs = {row["linen"]: row["nnx"] for row in found.rows}
    assert all(
        pairs[f"params/{name}"] == f"params/{name}" for name in ("first", "second", "position")
    )


@pytest.mark.parametrize("rows", [no_position_of_tokens, first_twice])
def test_a_mistake_with_several_is_a_difference_with_a_line(rows):
    found = verify(of_two(rows), CHECKS, samples=1)
    assert found.verdict == "different"
    assert found.divergence.nnx.source


def test_of_many_layers_each_is_paired_with_its_own():
    """In another order on the other side, and so many that each pair may not be looked at again."""
    count = 300
    linen = [View(f"params/layers_{i}/token") for i in range(count)]
    nnx = [View(f"params/layers/{i}/token") for i in reversed(range(count))]
    leaves = (
        {view.leaf: jax.ShapeDtypeStruct((1, 1, D), "float32") for view in linen},
        {view.leaf: jax.ShapeDtypeStruct((D,), "float32") for view in nnx},
    )
    found = Found((), tuple(linen), tuple(nnx), Graph([], [], {}), Graph([], [], {}))
    made = paired_but_for_axes(found, leaves)
    assert (made.linen_left, made.nnx_left) == ((), ())
    assert {(entry.linen.leaf, entry.nnx.leaf) for entry in made.entries} == {
        (f"params/layers_{i}/token", f"params/layers/{i}/token") for i in range(count)
    }


class Patches(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(D, (2, 4), strides=(2, 4), padding="VALID", name="embed")(x)
        return nn.Dense(3, name="head")(nn.gelu(x.reshape(x.shape[0], -1, D)))


class LinearPatches(nnx.Module):
    """The rows, columns and channels of a patch are one axis, in some order."""

    def __init__(self, rngs, order):
        self.embed = nnx.Linear(2 * 4 * 3, D, rngs=rngs)
        self.head = nnx.Linear(D, 3, rngs=rngs)
        self.order = order

    def __call__(self, x):
        count, rows, columns, channels = x.shape
        x = x.reshape(count, rows // 2, 2, columns // 4, 4, channels)
        x = x.transpose(0, 1, 3, *self.order)
        return self.head(nnx.gelu(self.embed(x.reshape(count, -1, 2 * 4 * channels))))


@pytest.mark.parametrize(
    "order", [(2, 4, 5), (4, 2, 5), (5, 2, 4)], ids=["right", "turned", "channels first"]
)
def test_a_convolution_of_patches_is_a_linear_of_them(order):
    x = (jax.ShapeDtypeStruct((B, 6, 8, 3), "float32"),)
    found = verify(Pair(Patches(), lambda rngs: LinearPatches(rngs, order), x), CHECKS)
    assert (found.verdict in PASSES) == (order == (2, 4, 5))
    (row,) = (row for row in found.rows if row["linen"] == "params/embed/kernel")
    assert row["transform"] == "reshape 24,6"


def test_of_several_whose_names_say_nothing_none_is_guessed():
    def paired(*names):
        leaves = (
            {
                f"params/{name}/kernel": jax.ShapeDtypeStruct((2, 4, 3, 6), "float32")
                for name in names
            },
            {
                f"params/{n}/kernel": jax.ShapeDtypeStruct((24, 6), "float32")
                for n in ("stem", "proj")
            },
        )
        views = [tuple(map(View, side)) for side in leaves]
        made = paired_but_for_axes(Found((), *views, Graph([], [], {}), Graph([], [], {})), leaves)
        return {(entry.linen.leaf, entry.nnx.leaf) for entry in made.entries}

    assert paired("Conv_0", "Conv_1") == set()
    assert paired("proj", "stem") == {
        ("params/proj/kernel", "params/proj/kernel"),
        ("params/stem/kernel", "params/stem/kernel"),
    }


@pytest.mark.parametrize(
    ("linen", "nnx", "are"),
    [
        ("stem/kernel", "embed/kernel", True),
        ("stem/bias", "embed/kernel", False),
        ("embed/bias", "embed/kernel", False),
    ],
)
def test_what_is_one_axis_elsewhere_is_called_alike(linen, nnx, are):
    leaves = (
        {f"params/{linen}": jax.ShapeDtypeStruct((48,), "float32")},
        {f"params/{nnx}": jax.ShapeDtypeStruct((6, 8), "float32")},
    )
    views = View(f"params/{linen}"), View(f"params/{nnx}")
    found = Found((), views[:1], views[1:], Graph([], [], {}), Graph([], [], {}))
    assert bool(paired_but_for_axes(found, leaves).entries) == are


@pytest.mark.parametrize(
    ("one", "other", "are"),
    [
        ((4, 4, 3, 8), (48, 8), True),
        ((48, 8), (4, 4, 3, 8), True),
        ((1, 6, 8), (6, 8), True),
        ((1, 6, 8), (48,), True),
        ((4, 6), (6, 4), False),
        ((2, 6, 2), (4, 6), False),
        ((), (1, 1), True),
    ],
)
def test_what_is_one_axis_elsewhere(one, other, are):
    linen, nnx = View("params/a/kernel"), View("params/a/kernel")
    leaves = tuple(
        {"params/a/kernel": jax.ShapeDtypeStruct(each, "float32")} for each in (one, other)
    )
    found = Found((), (linen,), (nnx,), Graph([], [], {}), Graph([], [], {}))
    assert bool(paired_but_for_axes(found, leaves).entries) == are

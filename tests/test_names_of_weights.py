"""Weights are paired as they are named: of `res_0/skip` too, unused ones, those taken twice."""

import functools

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from shared import Pair, verify
from shared.weights.names import likenesses

B, T, D, BLOCKS = 2, 6, 4, 3
X = (jax.ShapeDtypeStruct((B, T, D), "float32"),)


class Gated(nn.Module):
    @nn.compact
    def __call__(self, x):
        signal, gate = jnp.split(nn.Dense(2 * D, name="both")(x), 2, -1)
        h = nn.tanh(signal) * nn.sigmoid(gate)
        return x + nn.Dense(D, name="res")(h), nn.Dense(D, name="skip")(h)


class Gates(nn.Module):
    adds: bool = True

    @nn.compact
    def __call__(self, x):
        total = 0.0
        for i in range(BLOCKS):
            x, skip = Gated(name=f"res_{i}")(x)
            total = total + skip if self.adds else skip
        return nn.Dense(3, name="out")(nn.relu(0.5 * total))


class PortOfGated(nnx.Module):
    def __init__(self, rngs):
        self.both = nnx.Linear(D, 2 * D, rngs=rngs)
        self.res, self.skip = nnx.Linear(D, D, rngs=rngs), nnx.Linear(D, D, rngs=rngs)

    def __call__(self, x):
        signal, gate = jnp.split(self.both(x), 2, -1)
        h = nnx.tanh(signal) * nnx.sigmoid(gate)
        return x + self.res(h), self.skip(h)


class Crossed(PortOfGated):
    def __call__(self, x):
        signal, gate = jnp.split(self.both(x), 2, -1)
        h = nnx.tanh(signal) * nnx.sigmoid(gate)
        return x + self.skip(h), self.res(h)


class PortOfGates(nnx.Module):
    def __init__(self, adds, rngs, gated=PortOfGated):
        self.layers = nnx.List([gated(rngs) for _ in range(BLOCKS)])
        self.out, self.adds = nnx.Linear(D, 3, rngs=rngs), adds

    def __call__(self, x):
        total = 0.0
        for layer in self.layers:
            x, skip = layer(x)
            total = total + skip if self.adds else skip
        return self.out(nnx.relu(0.5 * total))


@pytest.mark.parametrize(("linen", "nnx"), [(True, True), (True, False), (False, True)])
def test_they_are_paired_as_they_are_named(linen, nnx):
    pair = Pair(Gates(linen), functools.partial(PortOfGates, nnx), X)
    found = verify(pair, samples=1, checks=("structure", "programs", "forward"))
    pairs = {row["linen"]: row["nnx"] for row in found.rows}
    for i in range(BLOCKS):
        for name in ("both", "res", "skip"):
            assert pairs[f"params/res_{i}/{name}/kernel"] == f"params/layers/{i}/{name}/kernel"
    assert found.verdict == ("identical" if linen and nnx else "different")
    if not nnx:
        assert found.divergence.nnx.source == "x, skip = layer(x)"
        assert found.divergence.linen.source.startswith("total = total + skip")


def test_an_exchange_is_told_where_the_module_around_is_named_alike():
    """`res_0/skip` has both words: what the two paths share says nothing."""
    port = functools.partial(PortOfGates, True, gated=Crossed)
    found = verify(Pair(Gates(), port, X), samples=1, checks=("structure", "programs", "forward"))
    assert found.verdict == "different"
    assert found.remark == "equal if skip and res were exchanged"
    assert "self.skip(h), self.res(h)" in found.divergence.nnx.source


class Cross(nn.Module):
    @nn.compact
    def __call__(self, q, kv):
        a, b = nn.LayerNorm(name="norm_q")(q), nn.LayerNorm(name="norm_kv")(kv)
        heads = nn.MultiHeadDotProductAttention(2, qkv_features=D, name="attention")
        return q + heads(a, b)


class Perceiver(nn.Module):
    @nn.compact
    def __call__(self, x):
        start = self.param("latents", nn.initializers.normal(), (3, D))
        latents = jnp.tile(start[None], (B, 1, 1))
        cross, process = Cross(name="cross"), Cross(name="process")
        for _ in range(2):
            latents = cross(latents, x)
            latents = process(latents, latents)
        query = self.param("query", nn.initializers.normal(), (1, 1, D))
        return Cross(name="decode")(jnp.tile(query, (B, 1, 1)), latents)


class Read(nnx.Module):
    def __init__(self, is_right, rngs):
        self.norm_q, self.norm_kv = nnx.LayerNorm(D, rngs=rngs), nnx.LayerNorm(D, rngs=rngs)
        self.query, self.key, self.value, self.out = (nnx.Linear(D, D, rngs=rngs) for _ in range(4))
        self.is_right = is_right

    def attend(self, q, kv):
        heads = [each.reshape(*each.shape[:2], 2, -1) for each in (q, self.key(kv), self.value(kv))]
        mixed = nnx.dot_product_attention(*heads)
        return self.out(mixed.reshape(q.shape))

    def __call__(self, q, kv):
        a = self.norm_q(q)
        b = self.norm_kv(kv) if self.is_right else self.norm_q(kv)
        return q + self.attend(self.query(a), b)


class PortOfPerceiver(nnx.Module):
    def __init__(self, is_right, rngs):
        start = nnx.initializers.normal()
        self.latents = nnx.Param(start(rngs.params(), (1, 3, D)))
        self.query = nnx.Param(start(rngs.params(), (D,)))
        self.cross, self.process, self.decode = (Read(is_right, rngs) for _ in range(3))

    def __call__(self, x):
        latents = jnp.repeat(self.latents[...], B, axis=0)
        for _ in range(2):
            latents = self.cross(latents, x)
            latents = self.process(latents, latents)
        return self.decode(jnp.tile(self.query[...], (B, 1, 1)), latents)


@pytest.mark.thorough
@pytest.mark.parametrize("is_right", [True, False])
def test_a_norm_of_two_inputs_is_one_and_the_other_is_named(is_right):
    port = functools.partial(PortOfPerceiver, is_right)
    found = verify(
        Pair(Perceiver(), lambda rngs: port(rngs), X), ("structure", "forward"), samples=1
    )
    names = {row["linen"]: row["nnx"] for row in found.rows}
    for layer in ("cross", "process", "decode"):
        for norm in ("norm_q", "norm_kv"):
            assert names[f"params/{layer}/{norm}/scale"] == f"params/{layer}/{norm}/scale"
    if is_right:
        assert found.verdict in ("equal", "close")
        return
    assert found.verdict == "different"
    assert 'nn.LayerNorm(name="norm_kv")' in found.divergence.linen.source
    assert found.divergence.nnx.source.startswith("b = self.norm_kv(kv) if")


def test_numbers_that_are_of_no_layer_make_no_likeness():
    """Flax numbers the norms of a model by itself, whatever the block."""
    linen = [*(f"params/RMSNorm_{i}/scale" for i in (1, 2, 3)), "params/final/scale"]
    nnx = [f"params/{name}/scale" for name in ("blocks/0/b", "blocks/1/a", "blocks/1/b", "last")]
    alike = likenesses(linen, [path.replace("blocks/", "blocks/norm_") for path in nnx])
    assert {alike[i, k] for i in range(3) for k in range(3)} == {alike[0, 0]}
    assert alike[0, 0] > 0
    layers = [f"params/layer_{i}/{name}/scale" for i in (0, 1) for name in ("a", "b")]
    alike = likenesses(layers, layers)
    assert alike[0, 0] > alike[0, 2]

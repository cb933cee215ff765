"""One model with its weights laid out in two ways: heads in the kernels or made of the results,
kernels as (in, out) or, as in PyTorch, as (out, in).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair

VOCABULARY, F, HEADS, LAYERS = 11, 8, 2, 3
TOKENS = (jax.ShapeDtypeStruct((2, 5), "int32"),)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        h = nn.LayerNorm(name="norm")(x)
        x = x + nn.MultiHeadDotProductAttention(HEADS, name="attention")(h, h)
        x = x + nn.Dense(F, name="mix")(nn.gelu(nn.Dense(2 * F, name="up")(x))[..., :F])
        return x, None


class Model(nn.Module):
    """Heads in the kernels, layers in a scan, the embedding for the logits too."""

    @nn.compact
    def __call__(self, tokens):
        embed = nn.Embed(VOCABULARY, F, name="embed")
        blocks = nn.scan(
            Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=LAYERS
        )
        x, _ = blocks(name="blocks")(embed(tokens), None)
        return embed.attend(x)


def transposed(x, layer):
    return x @ layer.weight[...].T + layer.bias[...]


class Turned(nnx.Module):
    """A dense layer with its kernel as (out, in)."""

    def __init__(self, n_in, n_out, rngs):
        self.weight = nnx.Param(OF_THE_LAST_AXIS(rngs.params(), (n_out, n_in)))
        self.bias = nnx.Param(jnp.zeros(n_out))

    def __call__(self, x):
        return transposed(x, self)


class PortBlock(nnx.Module):
    def __init__(self, dense, rngs):
        self.norm = nnx.LayerNorm(F, rngs=rngs)
        self.query, self.key, self.value, self.out = (dense(F, F, rngs) for _ in range(4))
        self.up, self.mix = dense(F, 2 * F, rngs), dense(F, F, rngs)

    def __call__(self, x):
        h = self.norm(x)
        heads = (*x.shape[:-1], HEADS, F // HEADS)
        query, key, value = (
            layer(h).reshape(heads) for layer in (self.query, self.key, self.value)
        )
        scores = jnp.einsum("bqhd,bkhd->bhqk", query / (F // HEADS) ** 0.5, key)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), value)
        x = x + self.out(mixed.reshape(x.shape))
        return x + self.mix(nnx.gelu(self.up(x))[..., :F])


class Port(nnx.Module):
    def __init__(self, rngs, dense=lambda n_in, n_out, rngs: nnx.Linear(n_in, n_out, rngs=rngs)):
        self.embed = nnx.Embed(VOCABULARY, F, rngs=rngs)
        self.blocks = nnx.List([PortBlock(dense, rngs) for _ in range(LAYERS)])

    def __call__(self, tokens):
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return x @ self.embed.embedding[...].T


class OneTurned(Port):
    """The kernel of one square layer is taken transposed, those of all others are not."""

    def __init__(self, rngs):
        super().__init__(rngs)
        for block in self.blocks:
            block.mix = MixTurned(block.mix)


class MixTurned(nnx.Module):
    def __init__(self, dense):
        self.kernel, self.bias = dense.kernel, dense.bias

    def __call__(self, x):
        return x @ self.kernel[...].T + self.bias[...]


# The initialiser of a kernel that has its inputs on the last axis.
OF_THE_LAST_AXIS = nnx.initializers.lecun_normal(in_axis=-1, out_axis=-2)
HEADS_IN_RESULTS = Pair(linen=Model(), nnx=lambda rngs: Port(rngs), inputs=TOKENS)
OUT_IN = Pair(linen=Model(), nnx=lambda rngs: Port(rngs, Turned), inputs=TOKENS)
ONE_TURNED = Pair(linen=Model(), nnx=lambda rngs: OneTurned(rngs), inputs=TOKENS)

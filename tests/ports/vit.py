"""A vision transformer: Linen in `setup()` style, NNX with raw params; other names on each side."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair

SIZE, PATCH, D, H, N, CLASSES = 8, 4, 8, 2, 3, 5
TOKENS = (SIZE // PATCH) ** 2 + 1


class Block(nn.Module):
    def setup(self):
        self.norm1 = nn.LayerNorm()
        self.attention = nn.MultiHeadDotProductAttention(num_heads=H)
        self.norm2 = nn.LayerNorm()
        self.up = nn.Dense(2 * D)
        self.down = nn.Dense(D)

    def __call__(self, x):
        y = self.norm1(x)
        x = x + self.attention(y)
        y = self.norm2(x)
        y = nn.gelu(self.up(y), approximate=False)
        return x + self.down(y)


class ViT(nn.Module):
    def setup(self):
        self.patches = nn.Conv(D, (PATCH, PATCH), strides=PATCH, padding="VALID")
        self.token = self.param("token", nn.initializers.normal(0.02), (1, 1, D))
        self.position = self.param("position", nn.initializers.normal(0.02), (1, TOKENS, D))
        self.blocks = [Block() for _ in range(N)]
        self.norm = nn.LayerNorm()
        self.head = nn.Dense(CLASSES)

    def __call__(self, image):
        x = self.patches(image)
        x = x.reshape(x.shape[0], -1, D)
        token = jnp.tile(self.token, (x.shape[0], 1, 1))
        x = jnp.concatenate([token, x], axis=1)
        x = x + self.position
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.head(x[:, 0])


class Layer(nnx.Module):
    def __init__(self, rngs):
        self.before_mix = nnx.LayerNorm(D, rngs=rngs)
        self.mix = nnx.MultiHeadAttention(H, D, decode=False, rngs=rngs)
        self.before_mlp = nnx.LayerNorm(D, rngs=rngs)
        self.wide = nnx.Linear(D, 2 * D, rngs=rngs)
        self.narrow = nnx.Linear(2 * D, D, rngs=rngs)

    def __call__(self, x):
        h = self.before_mix(x)
        x = x + self.mix(h)
        h = self.before_mlp(x)
        h = nnx.gelu(self.wide(h), approximate=False)
        return x + self.narrow(h)


class Port(nnx.Module):
    def __init__(self, rngs):
        normal = nnx.initializers.normal(0.02)
        self.stem = nnx.Conv(3, D, (PATCH, PATCH), strides=PATCH, padding="VALID", rngs=rngs)
        self.cls = nnx.Param(normal(rngs.params(), (1, 1, D)))
        self.places = nnx.Param(normal(rngs.params(), (1, TOKENS, D)))
        self.layers = nnx.List([Layer(rngs) for _ in range(N)])
        self.last = nnx.LayerNorm(D, rngs=rngs)
        self.logits = nnx.Linear(D, CLASSES, rngs=rngs)

    def __call__(self, image):
        h = self.stem(image)
        h = h.reshape(h.shape[0], -1, D)
        cls = jnp.tile(self.cls[...], (h.shape[0], 1, 1))
        h = jnp.concatenate([cls, h], axis=1)
        h = h + self.places[...]
        for layer in self.layers:
            h = layer(h)
        h = self.last(h)
        return self.logits(h[:, 0])


PAIR = Pair(
    linen=ViT(),
    nnx=lambda rngs: Port(rngs),
    inputs=(jax.ShapeDtypeStruct((2, SIZE, SIZE, 3), "float32"),),
)

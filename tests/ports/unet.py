"""A U-Net with a transposed convolution and a resize on its way up; Linen compact, NNX by names."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair

SIZE, F = 8, 4


class Double(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x):
        for _ in range(2):
            x = nn.Conv(self.features, (3, 3))(x)
            x = nn.GroupNorm(num_groups=2)(x)
            x = nn.silu(x)
        return x


class UNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        high = Double(F)(x)
        x = nn.Conv(F, (3, 3), strides=2)(high)
        middle = Double(F)(x)
        x = nn.avg_pool(middle, (2, 2), strides=(2, 2))
        x = Double(2 * F)(x)
        x = nn.ConvTranspose(F, (2, 2), strides=(2, 2))(x)
        x = jnp.concatenate([middle, x], axis=-1)
        x = Double(F)(x)
        b, h, w, c = x.shape
        x = jax.image.resize(x, (b, 2 * h, 2 * w, c), "bilinear")
        x = jnp.concatenate([high, x], axis=-1)
        x = Double(F)(x)
        return nn.Conv(2, (1, 1))(x)


class Unit(nnx.Module):
    def __init__(self, before, after, rngs):
        self.conv = nnx.Conv(before, after, (3, 3), rngs=rngs)
        self.norm = nnx.GroupNorm(after, num_groups=2, rngs=rngs)

    def __call__(self, x):
        x = self.conv(x)
        x = self.norm(x)
        return nnx.silu(x)


class Twice(nnx.Module):
    def __init__(self, before, after, rngs):
        self.one = Unit(before, after, rngs)
        self.two = Unit(after, after, rngs)

    def __call__(self, x):
        x = self.one(x)
        return self.two(x)


class Port(nnx.Module):
    def __init__(self, rngs):
        self.down1 = Twice(3, F, rngs)
        self.shrink = nnx.Conv(F, F, (3, 3), strides=2, rngs=rngs)
        self.down2 = Twice(F, F, rngs)
        self.bottom = Twice(F, 2 * F, rngs)
        self.grow = nnx.ConvTranspose(2 * F, F, (2, 2), strides=(2, 2), rngs=rngs)
        self.up2 = Twice(2 * F, F, rngs)
        self.up1 = Twice(2 * F, F, rngs)
        self.out = nnx.Conv(F, 2, (1, 1), rngs=rngs)

    def __call__(self, image):
        skip1 = self.down1(image)
        h = self.shrink(skip1)
        skip2 = self.down2(h)
        h = nnx.avg_pool(skip2, (2, 2), strides=(2, 2))
        h = self.bottom(h)
        h = self.grow(h)
        h = jnp.concatenate([skip2, h], axis=-1)
        h = self.up2(h)
        shape = (h.shape[0], SIZE, SIZE, h.shape[-1])
        h = jax.image.resize(h, shape, method="bilinear")
        h = jnp.concatenate([skip1, h], axis=-1)
        h = self.up1(h)
        return self.out(h)


PAIR = Pair(
    linen=UNet(),
    nnx=lambda rngs: Port(rngs),
    inputs=(jax.ShapeDtypeStruct((2, SIZE, SIZE, 3), "float32"),),
)

"""Images that training flips, shifts, mixes and cuts out of, each in its own way."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair

B, S, C, PAD = 4, 6, 3, 2


def crop(image, top, left):
    return jax.lax.dynamic_slice(image, (top, left, 0), (S, S, C))


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        if train:
            flip = jax.random.bernoulli(self.make_rng("flip"), 0.5, (B, 1, 1, 1))
            x = jnp.where(flip, x[:, :, ::-1], x)
            wide = jnp.pad(x, ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0)))
            at = jax.random.randint(self.make_rng("shift"), (B, 2), 0, 2 * PAD + 1)
            x = jax.vmap(crop)(wide, at[:, 0], at[:, 1])
            x = x * (1.0 + 0.2 * jax.random.normal(self.make_rng("light"), (B, 1, 1, C)))
            part = jax.random.uniform(self.make_rng("mix"), (), minval=0.5, maxval=1.0)
            x = part * x + (1.0 - part) * x[jax.random.permutation(self.make_rng("order"), B)]
        x = nn.relu(nn.Conv(4, (3, 3), name="stem")(x))
        return nn.Dense(3, name="head")(jnp.mean(x, axis=(1, 2)))


class Port(nnx.Module):
    def __init__(self, rngs):
        self.stem = nnx.Conv(C, 4, (3, 3), rngs=rngs)
        self.last = nnx.Linear(4, 3, rngs=rngs)
        self.rngs = rngs.fork()

    def __call__(self, x, train=False):
        if train:
            turned = jax.random.bernoulli(self.rngs.flip(), 0.5, (B, 1, 1, 1))
            x = jnp.where(turned, jnp.flip(x, axis=2), x)
            border = jnp.pad(x, ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0)))
            corner = jax.random.randint(self.rngs.shift(), (B, 2), 0, 2 * PAD + 1)
            x = jax.vmap(crop)(border, corner[:, 0], corner[:, 1])
            x = x * (1.0 + 0.2 * jax.random.normal(self.rngs.light(), (B, 1, 1, C)))
            share = jax.random.uniform(self.rngs.mix(), (), minval=0.5, maxval=1.0)
            other = jax.random.permutation(self.rngs.order(), B)
            x = share * x + (1.0 - share) * x[other]
        h = nnx.relu(self.stem(x))
        return self.last(jnp.mean(h, axis=(1, 2)))


PAIR = Pair(
    linen=Net(),
    nnx=lambda rngs: Port(rngs),
    inputs=(jax.ShapeDtypeStruct((B, S, S, C), "float32"),),
)

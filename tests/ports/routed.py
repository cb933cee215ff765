"""Experts that are drawn as one array, behind a router that jitters its input in training."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair

B, D, F, E = 5, 6, 8, 4
init = nn.initializers.lecun_normal(batch_axis=(0,))
small = nn.initializers.normal(0.02)


class Model(nn.Module):
    @nn.compact
    def __call__(self, x, training=False):
        x = nn.Dense(D, name="stem")(x)
        r = x
        if training:
            r = x * jax.random.uniform(self.make_rng("jitter"), x.shape, minval=0.9, maxval=1.1)
        logits = r @ self.param("router", small, (D, E))
        if training:
            logits = logits + 0.5 * jax.random.normal(self.make_rng("router"), logits.shape)
        gate = nn.softmax(logits)
        up = self.param("up", init, (E, D, F))
        down = self.param("down", init, (E, F, D))
        y = nn.silu(jnp.einsum("bd,edf->ebf", x, up))
        y = jnp.einsum("ebf,efd->ebd", y, down)
        y = jnp.einsum("ebd,be->bd", y, gate)
        y = nn.Dropout(0.1, rng_collection="experts")(y, deterministic=not training)
        return x + y, gate


class Experts(nnx.Module):
    def __init__(self, rngs):
        self.wide = nnx.Param(init(rngs.params(), (E, D, F)))
        self.narrow = nnx.Param(init(rngs.params(), (E, F, D)))

    def __call__(self, x):
        h = nnx.silu(jnp.einsum("bd,edf->ebf", x, self.wide[...]))
        return jnp.einsum("ebf,efd->ebd", h, self.narrow[...])


class Port(nnx.Module):
    def __init__(self, rngs):
        self.stem = nnx.Linear(D, D, rngs=rngs)
        self.choose = nnx.Param(small(rngs.params(), (D, E)))
        self.experts = Experts(rngs)
        self.drop = nnx.Dropout(0.1, rngs=rngs)
        self.rngs = rngs.fork()

    def __call__(self, x, training=False):
        h = self.stem(x)
        r = h
        if training:
            r = h * jax.random.uniform(self.rngs.jitter(), h.shape, minval=0.9, maxval=1.1)
        scores = r @ self.choose[...]
        if training:
            scores = scores + 0.5 * jax.random.normal(self.rngs.router(), scores.shape)
        weights = nnx.softmax(scores)
        y = self.experts(h)
        y = jnp.einsum("ebd,be->bd", y, weights)
        y = self.drop(y, deterministic=not training)
        return h + y, weights


PAIR = Pair(
    linen=Model(),
    nnx=lambda rngs: Port(rngs),
    inputs=(jax.ShapeDtypeStruct((B, D), "float32"),),
)

"""The loss of a diffusion model: times, noise and dropped labels are drawn in the call."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair

B, D, F, C, STEPS = 4, 5, 8, 3, 100


class Denoiser(nn.Module):
    @nn.compact
    def __call__(self, x, time, label):
        h = nn.Dense(F, name="stem")(x)
        h = h + nn.Embed(C + 1, F, name="label")(label)
        h = h * jnp.cos(time[:, None] * nn.Dense(F, name="time")(jnp.ones((1, 1))))
        h = nn.silu(h)
        return nn.Dense(D, name="head")(h)


class Loss(nn.Module):
    @nn.compact
    def __call__(self, x, label):
        t = jax.random.randint(self.make_rng("time"), (B,), 0, STEPS)
        noise = jax.random.normal(self.make_rng("noise"), x.shape)
        time = t / STEPS
        alpha = jnp.cos(0.5 * jnp.pi * time)[:, None] ** 2
        noisy = jnp.sqrt(alpha) * x + jnp.sqrt(1.0 - alpha) * noise
        gone = jax.random.bernoulli(self.make_rng("label"), 0.1, (B,))
        label = jnp.where(gone, C, label)
        guess = Denoiser()(noisy, time, label)
        error = jnp.mean((guess - noise) ** 2, axis=-1)
        return jnp.mean(error)


class Net(nnx.Module):
    def __init__(self, rngs):
        self.stem = nnx.Linear(D, F, rngs=rngs)
        self.labels = nnx.Embed(C + 1, F, rngs=rngs)
        self.rates = nnx.Linear(1, F, rngs=rngs)
        self.last = nnx.Linear(F, D, rngs=rngs)

    def __call__(self, x, time, label):
        h = self.stem(x)
        h = h + self.labels(label)
        h = h * jnp.cos(time[:, None] * self.rates(jnp.ones((1, 1))))
        h = nnx.silu(h)
        return self.last(h)


class Port(nnx.Module):
    def __init__(self, rngs):
        self.net = Net(rngs)
        self.rngs = rngs.fork()

    def __call__(self, x, label):
        key = self.rngs.noise()
        key_time, key_noise, key_label = jax.random.split(key, 3)
        t = jax.random.randint(key_time, (B,), 0, STEPS)
        eps = jax.random.normal(key_noise, x.shape)
        when = t / STEPS
        kept = jnp.cos(0.5 * jnp.pi * when)[:, None] ** 2
        mixed = jnp.sqrt(kept) * x + jnp.sqrt(1.0 - kept) * eps
        lost = jax.random.bernoulli(key_label, 0.1, (B,))
        label = jnp.where(lost, C, label)
        guess = self.net(mixed, when, label)
        error = jnp.mean((guess - eps) ** 2, axis=-1)
        return jnp.mean(error)


PAIR = Pair(
    linen=Loss(),
    nnx=lambda rngs: Port(rngs),
    inputs=lambda key: (
        jax.random.normal(key, (B, D)),
        jax.random.randint(key, (B,), 0, C),
    ),
)

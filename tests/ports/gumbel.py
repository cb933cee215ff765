"""A code that is sampled: straight-through Gumbel softmax, an action, a normal latent."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair

B, D, C, Z = 4, 6, 5, 3


class Model(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic=True):
        h = nn.tanh(nn.Dense(D, name="stem")(x))
        logits = nn.Dense(C, name="logits")(h)
        mean = nn.Dense(Z, name="mean")(h)
        log_std = nn.Dense(Z, name="log_std")(h)
        if deterministic:
            action = jnp.argmax(logits, axis=-1)
            soft = nn.softmax(logits)
            z = mean
        else:
            action = jax.random.categorical(self.make_rng("action"), logits)
            g = jax.random.gumbel(self.make_rng("gumbel"), logits.shape)
            soft = nn.softmax((logits + g) / 0.7)
            z = mean + jnp.exp(log_std) * jax.random.normal(self.make_rng("z"), mean.shape)
        hard = jax.nn.one_hot(jnp.argmax(soft, axis=-1), C)
        code = soft + jax.lax.stop_gradient(hard - soft)
        y = jnp.concatenate([code, z], axis=-1)
        return nn.Dense(D, name="head")(y), action, log_std


class Port(nnx.Module):
    def __init__(self, rngs):
        self.stem = nnx.Linear(D, D, rngs=rngs)
        self.choice = nnx.Linear(D, C, rngs=rngs)
        self.mu = nnx.Linear(D, Z, rngs=rngs)
        self.sigma = nnx.Linear(D, Z, rngs=rngs)
        self.last = nnx.Linear(C + Z, D, rngs=rngs)
        self.rngs = rngs.fork()

    def __call__(self, x, deterministic=True):
        h = nnx.tanh(self.stem(x))
        scores = self.choice(h)
        mu = self.mu(h)
        log_sigma = self.sigma(h)
        if deterministic:
            act = jnp.argmax(scores, axis=-1)
            near = nnx.softmax(scores)
            latent = mu
        else:
            key = self.rngs.sample()
            act = jax.random.categorical(jax.random.fold_in(key, 1), scores)
            noise = jax.random.gumbel(jax.random.fold_in(key, 2), scores.shape)
            near = nnx.softmax((scores + noise) / 0.7)
            eps = jax.random.normal(jax.random.fold_in(key, 3), mu.shape)
            latent = mu + jnp.exp(log_sigma) * eps
        firm = jax.nn.one_hot(jnp.argmax(near, axis=-1), C)
        code = near + jax.lax.stop_gradient(firm - near)
        h = jnp.concatenate([code, latent], axis=-1)
        return self.last(h), act, log_sigma


PAIR = Pair(
    linen=Model(),
    nnx=lambda rngs: Port(rngs),
    inputs=(jax.ShapeDtypeStruct((B, D), "float32"),),
)

"""A variational autoencoder given its noise; Linen runs by `run` and returns a dict."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair

D, F, Z = 10, 8, 3


class Encoder(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = nn.leaky_relu(nn.Dense(F, name="hidden")(x), 0.1)
        both = nn.Dense(2 * Z, name="both")(h)
        mean, log_variance = jnp.split(both, 2, axis=-1)
        return mean, jnp.clip(log_variance, -6.0, 2.0)


class VAE(nn.Module):
    def setup(self):
        self.encoder = Encoder()
        self.widen = nn.Dense(F)
        self.norm = nn.LayerNorm(use_bias=False)
        self.decode = nn.Dense(D)
        self.temperature = self.param("temperature", nn.initializers.constant(0.7), ())
        self.offset = self.param("offset", nn.initializers.constant(0.1), ())

    def run(self, x, noise):
        mean, log_variance = self.encoder(x)
        std = jnp.exp(0.5 * log_variance)
        z = mean + std * noise * self.temperature
        h = self.widen(z)
        h = self.norm(h)
        h = nn.elu(h)
        y = nn.sigmoid(self.decode(h) + self.offset)
        kl = 0.5 * (jnp.exp(log_variance) + mean**2 - 1.0 - log_variance)
        kl = jnp.sum(kl, axis=-1)
        error = jnp.mean((x - y) ** 2, axis=-1)
        return {"output": y, "mean": mean, "kl": kl, "error": error}


class Infer(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(D, F, rngs=rngs)
        self.second = nnx.Linear(F, 2 * Z, rngs=rngs)

    def __call__(self, x):
        h = nnx.leaky_relu(self.first(x), 0.1)
        h = self.second(h)
        mu, log_var = h[..., :Z], h[..., Z:]
        return mu, jnp.clip(log_var, -6.0, 2.0)


class Port(nnx.Module):
    def __init__(self, rngs):
        self.infer = Infer(rngs)
        self.expand = nnx.Linear(Z, F, rngs=rngs)
        self.ln = nnx.LayerNorm(F, use_bias=False, rngs=rngs)
        self.project = nnx.Linear(F, D, rngs=rngs)
        self.heat = nnx.Param(jnp.asarray(0.7))
        self.shift = nnx.Param(jnp.asarray(0.1))

    def __call__(self, x, noise):
        mu, log_var = self.infer(x)
        sigma = jnp.exp(0.5 * log_var)
        z = mu + sigma * noise * self.heat[...]
        h = self.expand(z)
        h = self.ln(h)
        h = nnx.elu(h)
        image = nnx.sigmoid(self.project(h) + self.shift[...])
        loss = 0.5 * (jnp.exp(log_var) + mu**2 - 1.0 - log_var)
        loss = jnp.sum(loss, axis=-1)
        wrong = jnp.mean((x - image) ** 2, axis=-1)
        return image, mu, loss, wrong


PAIR = Pair(
    linen=VAE(),
    nnx=lambda rngs: Port(rngs),
    inputs=(jax.ShapeDtypeStruct((4, D), "float32"), jax.ShapeDtypeStruct((4, Z), "float32")),
    linen_call=lambda module, *inputs: module.run(*inputs),
    linen_output=lambda out: (out["output"], out["mean"], out["kl"], out["error"]),
)

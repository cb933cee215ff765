"""What starts as a copy: heads of one kernel, a target network with the numbers of the other."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair

B, D, F, M = 3, 4, 6, 3


class Model(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        start = nn.initializers.lecun_normal()
        online = self.param("online", start, (D, F))
        target = self.variable("target", "kernel", lambda: online)
        mixed = nn.vmap(
            nn.Dense,
            in_axes=None,
            out_axes=0,
            axis_size=M,
            variable_axes={"params": 0},
            split_rngs={"params": False},
        )
        h = mixed(F, name="heads")(nn.tanh(x @ online))
        goal = jax.lax.stop_gradient(jnp.tanh(x @ target.value))
        if train:
            target.value = 0.99 * target.value + 0.01 * jax.lax.stop_gradient(online)
        return jnp.mean((jnp.mean(h, axis=0) - goal) ** 2, axis=-1)


class Target(nnx.Variable):
    pass


class Port(nnx.Module):
    def __init__(self, rngs):
        start = nnx.initializers.lecun_normal()
        self.online = nnx.Param(start(rngs.params(), (D, F)))
        self.target = Target(self.online[...])
        head = nnx.Linear(F, F, rngs=rngs)
        self.kernel = nnx.Param(jnp.tile(head.kernel[...], (M, 1, 1)))
        self.bias = nnx.Param(jnp.zeros((M, F)))

    def __call__(self, x, train=False):
        h = nnx.tanh(x @ self.online[...])
        h = jnp.einsum("bd,mdf->mbf", h, self.kernel[...]) + self.bias[...][:, None]
        goal = jax.lax.stop_gradient(jnp.tanh(x @ self.target[...]))
        if train:
            new = jax.lax.stop_gradient(self.online[...])
            self.target[...] = 0.99 * self.target[...] + 0.01 * new
        return jnp.mean((jnp.mean(h, axis=0) - goal) ** 2, axis=-1)


PAIR = Pair(
    linen=Model(),
    nnx=lambda rngs: Port(rngs),
    inputs=(jax.ShapeDtypeStruct((B, D), "float32"),),
)

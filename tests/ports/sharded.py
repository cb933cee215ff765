"""A scanned stack of which the axes of the weights have names, the stack's own too."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair

N, D, F, V = 3, 4, 6, 7
STACK = {nnx.PARTITION_NAME: "layers"}
init = nn.initializers.lecun_normal()


def named(start, *names):
    return nn.with_partitioning(start, names)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        up = self.param("up", named(init, "embed", "mlp"), (D, F))
        bias = self.param("bias", named(nn.initializers.zeros, "mlp"), (F,))
        h = nn.relu(x @ up + bias)
        down = self.param("down", named(init, "mlp", "embed"), (F, D))
        scale = self.param("scale", nn.initializers.ones, (D,))
        x = x + scale * (h @ down)
        return x, None


class Model(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        table = self.param("table", named(nn.initializers.normal(0.1), "vocab", "embed"), (V, D))
        x = table[tokens]
        layers = nn.scan(
            Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=N,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        x, _ = layers(name="layers")(x, None)
        head = nn.Dense(V, kernel_init=named(init, "embed", "vocab"), name="head")
        return head(x)


class Layer(nnx.Module):
    def __init__(self, rngs):
        self.wide = nnx.Param(init(rngs.params(), (D, F)), out_sharding=("embed", "mlp"))
        self.shift = nnx.Param(jnp.zeros((F,)), out_sharding=("mlp",))
        self.narrow = nnx.Param(init(rngs.params(), (F, D)), out_sharding=("mlp", "embed"))
        self.scale = nnx.Param(jnp.ones((D,)))

    def __call__(self, x):
        h = nnx.relu(x @ self.wide[...] + self.shift[...])
        return x + self.scale[...] * (h @ self.narrow[...])


class Port(nnx.Module):
    def __init__(self, rngs):
        start = nnx.initializers.normal(0.1)
        self.rows = nnx.Param(start(rngs.params(), (V, D)), out_sharding=("vocab", "embed"))
        stack = nnx.vmap(Layer, transform_metadata=STACK)
        self.layers = stack(rngs.split(N))
        last = nnx.with_partitioning(init, ("embed", "vocab"))
        self.head = nnx.Linear(D, V, kernel_init=last, rngs=rngs)

    def __call__(self, tokens):
        h = self.rows[tokens]
        run = nnx.scan(
            lambda h, layer: layer(h),
            in_axes=(nnx.Carry, 0),
            out_axes=nnx.Carry,
            transform_metadata=STACK,
        )
        h = run(h, self.layers)
        return self.head(h)


PAIR = Pair(
    linen=Model(),
    nnx=lambda rngs: Port(rngs),
    inputs=lambda key: (jax.random.randint(key, (2, 3), 0, V),),
)

"""Convolutions with batch, group and RMS norm, pooling, dropout; trained or not by `train`."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(8, (3, 3), use_bias=False)(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        x = nn.relu(x)
        y = nn.Conv(8, (3, 3), strides=2)(x)
        y = nn.GroupNorm(num_groups=4)(y)
        y = nn.silu(y)
        y = nn.max_pool(y, (2, 2), strides=(2, 2))
        y = jnp.mean(y, axis=(1, 2))
        y = nn.RMSNorm()(y)
        y = nn.Dropout(0.5, deterministic=True)(y)
        return nn.Dense(4)(y)


class Port(nnx.Module):
    def __init__(self, rngs):
        self.stem = nnx.Conv(3, 8, (3, 3), use_bias=False, rngs=rngs)
        self.bn = nnx.BatchNorm(8, momentum=0.9, rngs=rngs)
        self.body = nnx.Conv(8, 8, (3, 3), strides=2, rngs=rngs)
        self.gn = nnx.GroupNorm(8, num_groups=4, rngs=rngs)
        self.rms = nnx.RMSNorm(8, rngs=rngs)
        self.drop = nnx.Dropout(0.5, deterministic=True, rngs=rngs)
        self.head = nnx.Linear(8, 4, rngs=rngs)

    def __call__(self, x, train):
        x = self.stem(x)
        x = self.bn(x, use_running_average=not train)
        x = nnx.relu(x)
        y = self.body(x)
        y = self.gn(y)
        y = nnx.silu(y)
        y = nnx.max_pool(y, (2, 2), strides=(2, 2))
        y = jnp.mean(y, axis=(1, 2))
        y = self.rms(y)
        y = self.drop(y)
        return self.head(y)


def pair(train):
    return Pair(
        linen=Net(),
        nnx=lambda rngs: Port(rngs),
        inputs=(jax.ShapeDtypeStruct((2, 8, 8, 3), "float32"),),
        linen_kwargs={"train": train},
        nnx_kwargs={"train": train},
    )


PAIR, TRAINING = pair(False), pair(True)

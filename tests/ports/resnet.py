"""A residual network with batch norm; both keep stages of blocks in lists inside of a dict."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair

STAGES = {"low": (4, 1), "high": (8, 2)}


class Block(nn.Module):
    features: int
    strides: int = 1

    @nn.compact
    def __call__(self, x, train):
        y = nn.Conv(self.features, (3, 3), self.strides, use_bias=False)(x)
        y = nn.BatchNorm(use_running_average=not train, momentum=0.9)(y)
        y = nn.relu(y)
        y = nn.Conv(self.features, (3, 3), use_bias=False)(y)
        y = nn.BatchNorm(use_running_average=not train, momentum=0.9)(y)
        if x.shape != y.shape:
            x = nn.Conv(self.features, (1, 1), self.strides, use_bias=False, name="shortcut")(x)
            x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="rescale")(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    def setup(self):
        self.stem = nn.Conv(4, (3, 3), use_bias=False)
        self.stem_norm = nn.BatchNorm(momentum=0.9)
        self.stages = {k: [Block(f, s), Block(f)] for k, (f, s) in STAGES.items()}
        self.head = nn.Dense(5)

    def __call__(self, x, train):
        x = self.stem(x)
        x = self.stem_norm(x, use_running_average=not train)
        x = nn.relu(x)
        for stage in STAGES:
            for block in self.stages[stage]:
                x = block(x, train)
        x = jnp.mean(x, axis=(1, 2))
        return self.head(x)


class Residual(nnx.Module):
    def __init__(self, before, after, strides, rngs):
        self.conv1 = nnx.Conv(before, after, (3, 3), strides, use_bias=False, rngs=rngs)
        self.bn1 = nnx.BatchNorm(after, momentum=0.9, rngs=rngs)
        self.conv2 = nnx.Conv(after, after, (3, 3), use_bias=False, rngs=rngs)
        self.bn2 = nnx.BatchNorm(after, momentum=0.9, rngs=rngs)
        self.project = before != after
        if self.project:
            self.down = nnx.Conv(before, after, (1, 1), strides, use_bias=False, rngs=rngs)
            self.down_bn = nnx.BatchNorm(after, momentum=0.9, rngs=rngs)

    def __call__(self, x, frozen):
        h = self.conv1(x)
        h = self.bn1(h, use_running_average=frozen)
        h = nnx.relu(h)
        h = self.conv2(h)
        h = self.bn2(h, use_running_average=frozen)
        if self.project:
            x = self.down(x)
            x = self.down_bn(x, use_running_average=frozen)
        return nnx.relu(x + h)


class Port(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 4, (3, 3), use_bias=False, rngs=rngs)
        self.bn = nnx.BatchNorm(4, momentum=0.9, rngs=rngs)
        self.body, before = nnx.Dict(), 4
        for name, (after, strides) in STAGES.items():
            blocks = [Residual(before, after, strides, rngs), Residual(after, after, 1, rngs)]
            self.body[name] = nnx.List(blocks)
            before = after
        self.classify = nnx.Linear(before, 5, rngs=rngs)

    def __call__(self, x, train):
        h = self.conv(x)
        h = self.bn(h, use_running_average=not train)
        h = nnx.relu(h)
        for name in STAGES:
            for block in self.body[name]:
                h = block(h, not train)
        h = jnp.mean(h, axis=(1, 2))
        return self.classify(h)


def pair(train):
    return Pair(
        linen=ResNet(),
        nnx=lambda rngs: Port(rngs),
        inputs=(jax.ShapeDtypeStruct((3, 8, 8, 3), "float32"),),
        linen_kwargs={"train": train},
        nnx_kwargs={"train": train},
    )


PAIR, TRAINING = pair(False), pair(True)

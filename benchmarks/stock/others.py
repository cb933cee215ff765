"""Dropout, activations with weights, pooling, what is called in a row."""

from flax import linen as nn
from flax import nnx

from benchmarks.stock.row import Row, array
from shared import Pair

B, IN, OUT = 3, 4, 5
SHAPE = (B, IN, OUT)


def dropout(**options):
    words = {"rate": 0.25, "deterministic": True, **options}

    def make(dtype):
        return Pair(
            nn.Dropout(**words),
            lambda rngs: nnx.Dropout(**words, rngs=rngs),
            (array(dtype, *SHAPE),),
        )

    return make


def prelu(dtype):
    """It has a dtype in NNX alone: it computes in that of its inputs."""
    return Pair(nn.PReLU(), lambda rngs: nnx.PReLU(), (array(dtype, *SHAPE),))


class Pool(nn.Module):
    name_of_it: str

    def __call__(self, x):
        return getattr(nn.pooling, self.name_of_it)(x, (2, 2), (2, 2), "SAME")


class PoolPort(nnx.Module):
    def __init__(self, name):
        self.name = name

    def __call__(self, x):
        return getattr(nnx, self.name)(x, (2, 2), (2, 2), "SAME")


def pool(name):
    def make(dtype):
        return Pair(Pool(name), lambda rngs: PoolPort(name), (array(dtype, 2, 4, 5, 3),))

    return make


def sequential(dtype):
    def build(rngs):
        first = nnx.Linear(IN, OUT, dtype=dtype, rngs=rngs)
        return nnx.Sequential(first, nnx.relu, nnx.Linear(OUT, IN, dtype=dtype, rngs=rngs))

    layers = [nn.Dense(OUT, dtype=dtype), nn.relu, nn.Dense(IN, dtype=dtype)]
    return Pair(nn.Sequential(layers), build, (array(dtype, B, IN),))


POOLS = ("max_pool", "avg_pool", "min_pool")

ROWS = (
    Row("Dropout", "Dropout", dropout()),
    Row("Dropout", "Dropout", dropout(broadcast_dims=(1,)), "broadcast_dims"),
    Row("PReLU", "PReLU", prelu),
    Row("Sequential", "Sequential", sequential),
    *(Row(name, name, pool(name)) for name in POOLS),
)

"""BatchNorm in a stack: statistics of each layer, over the whole batch that vmap maps."""

import jax
from flax import nnx


class NormBlock(nnx.Module):
    """`relu(norm(x @ kernel + bias))`: (features,) -> (features,)."""

    def __init__(self, features: int, train: bool, *, rngs: nnx.Rngs):
        self.dense = nnx.Linear(features, features, rngs=rngs)
        self.batch_norm = nnx.BatchNorm(
            features, use_running_average=not train, axis_name="batch", rngs=rngs
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.dense(x)
        x = self.batch_norm(x)
        new_x = nnx.relu(x)
        return new_x


class Synchronised(nnx.Module):
    """vmap(scan), one mean for the batch; params and batch_stats (N, ...)."""

    def __init__(self, num_layers: int, features: int, train: bool, *, rngs: nnx.Rngs):
        def init_layer(_, rngs):
            return None, NormBlock(features, train, rngs=rngs)

        scan = nnx.scan(init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0), graph=False)
        _, self.layers = scan(None, rngs.split(num_layers))

    # Scan: one layer becomes N, each with its own params and statistics.
    @staticmethod
    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry, graph=False)
    def scan_layer(layer: NormBlock, x: jax.Array) -> jax.Array:
        return layer(x)

    # Vmap: one example becomes B, all with the same params; axis_name is where their means meet.
    @nnx.vmap(in_axes=(None, 0), out_axes=0, axis_name="batch", graph=False)
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.scan_layer(self.layers, x)

"""A backward pass of one's own, and params that are used in another form than they are kept in."""

import jax
import jax.numpy as jnp
from flax import nnx


class ClippedBlock(nnx.Module):
    """`relu(x @ kernel + bias)`, the gradient of its params clipped: (features,) -> (features,)."""

    def __init__(self, features: int, limit: float, *, rngs: nnx.Rngs):
        self.dense = nnx.Linear(features, features, rngs=rngs)
        self.limit = limit

    def __call__(self, x: jax.Array) -> jax.Array:
        def layer(dense, x):
            return nnx.relu(dense(x))

        # Custom vjp: the way forward keeps how to go back; the way back clips what it gets.
        def forward(dense, x):
            return nnx.vjp(layer, dense, x, graph=False)

        def backward(pull, gradient):
            of_dense, of_x = pull(gradient)
            return jax.tree.map(self.clip, of_dense), of_x

        clipped = nnx.custom_vjp(layer, graph=False)
        clipped.defvjp(forward, backward)
        new_x = clipped(self.dense, x)
        return new_x

    def clip(self, gradient: jax.Array) -> jax.Array:
        return jnp.clip(gradient, -self.limit, self.limit)


class TransposedBlock(nnx.Module):
    """`relu(x @ kernel.T + bias)`: (features,) -> (features,). The kernel is kept as (out, in)."""

    def __init__(self, features: int, *, rngs: nnx.Rngs):
        self.dense = self.transposed(nnx.Linear(features, features, rngs=rngs))

    def __call__(self, x: jax.Array) -> jax.Array:
        new_x = nnx.relu(self.transposed(self.dense)(x))
        return new_x

    # Map variables: no lift is needed, for a module is a tree: kept in one form, used in another.
    @staticmethod
    def transposed(dense: nnx.Linear) -> nnx.Linear:
        return jax.tree.map(jnp.transpose, dense)


class Clipped(nnx.Module):
    """vmap(scan) of layers with a backward pass of their own; params (N, ...)."""

    def __init__(self, num_layers: int, features: int, limit: float, *, rngs: nnx.Rngs):
        def init_layer(_, rngs):
            return None, ClippedBlock(features, limit, rngs=rngs)

        scan = nnx.scan(init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0), graph=False)
        _, self.layers = scan(None, rngs.split(num_layers))

    # Scan: one layer becomes N, each with its own params.
    @staticmethod
    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry, graph=False)
    def scan_layer(layer: ClippedBlock, x: jax.Array) -> jax.Array:
        return layer(x)

    # Vmap: one example becomes B, all with the same params; clipped is the gradient of each.
    @nnx.vmap(in_axes=(None, 0), out_axes=0, graph=False)
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.scan_layer(self.layers, x)


class Transposed(nnx.Module):
    """vmap(scan) of layers whose kernel is kept transposed; params (N, ...)."""

    def __init__(self, num_layers: int, features: int, *, rngs: nnx.Rngs):
        def init_layer(_, rngs):
            return None, TransposedBlock(features, rngs=rngs)

        scan = nnx.scan(init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0), graph=False)
        _, self.layers = scan(None, rngs.split(num_layers))

    # Scan: one layer becomes N, each with its own params.
    @staticmethod
    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry, graph=False)
    def scan_layer(layer: TransposedBlock, x: jax.Array) -> jax.Array:
        return layer(x)

    # Vmap: one example becomes B, all with the same params.
    @nnx.vmap(in_axes=(None, 0), out_axes=0, graph=False)
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.scan_layer(self.layers, x)

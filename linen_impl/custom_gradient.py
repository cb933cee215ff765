"""A backward pass of one's own, and params that are used in another form than they are kept in."""

import jax
import jax.numpy as jnp
from flax import linen as nn


class ClippedBlock(nn.Module):
    """`relu(x @ kernel + bias)`, the gradient of its params clipped: (features,) -> (features,)."""

    features: int
    limit: float

    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        def layer(dense, x):
            return nn.relu(dense(x))

        # Custom vjp: the way forward keeps how to go back; the way back clips what it gets.
        def forward(dense, x):
            return nn.vjp(layer, dense, x)

        def backward(pull, gradient):
            of_params, of_x = pull(gradient)
            return jax.tree.map(self.clip, of_params), of_x

        clipped = nn.custom_vjp(layer, forward_fn=forward, backward_fn=backward)
        new_x = clipped(nn.Dense(self.features), x)
        return new_x, None

    def clip(self, gradient: jax.Array) -> jax.Array:
        return jnp.clip(gradient, -self.limit, self.limit)


class TransposedBlock(nn.Module):
    """`relu(x @ kernel.T + bias)`: (features,) -> (features,). The kernel is kept as (out, in)."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        def transposed(params):
            return jax.tree.map(jnp.transpose, params)

        # Map variables: the layer sees another form of its params than the one that is kept.
        TransposedDense = nn.map_variables(
            nn.Dense, "params", trans_in_fn=transposed, trans_out_fn=transposed, init=True
        )
        new_x = nn.relu(TransposedDense(self.features, name="dense")(x))
        return new_x, None


def Clipped(num_layers: int, features: int, limit: float) -> nn.Module:
    """vmap(scan) of layers with a backward pass of their own; params (N, ...)."""

    # Scan: one layer becomes N, each with its own params.
    ScanLayer = nn.scan(
        ClippedBlock,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=num_layers,
    )

    # Vmap: one example becomes B, all with the same params; clipped is the gradient of each.
    BatchedScanLayer = nn.vmap(
        ScanLayer,
        in_axes=0,
        out_axes=0,
        variable_axes={"params": None},
        split_rngs={"params": False},
    )

    return BatchedScanLayer(features=features, limit=limit)


def Transposed(num_layers: int, features: int) -> nn.Module:
    """vmap(scan) of layers whose kernel is kept transposed; params (N, ...)."""

    # Scan: one layer becomes N, each with its own params.
    ScanLayer = nn.scan(
        TransposedBlock,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=num_layers,
    )

    # Vmap: one example becomes B, all with the same params.
    BatchedScanLayer = nn.vmap(
        ScanLayer,
        in_axes=0,
        out_axes=0,
        variable_axes={"params": None},
        split_rngs={"params": False},
    )

    return BatchedScanLayer(features=features)

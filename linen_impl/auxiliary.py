"""What layers give away beside their result: what they sow, losses, gradients of the inside."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


class ObservedBlock(nn.Module):
    """`relu(x @ kernel + bias)`: (features,) -> (features,), and what is seen on the way."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        hidden = nn.Dense(self.features)(x)
        hidden = self.perturb("hidden", hidden)
        self.sow("intermediates", "before", hidden)
        self.sow("losses", "size", jnp.mean(hidden**2))
        new_x = nn.relu(hidden)
        return new_x, None


def Observed(num_layers: int, features: int) -> nn.Module:
    """vmap(scan) of layers that are looked into; params (N, ...), what is seen (B, N, ...)."""

    # Scan: one layer becomes N; each collection needs its axis, or is empty in silence.
    ScanLayer = nn.scan(
        ObservedBlock,
        variable_axes={"params": 0, "intermediates": 0, "losses": 0, "perturbations": 0},
        split_rngs={"params": True},
        length=num_layers,
    )

    # Vmap: one example becomes B; each sees something else.
    BatchedScanLayer = nn.vmap(
        ScanLayer,
        in_axes=0,
        out_axes=0,
        variable_axes={"params": None, "intermediates": 0, "losses": 0, "perturbations": 0},
        split_rngs={"params": False},
    )

    return BatchedScanLayer(features=features)


def observe(
    model: nn.Module, variables: Any, x_batch: jax.Array, hidden: jax.Array
) -> tuple[tuple[jax.Array, ...], dict[str, Any]]:
    """The activation (B, F), what is before relu (B, N, F), the losses (B, N).

    The gradient by `hidden`, zeros (B, N, F), is that by what is before relu.
    """
    variables = {**variables, "perturbations": {"hidden": hidden}}
    (final, _), seen = model.apply(variables, x_batch, None, mutable=["intermediates", "losses"])
    # What is sown several times under one name is a tuple: here of one.
    (before,), (size,) = seen["intermediates"]["before"], seen["losses"]["size"]
    return (final, before, size), {}

"""What layers give away beside their result: what they sow, losses, gradients of the inside."""

import jax
import jax.numpy as jnp
from flax import nnx


class Loss(nnx.Variable):
    """A loss that a layer sows."""


class ObservedBlock(nnx.Module):
    """`relu(x @ kernel + bias)`: (features,) -> (features,), and what is seen on the way."""

    def __init__(self, features: int, *, rngs: nnx.Rngs):
        self.dense = nnx.Linear(features, features, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = self.dense(x)
        hidden = self.perturb("hidden", hidden)
        self.sow(nnx.Intermediate, "before", hidden)
        self.sow(Loss, "size", jnp.mean(hidden**2))
        new_x = nnx.relu(hidden)
        return new_x


class Observed(nnx.Module):
    """vmap(scan) of layers that are looked into; params (N, ...), what is seen (B, N, ...)."""

    def __init__(self, num_layers: int, features: int, *, rngs: nnx.Rngs):
        def init_layer(_, rngs):
            return None, ObservedBlock(features, rngs=rngs)

        scan = nnx.scan(init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0), graph=False)
        _, self.layers = scan(None, rngs.split(num_layers))

    # Scan: one layer becomes N; what it sows is captured inside, and returned for each layer.
    @staticmethod
    @nnx.scan(in_axes=(0, nnx.Carry, 0), out_axes=(nnx.Carry, 0), graph=False)
    def scan_layer(
        layer: ObservedBlock, x: jax.Array, hidden: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        perturbed = nnx.State({"hidden": nnx.Perturbation(hidden)})
        call = nnx.capture(ObservedBlock.__call__, nnx.Intermediate, Loss, init=perturbed)
        new_x, intermediates, losses = call(layer, x)  # type: ignore[misc]
        return new_x, (intermediates["before"][0], losses["size"][0])

    # Vmap: one example becomes B; each sees something else.
    @nnx.vmap(in_axes=(None, 0, 0), out_axes=0, graph=False)
    def __call__(
        self, x: jax.Array, hidden: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        return self.scan_layer(self.layers, x, hidden)


def observe(model: Observed, x_batch: jax.Array, hidden: jax.Array) -> tuple[jax.Array, ...]:
    """The activation (B, F), what is before relu (B, N, F), the losses (B, N).

    The gradient by `hidden`, zeros (B, N, F), is that by what is before relu.
    """
    final, (before, size) = model(x_batch, hidden)
    return final, before, size

"""A stack of causal attention: a whole text at once, or token by token with a cache."""

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.attention import dot_product_attention_weights


def linen_attention(query, key, value, *, mask, **_):
    """Linen's attention: (B, T, heads, head_dim) -> the same.

    The default of NNX is `jax.nn.dot_product_attention`: the same up to rounding, for it scales the
    scores where Linen scales the query.
    """
    weights = dot_product_attention_weights(query, key, mask=mask)
    return jnp.einsum("...hqk,...khd->...qhd", weights, value)


class AttentionBlock(nnx.Module):
    """`x + attention(x)`, where no token sees a later one: (B, T, F) -> (B, T, F)."""

    def __init__(
        self, features: int, num_heads: int, head_dim: int, decode: bool, *, rngs: nnx.Rngs
    ):
        self.attention = nnx.MultiHeadAttention(
            num_heads,
            features,
            qkv_features=num_heads * head_dim,
            decode=decode,
            attention_fn=linen_attention,
            rngs=rngs,
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        # While decoding the cache says which tokens there are: it needs no mask.
        mask = None if self.attention.decode else nnx.make_causal_mask(x[..., 0])
        new_x = x + self.attention(x, mask=mask)
        return new_x


class Causal(nnx.Module):
    """The whole text at once: (B, T, F) -> (B, T, F). The params are those of `Decode`."""

    decode = False

    def __init__(
        self, num_layers: int, features: int, num_heads: int, head_dim: int, *, rngs: nnx.Rngs
    ):
        def init_layer(_, rngs):
            return None, AttentionBlock(features, num_heads, head_dim, self.decode, rngs=rngs)

        scan = nnx.scan(init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0), graph=False)
        _, self.layers = scan(None, rngs.split(num_layers))

    # Scan: one layer becomes N, each with its own params.
    @staticmethod
    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry, graph=False)
    def scan_layer(layer: AttentionBlock, x: jax.Array) -> jax.Array:
        return layer(x)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.scan_layer(self.layers, x)


class Decode(Causal):
    """One token after the other: (B, 1, F) -> (B, 1, F). Cache (N, B, length, heads, head_dim)."""

    decode = True

    # The cache is made by a call of its own, for texts of `input_shape` (B, length, F). A lift
    # writes back the values of a module's variables and forgets new ones in silence, so what gets
    # new ones is a copy, which the lift returns.
    def init_cache(self, input_shape: tuple[int, ...]):
        def init_layer(_, block):
            block = nnx.clone(block, graph=False)
            block.attention.init_cache(input_shape)
            return None, block

        scan = nnx.scan(init_layer, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0), graph=False)
        _, self.layers = scan(None, self.layers)

    # Scan: one layer becomes N, each with its own params and its own cache.
    @staticmethod
    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry, graph=False)
    def scan_layer(layer: AttentionBlock, x: jax.Array) -> jax.Array:
        return layer(x)

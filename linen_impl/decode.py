"""A stack of causal attention: a whole text at once, or token by token with a cache."""

import jax
from flax import linen as nn


class AttentionBlock(nn.Module):
    """`x + attention(x)`, where no token sees a later one: (B, T, F) -> (B, T, F)."""

    features: int
    num_heads: int
    head_dim: int
    decode: bool

    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        attention = nn.MultiHeadDotProductAttention(
            self.num_heads,
            qkv_features=self.num_heads * self.head_dim,
            out_features=self.features,
            decode=self.decode,
        )
        # While decoding the cache says which tokens there are: it needs no mask.
        mask = None if self.decode else nn.make_causal_mask(x[..., 0])
        new_x = x + attention(x, mask=mask)
        return new_x, None


def Causal(num_layers: int, features: int, num_heads: int, head_dim: int) -> nn.Module:
    """The whole text at once: (B, T, F) -> (B, T, F). The params are those of `Decode`."""

    # Scan: one layer becomes N, each with its own params.
    ScanLayer = nn.scan(
        AttentionBlock,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=num_layers,
    )

    return ScanLayer(features, num_heads, head_dim, decode=False)


def Decode(num_layers: int, features: int, num_heads: int, head_dim: int) -> nn.Module:
    """One token after the other: (B, 1, F) -> (B, 1, F). Cache (N, B, length, heads, head_dim)."""

    # The cache is as long as the text that `model.init` is called with.

    # Scan: one layer becomes N, each with its own params and its own cache.
    ScanLayer = nn.scan(
        AttentionBlock,
        variable_axes={"params": 0, "cache": 0},
        split_rngs={"params": True},
        length=num_layers,
    )

    return ScanLayer(features, num_heads, head_dim, decode=True)

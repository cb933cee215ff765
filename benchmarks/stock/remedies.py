"""Ways to build a layer of NNX that make it compute, or start, what Linen's does."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from benchmarks.stock import attention, norms, recurrent
from benchmarks.stock.row import Row


def as_they_are(arrays, dtype=None):
    """A `promote_dtype`: Linen's norms compute in float32, from what they are given."""
    return arrays


def linens_attention(*arrays, is_causal=False, **words):
    """An `attention_fn`, which NNX tells one thing more."""
    assert not is_causal
    return nn.dot_product_attention(*arrays, **words)


def orthogonal_gates(key, shape, dtype=jnp.float32):
    """A `recurrent_kernel_init`: in Linen each gate has a kernel of its own."""
    gates = shape[1] // shape[0]
    init = nnx.initializers.orthogonal()
    own = [init(k, (shape[0], shape[0]), dtype) for k in jax.random.split(key, gates)]
    return jnp.concatenate(own, axis=-1)


class GRUCellWithBias(nnx.GRUCell):
    """A `GRUCell` with the bias that Linen's has in what the reset gate lets through."""

    def __init__(self, in_features, hidden_features, *, rngs, **words):
        super().__init__(in_features, hidden_features, rngs=rngs, **words)
        self.hn_bias = nnx.Param(jnp.zeros(hidden_features, self.param_dtype))

    def __call__(self, carry, inputs):
        x_r, x_z, x_n = jnp.split(self.dense_i(inputs), 3, axis=-1)
        h_r, h_z, h_n = jnp.split(self.dense_h(carry), 3, axis=-1)
        r, z = self.gate_fn(x_r + h_r), self.gate_fn(x_z + h_z)
        n = self.activation_fn(x_n + r * (h_n + self.hn_bias.astype(h_n.dtype)))
        carry = (1.0 - z) * n + z * carry
        return carry, carry


# What a page shows of them.
SHOWN = (as_they_are, linens_attention, orthogonal_gates, GRUCellWithBias)


def _norm(name):
    make, shape, words = norms.NORMS[name]

    def built(dtype):
        def build(rngs):
            own = {"dtype": dtype, "promote_dtype": as_they_are, **words}
            return getattr(nnx, name)(norms.D, rngs=rngs, **own)

        return dataclasses.replace(norms.of_far(make, shape)(dtype), nnx=build)

    return Row(name, name, built, "promote_dtype=as_they_are")


def _attention(how, **words):
    linen = {word: value for word, value in words.items() if word == "normalize_qk"}

    def built(dtype):
        def build(rngs):
            own = {"dtype": dtype, "decode": False, "attention_fn": linens_attention, **words}
            return nnx.MultiHeadAttention(attention.HEADS, attention.D, rngs=rngs, **own)

        return dataclasses.replace(attention.attention(**linen)(dtype), nnx=build)

    return Row(*attention.NAMES, built, how)


def _cell(name, layer, how, weight_map=None):
    def built(dtype):
        def build(rngs):
            own = {"dtype": dtype, "recurrent_kernel_init": orthogonal_gates}
            return layer(recurrent.IN, recurrent.H, rngs=rngs, **own)

        pair = recurrent.cell(name)(dtype)
        return dataclasses.replace(pair, nnx=build, weight_map=weight_map or {})

    return Row(name, name, built, how)


# The gates are fused in one weight, which Flax's own cell need not say.
_FIRST = f"0:{recurrent.H}"
_FUSED = {
    "params/ir/kernel": f"params/dense_i/kernel[:, {_FIRST}]",
    "params/hr/kernel": f"params/dense_h/kernel[:, {_FIRST}]",
    "params/ir/bias": f"params/dense_i/bias[{_FIRST}]",
}
_INIT = "recurrent_kernel_init=orthogonal_gates"

ROWS = (
    *map(_norm, norms.NORMS),
    _attention("attention_fn=linens_attention"),
    _attention(
        "normalize_qk, attention_fn=linens_attention, ln_promote_dtype=as_they_are",
        normalize_qk=True,
        ln_promote_dtype=as_they_are,
    ),
    _cell("OptimizedLSTMCell", nnx.OptimizedLSTMCell, _INIT),
    _cell("GRUCell", GRUCellWithBias, f"GRUCellWithBias, {_INIT}", _FUSED),
)

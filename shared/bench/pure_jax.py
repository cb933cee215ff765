"""The cases in plain JAX, by hand and without modules, to compare the programs of the twins with.

Each is in the form that XLA makes the same program of as of the twins, also where a mask or a bias
could be written shorter.
"""

import functools
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from shared.bench import pure_layers, pure_transformer
from shared.bench.pure_layers import Layer, Leaves, dense_relu
from shared.cases import Case
from shared.interface import Variables
from shared.linen_keys import draw_words
from shared.trees import flatten

Forward = Callable[..., jax.Array]


class Pure(NamedTuple):
    """A case in plain JAX.

    Attributes:
      leaves: from Linen's variables to their arrays, sorted by path: `layers_2` before `layers_10`.
      forward: (leaves, *inputs) -> the activation (B, F); pure, can be jitted.
    """

    leaves: Callable[[Variables], Leaves]
    forward: Forward


NOT_IN_PLAIN_JAX = {
    "confused": "it cannot be initialised; its call is that of `shared`, on the params of `shared`",
}


def pure(case: Case) -> Pure | None:
    """`case` in plain JAX; None for those of `NOT_IN_PLAIN_JAX`."""
    if case.name in NOT_IN_PLAIN_JAX:
        return None
    return Pure(leaves_of, FORWARD[case.name](case))


def leaves_of(variables: Variables) -> Leaves:
    """The arrays of Linen's variables, in the order of their paths."""
    leaves = flatten(variables)
    return tuple(leaves[path] for path in sorted(leaves, key=_by_number))


def _by_number(path: str) -> list[tuple[int, str]]:
    return [(int(word) if word.isdigit() else 0, word) for word in re.split(r"(\d+)", path)]


def scanned(layer: Layer, x: jax.Array, layers: Any, length: int | None = None) -> jax.Array:
    """One layer after the other: `layers` (N, ...)."""
    return lax.scan(lambda x, params: (layer(x, params), None), x, layers, length)[0]


def stack(layer: Layer) -> Forward:
    """vmap(scan): every example goes through one stack; leaves (N, ...)."""
    return lambda leaves, x_batch: jax.vmap(lambda x: scanned(layer, x, leaves))(x_batch)


def batched_stack(layer: Layer) -> Forward:
    """scan: the batch goes through as it is; leaves (N, ...)."""
    return lambda leaves, x_batch: scanned(layer, x_batch, leaves)


def reversed_stack(leaves: Leaves, x_batch: jax.Array) -> jax.Array:
    """scan(vmap): one layer after the other, each over the batch; leaves (N, ...)."""
    return scanned(jax.vmap(dense_relu, in_axes=(0, None)), x_batch, leaves)


def ensemble(leaves: Leaves, x_batch: jax.Array) -> jax.Array:
    """vmap(scan): each example goes through a stack of its own; leaves (B, N, ...)."""
    return jax.vmap(lambda x, own: scanned(dense_relu, x, own))(x_batch, leaves)


def reversed_ensemble(leaves: Leaves, x_batch: jax.Array) -> jax.Array:
    """scan(vmap): the same; leaves (N, B, ...)."""
    return scanned(jax.vmap(dense_relu), x_batch, leaves)


def remat(case: Case) -> Forward:
    """vmap(scan(remat)): a layer keeps what the policy of `case` names."""
    policy = getattr(jax.checkpoint_policies, case.arguments["policy"])
    return stack(jax.checkpoint(dense_relu, prevent_cse=False, policy=policy))


def remat_scan(leaves: Leaves, x_batch: jax.Array) -> jax.Array:
    """vmap(scan(remat(scan))): a group is computed once more; leaves (N, I, ...)."""
    group = jax.checkpoint(functools.partial(scanned, dense_relu), prevent_cse=False)
    return stack(group)(leaves, x_batch)


def layer_inputs(case: Case) -> Forward:
    """vmap(scan): a shift of each layer is scanned, shifts (N, F); one gain (F,) serves all."""
    reverse, unroll = case.arguments.get("reverse", False), case.arguments.get("unroll", 1)
    axis = case.inputs[1].axes.index("layers")

    def forward(leaves: Leaves, x_batch: jax.Array, shifts: jax.Array, gain: jax.Array):
        def layer(x, of_layer):
            (bias, kernel), shift = of_layer
            before = x @ kernel + bias + shift
            return jax.nn.relu(before) * gain, before  # stacked in vain here, as the twins do

        layers = leaves, jnp.moveaxis(shifts, axis, 0)
        scan = functools.partial(lax.scan, layer, xs=layers, reverse=reverse, unroll=unroll)
        return jax.vmap(lambda x: scan(x)[0])(x_batch)

    return forward


def scan_axis_1(leaves: Leaves, x_batch: jax.Array) -> jax.Array:
    """scan: the layers on axis 1, kernel (F, N, F), bias (F, N)."""
    return scanned(dense_relu, x_batch, [jnp.moveaxis(leaf, 1, 0) for leaf in leaves])


def layer_list(leaves: Leaves, x_batch: jax.Array) -> jax.Array:
    """A loop: leaves are bias (F,) and kernel (F, F) of each layer in turn."""
    for params in zip(leaves[::2], leaves[1::2], strict=True):
        x_batch = dense_relu(x_batch, params)
    return x_batch


def tied_layers(case: Case) -> Forward:
    """scan: N times the same layer; bias (F,), kernel (F, F)."""
    return lambda leaves, x_batch: scanned(
        lambda x, _: dense_relu(x, leaves), x_batch, None, case.num_layers
    )


def tied_embedding(leaves: Leaves, tokens: jax.Array) -> jax.Array:
    """Tokens (B,) -> logits (B, vocab): a stack between both uses of the table (vocab, F)."""
    table, *layers = leaves
    return scanned(dense_relu, jnp.take(table, tokens, axis=0), layers) @ table.T


def clipped(case: Case) -> Forward:
    """vmap(scan(custom_vjp)): the gradient of the params of each example is clipped."""
    limit = case.arguments["limit"]

    def backward(pull, gradient):
        of_x, of_params = pull(gradient)
        return of_x, jax.tree.map(lambda leaf: jnp.clip(leaf, -limit, limit), of_params)

    layer = jax.custom_vjp(dense_relu)
    layer.defvjp(lambda x, params: jax.vjp(dense_relu, x, params), backward)
    return stack(layer)


def dropout(case: Case, is_split: bool) -> Forward:
    """vmap(scan): masks drawn with Linen's keys, of each example or one for the batch."""
    keep = 1 - case.arguments["rate"]
    (word,) = draw_words(case.inputs[1].draws, case.num_scans)

    def layer(x, of_layer):
        params, key = of_layer
        x = dense_relu(x, params)
        mask = jax.random.bernoulli(jax.random.fold_in(key, jnp.uint32(word)), keep, x.shape)
        return lax.select(mask, x / keep, jnp.zeros_like(x))

    def forward(leaves: Leaves, x_batch: jax.Array, key: jax.Array) -> jax.Array:
        def one(x, key):
            return scanned(layer, x, (leaves, jax.random.split(key, case.num_layers)))

        keys = jax.random.split(key, len(x_batch)) if is_split else key
        return jax.vmap(one, in_axes=(0, 0 if is_split else None))(x_batch, keys)

    return forward


def batch_norm(case: Case) -> Forward:
    """vmap(scan): the means of the examples meet in the vmap; leaves (N, F), kernel (N, F, F)."""

    def layer(x, leaves):
        mean, var, bias, scale, dense_bias, kernel = leaves
        x = x @ kernel + dense_bias
        if case.arguments["train"]:
            mean, square = lax.pmean(jnp.stack((x, jnp.square(x))), "batch")
            var = jnp.maximum(0.0, square - jnp.square(mean))
        return jax.nn.relu((x - mean) * (lax.rsqrt(var + 1e-5) * scale) + bias)

    scan = functools.partial(scanned, layer)
    return lambda leaves, x: jax.vmap(scan, (0, None), axis_name="batch")(x, leaves)


def mixed_precision(leaves: Leaves, x_batch: jax.Array) -> jax.Array:
    """scan: layers in bfloat16, of params in float32."""
    x = scanned(pure_layers.mixed, x_batch.astype(jnp.bfloat16), leaves)
    return x.astype(x_batch.dtype)


def scaled(leaves: Leaves, x_batch: jax.Array) -> jax.Array:
    """A stack, times a scale (F,)."""
    scale, *layers = leaves
    return stack(dense_relu)(tuple(layers), x_batch) * scale


def perturbed(leaves: Leaves, x_batch: jax.Array, hidden: jax.Array) -> jax.Array:
    """vmap(scan): what is before relu has a perturbation of its own, hidden (B, N, F)."""

    def layer(x, of_layer):
        (bias, kernel), hidden = of_layer
        return jax.nn.relu(x @ kernel + bias + hidden)

    return jax.vmap(lambda x, hidden: scanned(layer, x, (leaves, hidden)))(x_batch, hidden)


_STACK = stack(dense_relu)

FORWARD: dict[str, Callable[[Case], Forward]] = {
    **dict.fromkeys(("shared", "sharding", "legacy"), lambda _: _STACK),
    "reversed": lambda _: reversed_stack,
    "ensemble": lambda _: ensemble,
    "reversed_ensemble": lambda _: reversed_ensemble,
    "identical_copies": lambda _: ensemble,
    "dropout": functools.partial(dropout, is_split=True),
    "dropout_shared_masks": functools.partial(dropout, is_split=False),
    "batch_norm": batch_norm,
    "batch_norm_eval": batch_norm,
    "remat": remat,
    "remat_dots": remat,
    "remat_scan": lambda _: remat_scan,
    "layer_inputs": layer_inputs,
    "layer_inputs_reverse": layer_inputs,
    "layer_inputs_axes": layer_inputs,
    "control_flow": lambda _: stack(pure_layers.choosing),
    "while_loop": lambda _: stack(pure_layers.repeating),
    "custom_vjp": clipped,
    "map_variables": lambda _: stack(pure_layers.transposed),
    "auxiliary": lambda _: perturbed,
    "scan_axis_1": lambda _: scan_axis_1,
    "layer_list": lambda _: layer_list,
    "tied_layers": tied_layers,
    "tied_embedding": lambda _: tied_embedding,
    "nested": lambda _: batched_stack(pure_layers.pair),
    "causal": lambda _: batched_stack(pure_layers.causal),
    "decode": lambda _: batched_stack(pure_layers.decode),
    "mixed_precision": lambda _: mixed_precision,
    "bridge": lambda _: scaled,
    **pure_transformer.FORWARD,
}

"""Mistakes planted in ports, and what `verify` says of each: `python tests/planted_mistakes.py`.

Each row takes a port of `tests/ports`, replaces one piece of its source, and says which lines of the
two sources should be named: those that hold the given text.
"""

import collections
import contextlib
import functools
import importlib.util
import multiprocessing
import tempfile
from pathlib import Path
from unittest import mock

from shared import verify
from shared.models.gradients import CannotRunError
from shared.models.pure_pair import pure_pair
from shared.verification.checks.table import ALL_CHECKS

PORTS = Path(__file__).parent / "ports"
MLP, LM, NET = "mlp.PAIR", "transformer.PAIR", "convnet.PAIR"
VIT, LLAMA, T5, RES, UNET, MIX = (
    "vit.PAIR",
    "llama.PAIR",
    "t5.PAIR",
    "resnet.PAIR",
    "unet.PAIR",
    "mixer.PAIR",
)
HEADS = "layouts.HEADS_IN_RESULTS"
CHOICE, LOOP = "choices.PAIR", "choices.LOOP"
MOE, RNN, VAE, ENS, HALF, TRAIN = (
    "experts.PAIR",
    "recurrent.PAIR",
    "vae.PAIR",
    "ensemble.PAIR",
    "mixed.PAIR",
    "resnet.TRAINING",
)

# (pair, kind, old, new, text of the Linen line, text of the NNX line; None: the new text). Several
# texts: any of them is right. Where NNX does something that Linen does not, the Linen line is one of
# the two that it would stand between; where it lacks something, so is the NNX line.
BUGS = [
    (MLP, "wrong activation", "a = nnx.relu(a)", "a = nnx.gelu(a)", "h = nn.relu(h)", None),
    (MLP, "wrong activation", "nnx.tanh(self.third(a))", "nnx.sigmoid(self.third(a))", "z = nn.tanh", None),
    (MLP, "missing activation", "        a = nnx.relu(a)\n", "", "h = nn.relu(h)", "a = self.first(x)"),
    (MLP, "missing residual", "a = a + b", "a = b", "h = h + y", "b = self.second(a)"),
    (MLP, "wrong residual", "a = a + b", "a = a - b", "h = h + y", None),
    (MLP, "residual twice", "a = a + b", "a = a + b + a", "h = h + y", None),
    (MLP, "epsilon", "nnx.LayerNorm(16, rngs=rngs)", "nnx.LayerNorm(16, epsilon=1e-5, rngs=rngs)", "h = nn.LayerNorm()(h)", "a = self.norm(a)"),
    (MLP, "missing norm", "        a = self.norm(a)\n", "", "h = nn.LayerNorm()(h)", "a = a + b"),
    (MLP, "wrong scale", "a = a * 0.5", "a = a * 0.25", "h = h * 0.5", None),
    (MLP, "missing scale", "        a = a * 0.5\n", "", "h = h * 0.5", "a = self.norm(a)"),
    (MLP, "concat order", "[a, c]", "[c, a]", "jnp.concatenate([h, z]", None),
    (MLP, "bias dropped", "nnx.Linear(16, 16, rngs=rngs)\n        self.norm", "nnx.Linear(16, 16, use_bias=False, rngs=rngs)\n        self.norm", "y = nn.Dense(16)(h)", "b = self.second(a)"),
    (MLP, "layer twice", "b = self.second(a)", "b = self.second(self.second(a))", "y = nn.Dense(16)(h)", None),
    (MLP, "layer skipped", "b = self.second(a)", "b = a", "y = nn.Dense(16)(h)", "a = nnx.relu(a)"),
    (MLP, "stop_gradient", "b = self.second(a)", "b = self.second(jax.lax.stop_gradient(a))", ("h = nn.relu(h)", "y = nn.Dense(16)(h)"), None),
    (MLP, "bf16 cast", "b = self.second(a)", "b = self.second(a.astype(jnp.bfloat16).astype(a.dtype))", ("h = nn.relu(h)", "y = nn.Dense(16)(h)"), None),
    (MLP, "transposed kernel", "b = self.second(a)", "b = a @ self.second.kernel.T + self.second.bias", ("h = nn.relu(h)", "y = nn.Dense(16)(h)"), None),
    (MLP, "dropout left on", "a = a * 0.5", "a = nnx.Dropout(0.1, rngs=nnx.Rngs(0))(a) * 0.5", ("h = nn.LayerNorm()(h)", "h = h * 0.5"), None),
    (LM, "tanh gelu against exact", "nnx.gelu(h)", "nnx.gelu(h, approximate=False)", "h = nn.gelu(h)", None),
    (LM, "mask lost", "        scores = jnp.where(jnp.tril(jnp.ones((T, T), bool)), scores, -1e9)\n", "", "s = jnp.where", "scores = jnp.einsum"),
    (LM, "mask off by one", "jnp.ones((T, T), bool)), scores", "jnp.ones((T, T), bool), 1), scores", "s = jnp.where", None),
    (LM, "wrong softmax axis", "softmax(scores, axis=-1)", "softmax(scores, axis=-2)", "w = jax.nn.softmax", None),
    (LM, "missing scale", "q, k) / jnp.sqrt(1.0 * K)\n        scores", "q, k)\n        scores", "s = jnp.einsum", None),
    (LM, "wrong scale", "/ jnp.sqrt(1.0 * K)\n        scores", "/ jnp.sqrt(1.0 * D)\n        scores", "s = jnp.einsum", None),
    (LM, "q/k swapped", "bqhk,bmhk->bhqm\", q, k) / jnp.sqrt(1.0 * K)\n        scores", "bqhk,bmhk->bhqm\", k, q) / jnp.sqrt(1.0 * K)\n        scores", "s = jnp.einsum", None),
    (LM, "wrong operand", "weights, v)", "weights, k)", "o = jnp.einsum", None),
    (LM, "missing residual", "x = x + self.out(mixed)", "x = self.out(mixed)", 'x = x + nn.DenseGeneral(D', None),
    (LM, "missing residual", "x = x + self.down(h)", "x = self.down(h)", 'x = x + nn.Dense(D, name="down")', None),
    (LM, "pre/post norm", "h = self.post(x)\n        h = self.up(h)", "h = self.up(x)", "h = nn.LayerNorm()(x)\n        h = nn.Dense", ("x = x + self.out(mixed)", "h = self.up(x)")),
    (LM, "epsilon", "self.final = nnx.LayerNorm(D, rngs=rngs)", "self.final = nnx.LayerNorm(D, epsilon=1e-5, rngs=rngs)", "x = nn.LayerNorm()(x)", "x = self.final(x)"),
    (LM, "position off by one", "jnp.arange(T)\n        x = self.tok", "jnp.arange(T) + 1\n        x = self.tok", ("positions = jnp.arange(T)", "x = embed(tokens) + nn.Embed"), None),
    (LM, "embedding scaled", "x = self.tok(tokens) + ", "x = self.tok(tokens) * D**0.5 + ", "x = embed(tokens) + nn.Embed", None),
    (LM, "untied", "return self.tok.attend(x)", "return self.pos.attend(x)", "return embed.attend(x)", None),
    (LM, "stop_gradient", "x = self.final(x)", "x = self.final(jax.lax.stop_gradient(x))", ('x = x + nn.Dense(D, name="down")', "x = nn.LayerNorm()(x)"), None),
    (LM, "missing norm", "        x = self.final(x)\n", "", "x = nn.LayerNorm()(x)", ("x = layer(x)", "x = x + self.down(h)")),
    (LM, "layer order", "in self.layers:", "in reversed(self.layers):", "x, _ = scan()(x, None)", None),
    (LM, "layer skipped", "in self.layers:", "in self.layers[1:]:", "x, _ = scan()(x, None)", None),
    (NET, "batch statistics", "self.bn(x, use_running_average=not train)", "self.bn(x, use_running_average=train)", "x = nn.BatchNorm", None),
    (NET, "epsilon", "nnx.BatchNorm(8, momentum=0.9,", "nnx.BatchNorm(8, momentum=0.9, epsilon=1e-3,", "x = nn.BatchNorm", "x = self.bn(x"),
    (NET, "wrong groups", "num_groups=4, rngs", "num_groups=2, rngs", "y = nn.GroupNorm", "y = self.gn(y)"),
    (NET, "wrong pool", "nnx.max_pool", "nnx.avg_pool", "y = nn.max_pool", None),
    (NET, "wrong activation", "nnx.silu(y)", "nnx.relu(y)", "y = nn.silu(y)", None),
    (NET, "padding", "strides=2, rngs=rngs", 'strides=2, padding="VALID", rngs=rngs', "y = nn.Conv(8, (3, 3), strides=2)", "y = self.body(x)"),
    (NET, "dilation", "strides=2, rngs=rngs", "strides=2, kernel_dilation=2, rngs=rngs", "y = nn.Conv(8, (3, 3), strides=2)", "y = self.body(x)"),
    (NET, "mean against sum", "jnp.mean(y, axis=(1, 2))\n        y = self.rms(y)\n        y = self.drop", "jnp.max(y, axis=(1, 2))\n        y = self.rms(y)\n        y = self.drop", "y = jnp.mean", None),
    (NET, "dropout left on", "nnx.Dropout(0.5, deterministic=True", "nnx.Dropout(0.5, deterministic=False", ("y = nn.RMSNorm()(y)", "y = nn.Dropout(0.5"), "y = self.drop(y)"),
    ("convnet.TRAINING", "momentum", "nnx.BatchNorm(8, momentum=0.9,", "nnx.BatchNorm(8, momentum=0.99,", "x = nn.BatchNorm", "x = self.bn(x"),
    (VIT, "tanh gelu against exact", "nnx.gelu(self.wide(h), approximate=False)", "nnx.gelu(self.wide(h))", "y = nn.gelu(self.up(y), approximate=False)", None),
    (VIT, "missing residual", "x = x + self.mix(h)", "x = self.mix(h)", "x = x + self.attention(y)", None),
    (VIT, "pre/post norm", "h = self.before_mix(x)\n        x = x + self.mix(h)", "x = self.before_mix(x + self.mix(x))", ("y = self.norm1(x)", "x = x + self.attention(y)"), None),
    (VIT, "layers share one weight", "nnx.List([Layer(rngs) for _ in range(N)])", "nnx.List([Layer(rngs)] * N)", ("self.blocks = [Block()", "for block in self.blocks", "x = block(x)"), ("nnx.List([Layer(rngs)] * N)", "for layer in self.layers", "h = layer(h)")),
    (VIT, "concat order", "jnp.concatenate([cls, h], axis=1)", "jnp.concatenate([h, cls], axis=1)", "jnp.concatenate([token, x], axis=1)", None),
    (VIT, "mean of tokens for class token", "self.logits(h[:, 0])", "self.logits(h.mean(axis=1))", "return self.head(x[:, 0])", None),
    (VIT, "last layer skipped", "for layer in self.layers:", "for layer in self.layers[:-1]:", ("for block in self.blocks", "x = block(x)"), ("for layer in self.layers[:-1]:", "h = layer(h)")),
    (VIT, "position off by one", "h = h + self.places[...]", "h = h + jnp.roll(self.places[...], 1, axis=1)", ("x = x + self.position", "self.position = self.param", "x = jnp.concatenate([token, x], axis=1)"), None),
    (VIT, "norm lost", "        h = self.last(h)\n", "", "x = self.norm(x)", ("return self.logits(h[:, 0])", "h = layer(h)", "return x + self.narrow(h)")),
    (VIT, "positions lost", "        h = h + self.places[...]\n", "", "x = x + self.position", ("h = jnp.concatenate([cls, h]", "for layer in self.layers:", "h = layer(h)", "h = self.before_mix(x)")),
    (LLAMA, "wrong rope base", "frequency = 10000.0 **", "frequency = 1000.0 **", "rates = 10000.0 **", None),
    (LLAMA, "rope interleaved for halves", "first, second = x[..., : K // 2], x[..., K // 2 :]", "first, second = x[..., ::2], x[..., 1::2]", "a, b = jnp.split(x, 2, axis=-1)", None),
    (LLAMA, "kv tile for repeat", "keys = jnp.repeat(keys, H // G, axis=2)\n        values = jnp.repeat(values, H // G, axis=2)", "keys = jnp.tile(keys, (1, 1, H // G, 1))\n        values = jnp.tile(values, (1, 1, H // G, 1))", ("k = jnp.repeat(k", "v = jnp.repeat(v"), ("keys = jnp.tile(keys", "values = jnp.tile(values")),
    (LLAMA, "mask off by one", "bool)), scores, -1e30)", "bool), 1), scores, -1e30)", "s = jnp.where(jnp.tril", None),
    (LLAMA, "missing scale", "queries, keys) * K**-0.5", "queries, keys)", 's = jnp.einsum("bthk', None),
    (LLAMA, "wrong scale", "queries, keys) * K**-0.5", "queries, keys) * D**-0.5", 's = jnp.einsum("bthk', None),
    (LLAMA, "variance for mean square", "jnp.mean(jnp.square(x), -1, keepdims=True)", "jnp.var(x, -1, keepdims=True)", "variance = jnp.mean(x**2", None),
    (LLAMA, "epsilon", "square + 1e-5", "square + 1e-6", "return x * jax.lax.rsqrt(variance + 1e-5)", None),
    (LLAMA, "rope lost on keys", "        keys = rope(keys)\n", "", "q, k = rotate(q), rotate(k)", ("keys = jnp.einsum", "keys = jnp.repeat(keys")),
    (LLAMA, "wrong activation", "nnx.silu(self.gate_proj(h))", "nnx.gelu(self.gate_proj(h))", "y = nn.silu(nn.Dense(F, False", None),
    (LLAMA, "layer order reversed", "(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)", "(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry, reverse=True)", ("scan = nn.scan(", "x, _ = scan()(x, None)"), ("(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry, reverse=True)", "h = run(h, self.stack)")),
    (LLAMA, "norm lost", "        h = self.final(h)\n", "", "x = RMSNorm()(x)", ("return self.lm_head(h)", "h = run(h, self.stack)", "return x + self.down_proj(h)")),
    (LLAMA, "tied for untied", "return self.lm_head(h)", "return self.wte.attend(h)", "return nn.Dense(V, use_bias=False)(x)", None),
    (LLAMA, "wrong residual", "h = self.norm2(x)\n", "x = h = self.norm2(x)\n", ("return x + nn.Dense(D, False", 'y = RMSNorm(name="mlp_norm")(x)'), ("x = h = self.norm2(x)", "return x + self.down_proj(h)")),
    (T5, "cross attention of the decoder", "self.look(h, encoded, 0.0)", "self.look(h, h, 0.0)", 'x = x + drop(Attention(name="cross_attention")', None),
    (T5, "mask inverted", "(away <= 0)[..., None], causal", "(away > 0)[..., None], causal", "past = jnp.where((far <= 0)", None),
    (T5, "missing scale", "self.tokens.attend(h * D**-0.5)", "self.tokens.attend(h)", "return embed.attend(x * D**-0.5)", ("self.tokens.attend(h)", "h = self.decoder_last(h)")),
    (T5, "table of the wrong stack", "causal = self.decoder_table(", "causal = self.encoder_table(", "past = nn.Embed(T, H", None),
    (T5, "relative sign", "away = jnp.arange(T)[None, :] - jnp.arange(T)[:, None]", "away = jnp.arange(T)[:, None] - jnp.arange(T)[None, :]", "far = jnp.arange(T)[None, :]", None),
    (T5, "scale added", "query, key) + bias", "query, key) * K**-0.5 + bias", "s = jnp.einsum(", None),
    (T5, "missing residual", "x = x + self.drop(self.look(h, encoded, 0.0))", "x = self.drop(self.look(h, encoded, 0.0))", 'x = x + drop(Attention(name="cross_attention")', ("x = self.drop(self.look(h, encoded, 0.0))", "return self.out(mixed)")),
    (T5, "dropout left on", "nnx.Dropout(0.1, deterministic=True", "nnx.Dropout(0.1, deterministic=False", ('x = x + drop(Attention(name="self_attention")', "drop = nn.Dropout(0.1", 'name="o")(y)'), ("x = x + self.drop(self.attend(h, h, bias))", "nnx.Dropout(0.1, deterministic=False")),
    (T5, "norm lost", "encoded = self.encoder_last(h)", "encoded = h", 'memory = nn.RMSNorm(name="encoder_norm")(x)', ("encoded = h", "h = layer(h, wide)", "return x + self.drop(self.down(h))", "query, key, value = self.query(x)")),
    (T5, "decoder fed the source", "h = self.tokens(target)", "h = self.tokens(source)\n", "x = embed(target)", "h = self.tokens(source)\n\n"),
    (T5, "wrong softmax axis", "softmax(scores, axis=-1)", "softmax(scores, axis=1)", "w = nn.softmax(s, axis=-1)", None),
    (T5, "q/k swapped", "query, key) + bias", "key, query) + bias", "s = jnp.einsum(", None),
    (RES, "batch statistics", "self.bn2(h, use_running_average=frozen)", "self.bn2(h, use_running_average=False)", "        y = nn.BatchNorm(use_running_average=not train, momentum=0.9)(y)\n        if x.shape", None),
    (RES, "activation before residual", "return nnx.relu(x + h)", "return x + nnx.relu(h)", "return nn.relu(x + y)", None),
    (RES, "norm lost", "            x = self.down_bn(x, use_running_average=frozen)\n", "", "x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name=", ("x = self.down(x)", "return nnx.relu(x + h)")),
    (RES, "stride in the second convolution", "(3, 3), strides, use_bias=False, rngs=rngs)\n        self.bn1 = nnx.BatchNorm(after, momentum=0.9, rngs=rngs)\n        self.conv2 = nnx.Conv(after, after, (3, 3), use_bias", "(3, 3), use_bias=False, rngs=rngs)\n        self.bn1 = nnx.BatchNorm(after, momentum=0.9, rngs=rngs)\n        self.conv2 = nnx.Conv(after, after, (3, 3), strides, use_bias", "y = nn.Conv(self.features, (3, 3), self.strides", "h = self.conv1(x)"),
    (RES, "pooling max for mean", "h = jnp.mean(h, axis=(1, 2))", "h = jnp.max(h, axis=(1, 2))", "x = jnp.mean(x, axis=(1, 2))", None),
    (RES, "dilation", "nnx.Conv(after, after, (3, 3), use_bias", "nnx.Conv(after, after, (3, 3), kernel_dilation=2, use_bias", "y = nn.Conv(self.features, (3, 3), use_bias=False)(y)", "h = self.conv2(h)"),
    (RES, "padding", "(3, 3), strides, use_bias", "(3, 3), strides, padding=1, use_bias", "y = nn.Conv(self.features, (3, 3), self.strides", "h = self.conv1(x)"),
    (RES, "bias dropped", "nnx.Linear(before, 5, rngs=rngs)", "nnx.Linear(before, 5, use_bias=False, rngs=rngs)", "return self.head(x)", "return self.classify(h)"),
    (TRAIN, "momentum (updates only)", "self.bn1 = nnx.BatchNorm(after, momentum=0.9, rngs=rngs)", "self.bn1 = nnx.BatchNorm(after, rngs=rngs)", "        y = nn.BatchNorm(use_running_average=not train, momentum=0.9)(y)\n        y = nn.relu", "h = self.bn1(h"),
    (TRAIN, "running statistics in training", "self.bn(h, use_running_average=not train)", "self.bn(h, use_running_average=True)", "x = self.stem_norm(x", None),
    (UNET, "skip of the wrong stage", "skip2 = self.down2(h)\n        h = nnx.avg_pool(skip2,", "skip2 = h\n        h = self.down2(h)\n        h = nnx.avg_pool(h,", ("x = jnp.concatenate([middle, x]", "middle = Double(F)(x)"), ("h = jnp.concatenate([skip2, h]", "skip2 = h")),
    (UNET, "concat order", "[skip1, h]", "[h, skip1]", "x = jnp.concatenate([high, x]", None),
    (UNET, "nearest for bilinear", 'shape, method="bilinear"', 'shape, method="nearest"', "x = jax.image.resize(x", None),
    (UNET, "pooling max for mean", "nnx.avg_pool(skip2", "nnx.max_pool(skip2", "x = nn.avg_pool(middle", None),
    (UNET, "wrong groups", "nnx.GroupNorm(after, num_groups=2,", "nnx.GroupNorm(after, num_groups=4,", "x = nn.GroupNorm(num_groups=2)(x)", "x = self.norm(x)"),
    (UNET, "norm after activation", "x = self.norm(x)\n        return nnx.silu(x)", "x = nnx.silu(x)\n        return self.norm(x)", ("x = nn.GroupNorm(num_groups=2)(x)", "x = nn.silu(x)"), ("x = nnx.silu(x)", "return self.norm(x)")),
    (UNET, "layer twice", "skip2 = self.down2(h)", "skip2 = self.down2(self.down2(h))", "middle = Double(F)(x)", None),
    (UNET, "padding", "nnx.Conv(F, F, (3, 3), strides=2, rngs", "nnx.Conv(F, F, (3, 3), strides=2, padding=1, rngs", "x = nn.Conv(F, (3, 3), strides=2)(high)", "h = self.shrink(skip1)"),
    (UNET, "stop_gradient (gradients only)", "[skip1, h]", "[jax.lax.stop_gradient(skip1), h]", ("high = Double(F)(x)", "x = nn.silu(x)", "x = jnp.concatenate([high, x]"), None),
    (MIX, "transposed square kernel", "h = self.inner(x)", "h = x @ self.inner.kernel[...].T + self.inner.bias[...]", ("y = nn.Dense(D)(x)", "y = y.transpose(0, 2, 1)"), None),
    (MIX, "both transposes lost", "h = jnp.swapaxes(h, 1, 2)\n        h = self.across(h)\n        h = jnp.swapaxes(h, 1, 2)\n", "h = self.across(h)\n", "y = y.transpose(0, 2, 1)", ("h = self.across_norm(x)", "h = self.across(h)", "h = self.inner(x)")),
    (MIX, "transpose lost", "h = self.across(h)\n        h = jnp.swapaxes(h, 1, 2)\n", "h = self.across(h)\n", "y = y.transpose(0, 2, 1)\n        x = x + y", ("h = self.across(h)", "return self.outer(h)", "x = x + h")),
    (MIX, "wrong axis of mean", "jnp.mean(h, axis=1)", "jnp.mean(h, axis=-1)", "x = jnp.mean(x, axis=1)", None),
    (MIX, "one layer for two", "h = self.along(h)", "h = self.across(h)", 'return x + MLP(name="channels")(y)', "h = self.across(h)\n        return x + h"),
    (MIX, "missing activation", "        h = nnx.gelu(h)\n", "", "y = nn.gelu(y)", ("h = self.inner(x)", "return self.outer(h)")),
    (MIX, "layers share one weight", "nnx.List([Block(rngs) for _ in range(N)])", "nnx.List([Block(rngs)] * N)", ("for i in range(N)", 'x = Mixer(name=f"mixer_{i}")(x)'), ("nnx.List([Block(rngs)] * N)", "for block in self.blocks", "h = block(h)")),
    (MIX, "one norm for two", "h = self.along_norm(x)", "h = self.across_norm(x)", "y = nn.LayerNorm()(x)\n        return x + MLP", "h = self.across_norm(x)\n        h = self.along(h)"),
    (MIX, "layer order reversed", "for block in self.blocks:", "for block in reversed(self.blocks):", ("for i in range(N)", 'x = Mixer(name=f"mixer_{i}")(x)'), ("for block in reversed(self.blocks):", "h = block(h)")),
    (MOE, "top-1 for top-2", "top_k(weights, 2)", "top_k(weights, 1)", "least = jax.lax.top_k(gate, 2)", None),
    (MOE, "sigmoid for softmax", "nnx.softmax(weights, axis=-1)", "nnx.sigmoid(weights)", "gate = nn.softmax(gate, axis=-1)", None),
    (MOE, "gate not normalised", "        weights = weights / jnp.sum(weights, axis=-1, keepdims=True)\n", "", "gate = gate / jnp.sum(", ("weights = jnp.where(weights >= lowest", 'return jnp.einsum("ebtd,bte->btd", outputs')),
    (MOE, "mask strict", "weights >= lowest", "weights > lowest", "gate = jnp.where(gate >= least", None),
    (MOE, "wrong softmax axis", "nnx.softmax(weights, axis=-1)", "nnx.softmax(weights, axis=1)", "gate = nn.softmax(gate, axis=-1)", None),
    (MOE, "mask lost", "        weights = jnp.where(weights >= lowest, weights, 0.0)\n", "", "gate = jnp.where(gate >= least", ("weights = nnx.softmax(weights", "weights = weights / jnp.sum(")),
    (MOE, "expert order", "outputs, weights)", "outputs[::-1], weights)", ('return jnp.einsum("ebtd,bte->btd", y, gate)', 'y = experts(name="experts")(x)', "return nn.Dense(D)(y)"), None),
    (MOE, "missing scale", "x = x + 0.5 * h", "x = x + h", "x = x + 0.5 * y", ("x = x + h", "h = self.sparse(h)", 'return jnp.einsum("ebtd,bte->btd", outputs')),
    (MOE, "wrong activation", "h = nnx.silu(h)", "h = nnx.gelu(h)", "y = nn.silu(y)", None),
    (MOE, "bias dropped", "nnx.Linear(F, D, rngs=rngs)", "nnx.Linear(F, D, use_bias=False, rngs=rngs)", "return nn.Dense(D)(y)", "return self.down(h)"),
    (MOE, "stop_gradient (gradients only)", "weights / jnp.sum(weights, axis=-1, keepdims=True)", "weights / jax.lax.stop_gradient(jnp.sum(weights, axis=-1, keepdims=True))", "gate = gate / jnp.sum(", None),
    (RNN, "gates in another order", "r, z = jnp.split", "z, r = jnp.split", "reset, update = jnp.split", None),
    (RNN, "gate inverted", "state = (1.0 - z) * state + z * proposed", "state = z * state + (1.0 - z) * proposed", "h = (1.0 - update) * h", None),
    (RNN, "first step for last", "final = states[-1]", "final = states[0]", "last = y[:, -1]", None),
    (RNN, "reversed time", "jax.lax.scan(self.cell, zeros, x)", "jax.lax.scan(self.cell, zeros, x, reverse=True)", ("scan = nn.scan(", '_, y = scan(name="gated")(start, x)'), None),
    (RNN, "carry not updated", "state = (1.0 - z) * state + z * proposed\n        return state, state", "new = (1.0 - z) * state + z * proposed\n        return state, new", ("return h, h", "h = (1.0 - update) * h"), ("return state, new", "new = (1.0 - z) * state")),
    (RNN, "gate lost", "jnp.concatenate([x, r * state], axis=-1)", "jnp.concatenate([x, state], axis=-1)", "both = jnp.concatenate([x, reset * h]", "joined = jnp.concatenate([x, state], axis=-1)\n        proposed"),
    (RNN, "concat order", "jnp.concatenate([x, state], axis=-1)", "jnp.concatenate([state, x], axis=-1)", "both = jnp.concatenate([x, h]", None),
    (RNN, "wrong activation", "nnx.OptimizedLSTMCell(D, F, rngs", "nnx.OptimizedLSTMCell(D, F, activation_fn=nnx.relu, rngs", "x = nn.RNN(nn.OptimizedLSTMCell(F))(x)", "x = self.lstm(x)"),
    (RNN, "reversed time", "nnx.OptimizedLSTMCell(D, F, rngs=rngs), rngs", "nnx.OptimizedLSTMCell(D, F, rngs=rngs), reverse=True, rngs", "x = nn.RNN(nn.OptimizedLSTMCell(F))(x)", "x = self.lstm(x)"),
    (RNN, "wrong activation", "nnx.tanh(self.propose(joined))", "nnx.relu(self.propose(joined))", "new = nn.tanh(", None),
    (VAE, "variance for std", "sigma = jnp.exp(0.5 * log_var)", "sigma = jnp.exp(log_var)", "std = jnp.exp(0.5 * log_variance)", None),
    (VAE, "split order", "mu, log_var = h[..., :Z], h[..., Z:]", "mu, log_var = h[..., Z:], h[..., :Z]", "mean, log_variance = jnp.split", None),
    (VAE, "wrong term", "mu**2 - 1.0 - log_var", "mu - 1.0 - log_var", "kl = 0.5 * (jnp.exp", None),
    (VAE, "mean for sum", "loss = jnp.sum(loss, axis=-1)", "loss = jnp.mean(loss, axis=-1)", "kl = jnp.sum(kl, axis=-1)", None),
    (VAE, "stop_gradient (gradients only)", "h = self.expand(z)", "h = self.expand(jax.lax.stop_gradient(z))", ("z = mean + std * noise", "h = self.widen(z)"), None),
    (VAE, "missing activation", "image = nnx.sigmoid(self.project(h) + self.shift[...])", "image = self.project(h) + self.shift[...]", "y = nn.sigmoid(self.decode(h) + self.offset)", None),
    (VAE, "epsilon", "nnx.LayerNorm(F, use_bias=False,", "nnx.LayerNorm(F, epsilon=1e-3, use_bias=False,", "h = self.norm(h)", "h = self.ln(h)"),
    (VAE, "wrong slope", "nnx.leaky_relu(self.first(x), 0.1)", "nnx.leaky_relu(self.first(x))", "h = nn.leaky_relu(nn.Dense(F", None),
    (VAE, "scalar dropped", "sigma * noise * self.heat[...]", "sigma * noise", "z = mean + std * noise * self.temperature", None),
    (VAE, "wrong scalar", "+ self.shift[...]", "+ self.heat[...]", "y = nn.sigmoid(self.decode(h) + self.offset)", None),
    (VAE, "wrong bound", "jnp.clip(log_var, -6.0, 2.0)", "jnp.clip(log_var, -6.0, 0.0)", "return mean, jnp.clip(", None),
    (ENS, "std for variance", "jnp.var(votes, axis=0)", "jnp.std(votes, axis=0)", "variance = jnp.var(y, axis=0)", None),
    (ENS, "ddof", "jnp.var(votes, axis=0)", "jnp.var(votes, axis=0, ddof=1)", "variance = jnp.var(y, axis=0)", None),
    (ENS, "softmax for log_softmax", "nnx.log_softmax(votes, axis=-1)", "nnx.softmax(votes, axis=-1)", "y = nn.log_softmax(y, axis=-1)", None),
    (ENS, "wrong softmax axis", "nnx.log_softmax(votes, axis=-1)", "nnx.log_softmax(votes, axis=0)", "y = nn.log_softmax(y, axis=-1)", None),
    (ENS, "one member for all", "jnp.mean(votes, axis=0)", "votes[0]", "mean = jnp.mean(y, axis=0)", None),
    (ENS, "missing residual", "x = x + 0.5 * h", "x = 0.5 * h", "x = x + 0.5 * y", None),
    (ENS, "layer order reversed", "in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)", "in_axes=(nnx.Carry, 0), out_axes=nnx.Carry, reverse=True)", ("scan = nn.scan(Layer", 'x, _ = scan(name="layers")(x, None)'), ("in_axes=(nnx.Carry, 0), out_axes=nnx.Carry, reverse=True)", "h = run(h, self.steps)")),
    (ENS, "norm lost", "return self.scale(x)", "return x", 'return nn.RMSNorm(name="norm")(x), None', ("return x\n", "x = x + 0.5 * h")),
    (ENS, "epsilon", "nnx.RMSNorm(F, rngs=rngs)", "nnx.RMSNorm(F, epsilon=1e-3, rngs=rngs)", 'return nn.RMSNorm(name="norm")(x), None', "return self.scale(x)"),
    (ENS, "wrong activation", "h = nnx.softplus(h)", "h = nnx.relu(h)", "y = nn.softplus(y)", None),
    (HALF, "float32 cast lost", "query, key).astype(jnp.float32)", "query, key)", 's = jnp.einsum("bqhk', None),
    (HALF, "bf16 cast added", "self.ln2 = nnx.LayerNorm(D, dtype=jnp.float32", "self.ln2 = nnx.LayerNorm(D, dtype=HALF", 'h = nn.LayerNorm(name="norm2"', "h = self.ln2(x)"),
    (HALF, "missing update", "        self.count[...] = self.count[...] + 1.0\n", "", "steps.value = steps.value + 1.0", ("self.average[...] = 0.9", "return x - self.average[...] /", "self.count = Stat")),
    (HALF, "momentum", "0.9 * self.average[...] + 0.1 *", "0.1 * self.average[...] + 0.9 *", "running.value = 0.9 *", None),
    (HALF, "statistics of the step before", "self.average[...] = 0.9 * self.average[...] + 0.1 * jnp.mean(x, axis=(0, 1))\n        self.count[...] = self.count[...] + 1.0\n        return x - self.average[...] / (1.0 + self.count[...])", "y = x - self.average[...] / (1.0 + self.count[...])\n        self.average[...] = 0.9 * self.average[...] + 0.1 * jnp.mean(x, axis=(0, 1))\n        self.count[...] = self.count[...] + 1.0\n        return y", ("running.value = 0.9 *", "return x - running.value"), "y = x - self.average[...]"),
    (HALF, "split order", "query, key, value = h[..., 0, :, :], h[..., 1, :, :], h[..., 2, :, :]", "query, value, key = h[..., 0, :, :], h[..., 1, :, :], h[..., 2, :, :]", "q, k, v = qkv[..., 0", None),
    (HALF, "wrong scale", "scores = scores * (1.0 / K)", "scores = scores * (1.0 / D)", "s = s * (1.0 / K)", None),
    (HALF, "wrong activation", "jnp.square(nnx.relu(h))", "nnx.relu(h)", "h = jnp.square(nn.relu(h))", None),
    (HALF, "float32 for bf16", "nnx.Linear(2 * D, D, dtype=HALF, rngs", "nnx.Linear(2 * D, D, rngs", 'h = nn.Dense(D, dtype=HALF, name="down")(h)', "h = self.narrow(h)"),
    (HALF, "bf16 cast lost", "nnx.softmax(scores, axis=-1).astype(HALF)", "nnx.softmax(scores, axis=-1)", "w = nn.softmax(s, axis=-1).astype(HALF)", ("nnx.softmax(scores, axis=-1)", 'h = jnp.einsum("bhqm,bmhk->bqhk", weights')),
    (HALF, "stop_gradient (gradients only)", "0.1 * jnp.mean(x, axis=(0, 1))\n        self.count", "0.1 * jax.lax.stop_gradient(jnp.mean(x, axis=(0, 1)))\n        self.count", "running.value = 0.9 *", None),
    (CHOICE, "wrong activation in a branch", "return nnx.tanh(z)", "return nnx.sigmoid(z)", "return nn.tanh(y)", None),
    (CHOICE, "wrong scale in a branch not taken", "return 0.5 * z", "return 0.25 * z", "return 0.5 * y", None),
    (CHOICE, "wrong activation in a branch not taken", "z = nnx.silu(model.far(h))", "z = nnx.gelu(model.far(h))", "y = nn.silu(large(x))", None),
    (CHOICE, "branches swapped", "near, far, self, h)", "far, near, self, h)", "if_small, if_large, self, x)", None),
    (CHOICE, "wrong condition", "h)) < 100.0", "h)) < 10.0", "jnp.abs(x)) < 100.0", None),
    (CHOICE, "wrong expert", "[choice(i) for i in range(3)]", "[choice(i) for i in (0, 2, 1)]", "[expert(i) for i in range(3)]", None),
    (CHOICE, "wrong scale of an expert", "return (i + 1.0) * jnp.sin(z)", "return (i + 2.0) * jnp.sin(z)", "return (i + 1.0) * jnp.sin(y)", None),
    (LOOP, "wrong activation in a loop", "new = nnx.tanh(model.again(h))", "new = nnx.relu(model.again(h))", "new = nn.tanh(step(h))", None),
    (LOOP, "wrong scale in a loop", "0.9 * h + 0.1 * new\n            return model", "0.8 * h + 0.2 * new\n            return model", "new = 0.9 * h + 0.1 * new\n            return count", None),
    (LOOP, "loop ends elsewhere", "_, count, _, change = state\n            return (count < 20)", "_, count, _, change = state\n            return (count < 5)", "return (count < 20)", "return (count < 5)"),
    (LOOP, "start of a loop", "(self, 0, h, 1.0))[2]", "(self, 0, x, 1.0))[2]", ("x = nn.Dense(F, name=\"stem\")(x)\n        if", "self, (0, x, 1.0))[1]"), None),
    (LLAMA, "rope on values too", "        keys = rope(keys)\n", "        keys = rope(keys)\n        values = rope(values)\n", ("v = jnp.einsum", "v = jnp.repeat"), "values = rope(values)"),
    (HEADS, "heads split wrongly", "layer(h).reshape(heads) for", "layer(h).reshape(*x.shape[:-1], 4, HEADS).swapaxes(-1, -2) for", "nn.MultiHeadDotProductAttention(HEADS", None),
    (HEADS, "heads split wrongly", "layer(h).reshape(heads) for", "layer(h).reshape(2, HEADS, 5, 4).swapaxes(1, 2) for", "nn.MultiHeadDotProductAttention(HEADS", None),
    (HEADS, "heads merged wrongly", "self.out(mixed.reshape(x.shape))", "self.out(mixed.swapaxes(1, 2).reshape(x.shape))", "nn.MultiHeadDotProductAttention(HEADS", None),
    (HEADS, "wrong scale", "query / (F // HEADS) ** 0.5", "query / F**0.5", "nn.MultiHeadDotProductAttention(HEADS", None),
]  # fmt: skip

# The verdict is right, a line is not, and why: (pair, kind): reason.
LINES_MISSED = {
    (T5, "cross attention of the decoder"): "the whole encoder is dead: another attention is named",
    (RNN, "gates in another order"): "cut for the fused LSTM, weights say what the split said",
    (RNN, "carry not updated"): "what stays zero is named where it is passed in",
    (RNN, "gate lost"): "the gate's weights are lost with it: they are named in Linen",
    (HALF, "missing update"): "the statement that reads the count is named, not the one before",
    (LOOP, "start of a loop"): "the layer in front is dead: the loop's own is taken for it",
}


ALL = ("programs", "forward", "updates", "gradients")


def run(row, folder, quickly=False, checks=ALL):
    """What `verify` says of a row: {verdict, linen, nnx}, each line named with whether it is right.

    Args:
      row: of `BUGS`.
      folder: where the changed source is put.
      checks: which checks are made.
      quickly: whether a difference that the outputs show is enough: gradients are not looked at,
        and the outputs are computed operation by operation, so that nothing is compiled.
    """
    pair, _, old, new, linen_text, nnx_text = row
    file, name = pair.split(".")
    original = (PORTS / f"{file}.py").read_text()
    assert original.count(old) == 1, f"{old!r} is not in {file} once"
    source = original.replace(old, new)
    path = folder / f"{file}.py"
    path.write_text(source)
    pure = pure_pair(load(path, name), linen_of(pair))
    if quickly:
        with without_xla():
            found = verify(pure, samples=1, checks=ALL[1:3])
    if not quickly or found.verdict != "different":
        found = verify(pure, samples=1, checks=checks)
    said = {"verdict": found.verdict}
    for side, texts, text in (
        ("linen", linen_text, original),
        ("nnx", new if nnx_text is None else nnx_text, source),
    ):
        spot = found.divergence and getattr(found.divergence, side)
        texts = texts if isinstance(texts, tuple) else (texts,)
        lines = {text[: text.index(each)].count("\n") + 1 for each in texts}
        said[side] = (spot and (spot.line, spot.source), bool(spot) and spot.line in lines)
    return said


@contextlib.contextmanager
def without_xla():
    """Models are computed operation by operation, as where a backend cannot run them."""
    cannot = CannotRunError("it is not asked to")
    with (
        mock.patch("shared.verification.runs.run_forward", side_effect=cannot),
        mock.patch("shared.verification.runs.run", side_effect=cannot),
    ):
        yield


@functools.cache
def linen_of(pair):
    """The Linen model of a pair, which all mistakes in its port share, traced and compiled once."""
    file, name = pair.split(".")
    return pure_pair(load(PORTS / f"{file}.py", name)).linen


def load(path, name):
    spec = importlib.util.spec_from_file_location(f"port_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def answer(row, **kwargs):
    with tempfile.TemporaryDirectory() as folder:
        return run(row, Path(folder), **kwargs)


def print_table(bugs, **kwargs):
    """Prints a table as Markdown, and in front of it what it amounts to."""
    counts = collections.Counter()
    rows = []
    with multiprocessing.Pool() as pool:
        said_of = pool.imap(functools.partial(answer, **kwargs), bugs, chunksize=8)
        answers = list(zip(bugs, said_of, strict=True))
    for row, said in answers:
        cells = [row[0], row[1], said["verdict"]]
        for side in ("linen", "nnx"):
            spot, right = said[side]
            counts[side] += right
            shown = f"{spot[0]}: `{spot[1].replace('|', chr(92) + '|')}`" if spot else "none"
            cells.append(shown if right else f"**wrong** {shown}")
        counts["verdict"] += said["verdict"] == "different"
        counts["both"] += said["linen"][1] and said["nnx"][1]
        rows.append("| " + " | ".join(cells) + " |")
    total = len(bugs)
    print(f"{total} mistakes of {len({row[1] for row in bugs})} kinds, planted in ", end="")
    print(f"{len({row[0].split('.')[0] for row in bugs})} models of `tests/ports`: the verdict is")
    print(f"right in {counts['verdict']}, both lines are right in {counts['both']}, ", end="")
    print(f"{counts['both'] / total:.1%} (Linen {counts['linen']}, NNX {counts['nnx']}).\n")
    print("| pair | mistake | verdict | line named in Linen | line named in NNX |")
    print("|---|---|---|---|---|")
    print("\n".join(rows))


def main():
    """Prints both tables."""
    from planted_training_mistakes import BUGS as TRAINING_BUGS  # it names the pairs as this does

    print("# Planted mistakes\n\n`python tests/planted_mistakes.py` printed this page.\n")
    print_table(BUGS, quickly=True)
    print("\n## Mistakes that only training shows\n")
    print("With all checks: random draws, the call in training, initial values, names of axes.\n")
    print_table(TRAINING_BUGS, checks=ALL_CHECKS)


if __name__ == "__main__":
    main()

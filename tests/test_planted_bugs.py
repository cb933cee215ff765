"""`verify` finds porting mistakes: the verdict is right in all, the lines in nineteen of twenty.

Each row takes a port of `tests/ports`, replaces one piece of its NNX source, and says which lines
of the two sources should be named: those that hold the given text.
"""

import importlib.util
from pathlib import Path

import pytest

from shared.verification import verify

PORTS = Path(__file__).parent / "ports"
MLP, LM, NET, STACK = "mlp.PAIR", "transformer.PAIR", "convnet.PAIR", "stacks"

# (pair, kind, old, new, text of the Linen line, text of the NNX line; None: the new text). Where NNX
# does something that Linen does not, the Linen line is one of the two that it would stand between.
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
]  # fmt: skip

# The verdict is right, a line is not, and why.
LINES_MISSED: dict[tuple[str, str], str] = {}


def load(path, name):
    spec = importlib.util.spec_from_file_location(f"port_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def _several(text):
    return text if isinstance(text, tuple) else (text,)


def line_of(source, text):
    """The number of the line where `text` begins."""
    return source[: source.index(text)].count("\n") + 1


def run(row, folder):
    """(verdict, whether the Linen line is right, whether the NNX line is right, the divergence)."""
    pair, _, old, new, linen_text, nnx_text = row
    file, name = pair.split(".")
    source = (PORTS / f"{file}.py").read_text()
    assert source.count(old) == 1, f"{old!r} is not in {file} once"
    source = source.replace(old, new)
    path = folder / f"{file}.py"
    path.write_text(source)
    found = verify(
        load(path, name), samples=1, checks=("programs", "forward", "updates", "gradients")
    )
    spots = found.divergence
    lines = [
        spot is not None and spot.line in {line_of(source, t) for t in _several(text)}
        for text, spot in (
            (linen_text, spots and spots.linen),
            (new if nnx_text is None else nnx_text, spots and spots.nnx),
        )
    ]
    return found.verdict, *lines, spots


@pytest.mark.parametrize("row", BUGS, ids=[f"{row[0]}-{row[1]}-{i}" for i, row in enumerate(BUGS)])
def test_bug_is_found(row, tmp_path):
    verdict, linen, nnx, spots = run(row, tmp_path)
    assert verdict == "different"
    missed = row[:2] in LINES_MISSED
    assert (linen and nnx) != missed, spots


def test_lines_are_right_in_nineteen_of_twenty():
    kinds, pairs = {row[1] for row in BUGS}, {row[0] for row in BUGS}
    assert len(LINES_MISSED) <= 0.05 * len(BUGS)
    assert len(BUGS) >= 40
    assert len(kinds) >= 15
    assert len(pairs) >= 4

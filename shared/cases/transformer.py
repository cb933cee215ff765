"""The transformer: in training, at evaluation, and token by token with a cache."""

from typing import Any

from shared.cases.case import Case, Input, Leaf
from shared.cases.patterns import HEADS, attention, cache

HEAD = Leaf("head/kernel", ("features", "vocab"))
TOKENS = Input("tokens", ("batch", "length"), dtype="int32", below="vocab")
LEAVES = (
    *(
        Leaf(f"{norm}/{name}", ("layers", "out"))
        for norm in ("attention_norm", "hidden_norm")
        for name in ("scale", "bias")
    ),
    *attention("layers"),
    Leaf("up/kernel", ("layers", "in", "hidden")),
    Leaf("up/bias", ("layers", "hidden")),
    Leaf("down/kernel", ("layers", "hidden", "out")),
    Leaf("down/bias", ("layers", "out")),
    Leaf("embedding", ("vocab", "features")),
    Leaf("norm/scale", ("features",)),
    Leaf("norm/bias", ("features",)),
)
TOKEN = Input("tokens", ("batch", "token"), dtype="int32", below="vocab", init_axes=TOKENS.axes)
START = Input("start", dtype="int32", below="length")
DROPOUT = Input("dropout", dtype="key", draws=("layers/Dropout_0", "layers/Dropout_1"))
DRAWS = tuple(
    f"layers/{name}"
    for name in (
        "attention_norm",
        *(f"attention/{name}" for name in ("query", "key", "value", "out")),
        *("hidden_norm", "up", "down"),
    )
    for _ in ("kernel", "bias")
)
OPTIONS = (("rate", 0.25), ("policy", "dots_with_no_batch_dims_saveable"))


def transformer(name: str, lesson: str, is_tied: bool, deterministic: bool, **rest: Any) -> Case:
    """What the cases have in common, and what one of them has of its own."""
    shared: dict[str, Any] = {
        "model": "Transformer",
        "lifts": "vmap(scan(remat))",
        "leaves": LEAVES if is_tied else (*LEAVES, HEAD),
        "inputs": (TOKENS,),
        "output": ("batch", "length", "vocab"),
        "draws_outside": ("embed", "norm", "norm", *(() if is_tied else ("head",))),
        "sizes": SIZES,
    }
    return Case(
        name,
        pattern="transformer",
        lesson=lesson,
        layer="h + mlp(norm(h)), h = x + attention(norm(x))",
        dtypes=("float32",),  # an `nnx.Embed` keeps the dtype that it was made with
        model_args=("num_layers", "features", *HEADS, "hidden", "vocab"),
        options=(("is_tied", is_tied), ("deterministic", deterministic), *OPTIONS),
        in_parent=True,
        draws=DRAWS,
        other_text="the LayerNorm of NNX gives mean and variance their last axis by a reshape",
        fused="the softmax and its gradient",
        batch_size=4,
        **(shared | rest),
    )


SIZES = (("num_heads", 2), ("head_dim", 3), ("hidden", 16), ("vocab", 11), ("length", 6))

TRANSFORMER = (
    transformer(
        "transformer",
        "A language model in training: the stack is rematerialised, each text, layer and token "
        "has masks of its own, and the table that embeds gives the logits.",
        is_tied=True,
        deterministic=False,
        inputs=(TOKENS, DROPOUT),
        oracle="dropped_texts",
    ),
    transformer(
        "transformer_untied",
        "At evaluation nothing is dropped and no stream is asked for; the params are those of "
        "training. Here the logits are of a head of their own.",
        is_tied=False,
        deterministic=True,
        oracle="texts",
    ),
    transformer(
        "transformer_decode",
        "Token by token, on the params of training. A batch goes through as it is, for a vmap "
        "that shares params adds no axis to them; the cache has the axis of layers alone.",
        is_tied=True,
        deterministic=True,
        model="Decode",
        lifts="scan(remat)",
        leaves=(*LEAVES, *cache("layers")),
        inputs=(TOKEN, START),
        output=("batch", "token", "vocab"),
        oracle="next_token",
        sizes=(*SIZES, ("token", 1)),
    ),
)

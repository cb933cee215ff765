"""Layers that multiply by a kernel, and tables."""

from flax import linen as nn
from flax import nnx

from benchmarks.stock.row import Row, array
from shared import Pair

B, T, IN, OUT, VOCABULARY = 2, 3, 4, 6, 5
LINE, IMAGE = (B, 6, IN), (B, 6, 5, IN)


def dense(dtype):
    return Pair(
        nn.Dense(OUT, dtype=dtype),
        lambda rngs: nnx.Linear(IN, OUT, dtype=dtype, rngs=rngs),
        (array(dtype, B, IN),),
    )


def dense_general(dtype):
    axes = {"axis": (-2, -1), "dtype": dtype}
    return Pair(
        nn.DenseGeneral((2, 3), **axes),
        lambda rngs: nnx.LinearGeneral((T, IN), (2, 3), rngs=rngs, **axes),
        (array(dtype, B, T, IN),),
    )


def dense_general_of_a_batch(dtype):
    return Pair(
        nn.DenseGeneral(OUT, batch_dims=(0,), dtype=dtype),
        lambda rngs: nnx.LinearGeneral(IN, OUT, batch_axis={0: B}, dtype=dtype, rngs=rngs),
        (array(dtype, B, T, IN),),
    )


def einsum(dtype):
    words, kernel, bias = "bti,ihk->bthk", (IN, 2, 3), (2, 3)
    return Pair(
        nn.Einsum(kernel, words, dtype=dtype),
        lambda rngs: nnx.Einsum(words, kernel, bias, dtype=dtype, rngs=rngs),
        (array(dtype, B, T, IN),),
    )


def conv(shape, **options):
    """A convolution of three places on each axis."""
    size = (3,) * (len(shape) - 2)

    def make(dtype):
        return Pair(
            nn.Conv(OUT, size, dtype=dtype, **options),
            lambda rngs: nnx.Conv(IN, OUT, size, dtype=dtype, rngs=rngs, **options),
            (array(dtype, *shape),),
        )

    return make


def conv_transpose(shape, **options):
    size = (3,) * (len(shape) - 2)

    def make(dtype):
        return Pair(
            nn.ConvTranspose(OUT, size, dtype=dtype, **options),
            lambda rngs: nnx.ConvTranspose(IN, OUT, size, dtype=dtype, rngs=rngs, **options),
            (array(dtype, *shape),),
        )

    return make


def embed(inputs, **calls):
    """A table, called on what `inputs` makes of its dtype."""

    def make(dtype):
        return Pair(
            nn.Embed(VOCABULARY, OUT, dtype=dtype),
            lambda rngs: nnx.Embed(VOCABULARY, OUT, dtype=dtype, rngs=rngs),
            (inputs(dtype),),
            **calls,
        )

    return make


def attend(module, x):
    return module.attend(x)


ROWS = (
    Row("Dense", "Linear", dense),
    Row("DenseGeneral", "LinearGeneral", dense_general),
    Row("DenseGeneral", "LinearGeneral", dense_general_of_a_batch, "batch_dims"),
    Row("Einsum", "Einsum", einsum),
    Row("Conv", "Conv", conv(LINE), "1-D"),
    Row("Conv", "Conv", conv(LINE, padding="CAUSAL"), "causal"),
    Row("Conv", "Conv", conv(IMAGE), "2-D"),
    Row("Conv", "Conv", conv(IMAGE, padding="CIRCULAR"), "circular"),
    Row("Conv", "Conv", conv(IMAGE, strides=2), "strided"),
    Row("Conv", "Conv", conv(IMAGE, kernel_dilation=2), "dilated"),
    Row("Conv", "Conv", conv(IMAGE, feature_group_count=2), "grouped"),
    Row("ConvTranspose", "ConvTranspose", conv_transpose(LINE), "1-D"),
    Row("ConvTranspose", "ConvTranspose", conv_transpose(IMAGE, strides=(2, 2)), "strided"),
    Row("Embed", "Embed", embed(lambda dtype: array("int32", B, T))),
    Row(
        "Embed",
        "Embed",
        embed(lambda dtype: array(dtype, B, OUT), linen_call=attend, nnx_call=attend),
        "attend",
    ),
)

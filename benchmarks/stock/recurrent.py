"""Cells, and what runs them over time."""

import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from benchmarks.stock.row import Row, array
from shared import Pair

B, T, IN, H = 2, 4, 3, 5
# Beside their names, how many arrays they carry.
CELLS = {"LSTMCell": 2, "OptimizedLSTMCell": 2, "GRUCell": 1, "SimpleCell": 1}
# A cell that computes in any dtype carries float32, as it starts: a scan asks for that.
LSTM = "LSTMCell"
LENGTHS = {"seq_lengths": jnp.array([2, 4])}


def cell(name, **options):
    """One step of a cell."""

    def make(dtype):
        h = array(dtype, B, H)
        return Pair(
            getattr(nn, name)(H, dtype=dtype, **options),
            lambda rngs: getattr(nnx, name)(IN, H, dtype=dtype, rngs=rngs, **options),
            ((h, h) if CELLS[name] == 2 else h, array(dtype, B, IN)),
        )

    return make


def rnn(name=LSTM, words=None, **options):
    """All steps of a cell."""

    def make(dtype):
        def build(rngs):
            own = getattr(nnx, name)(IN, H, dtype=dtype, rngs=rngs)
            return nnx.RNN(own, rngs=rngs, **options)

        return Pair(
            nn.RNN(getattr(nn, name)(H, dtype=dtype), **options),
            build,
            (array(dtype, B, T, IN),),
            linen_kwargs=words or {},
            nnx_kwargs=words or {},
        )

    return make


def bidirectional(words=None):
    def make(dtype):
        def build(rngs):
            cells = [nnx.LSTMCell(IN, H, dtype=dtype, rngs=rngs) for _ in range(2)]
            return nnx.Bidirectional(*(nnx.RNN(own, rngs=rngs) for own in cells), rngs=rngs)

        cells = [nn.LSTMCell(H, dtype=dtype) for _ in range(2)]
        return Pair(
            nn.Bidirectional(*map(nn.RNN, cells)),
            build,
            (array(dtype, B, T, IN),),
            linen_kwargs=words or {},
            nnx_kwargs=words or {},
        )

    return make


_LAST_STEP = rnn(words=LENGTHS, return_carry=True)

ROWS = (
    *(Row(name, name, cell(name)) for name in CELLS),
    Row("SimpleCell", "SimpleCell", cell("SimpleCell", residual=True), "residual"),
    Row("RNN", "RNN", rnn()),
    Row("RNN", "RNN", _LAST_STEP, "seq_lengths and return_carry"),
    Row("RNN", "RNN", rnn(reverse=True), "reverse"),
    Row("RNN", "RNN", rnn(words=LENGTHS, reverse=True, keep_order=True), "keep_order"),
    Row("RNN", "RNN", rnn("SimpleCell"), "of a SimpleCell"),
    Row("Bidirectional", "Bidirectional", bidirectional()),
    Row("Bidirectional", "Bidirectional", bidirectional(LENGTHS), "seq_lengths"),
)

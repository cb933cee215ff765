"""From a seed to the random streams that a model is initialised with."""

from collections.abc import Mapping
from typing import Self

import jax
import jax.numpy as jnp
from flax import nnx

from shared import linen_keys


def linen_rngs(
    seed: int, draws: tuple[str, ...], num_scans: int, draws_outside: tuple[str, ...] = ()
) -> "LinenRngs":
    """Streams that give an NNX module the initial params that Linen gives its twin.

    NNX numbers its draws in order of construction, Linen derives them from names. So the caller
    says which Linen scope each draw belongs to. A draw beyond those is an error, and so is a split
    by `nnx.split_rngs`, which draws first: use `rngs.split`.

    Args:
      seed: the seed that the Linen twin is initialised with.
      draws: Linen's scope of each draw, in the order in which NNX draws. A `nnx.Linear` draws
        twice, kernel then bias: ("Dense_0", "Dense_0").
      num_scans: how many `nn.scan` the Linen twin has around the layer.
      draws_outside: those beside a stack, which are made of the stream before it is split: an
        embedding, say.
    """
    rngs = linen_streams({"params": (jax.random.key(seed), draws, num_scans)})
    if draws_outside:
        rngs.params.words_once_split = rngs.params.words
        rngs.params.words = linen_keys.draw_words(draws_outside, num_scans=0)
    return rngs


def linen_streams(streams: Mapping[str, tuple[jax.Array, tuple[str, ...], int]]) -> "LinenRngs":
    """The same of several streams: {name: (key, draws, num_scans)}.

    For a call, say: with `{"dropout": (key, ("Dropout_0",), 1)}` a `nnx.Dropout` in a stack drops
    what Linen drops with `rngs={"dropout": key}`.
    """
    return LinenRngs(
        {
            name: LinenStream(key, tag=name, words=linen_keys.draw_words(draws, num_scans))
            for name, (key, draws, num_scans) in streams.items()
        }
    )


def native_rngs(seed: int) -> nnx.Rngs:
    """NNX's own streams: the same distributions as `linen_rngs`, other numbers."""
    return nnx.Rngs(params=seed)


class LinenStream(nnx.RngStream):
    """A stream whose draw number i folds `words[i]` into the key, and whose split folds nothing.

    An `nnx.RngStream` folds in i itself, and folds before it splits.
    """

    def __init__(self, key: jax.Array, *, tag: str, words: tuple[int, ...]):
        super().__init__(key, tag=tag)
        self.words = self.words_once_split = words
        self.drawn = 0

    def __call__(self) -> jax.Array:
        if self.drawn == len(self.words):
            raise ValueError(
                f"draw {self.drawn + 1}, but `draws` names {len(self.words)}: name Linen's scope "
                f"of every draw, in the order in which NNX draws"
            )
        word = self.words[self.drawn]
        self.drawn += 1
        return jax.random.fold_in(self.key[...], jnp.uint32(word))

    def split(self, k: int | tuple[int, ...]) -> Self:
        keys = jax.random.split(self.key[...], k)
        return type(self)(keys, tag=self.tag, words=self.words_once_split)

    def fork(self, *, split: int | tuple[int, ...] | None = None) -> Self:
        raise TypeError("these streams cannot be forked; use `rngs.split`, or native `nnx.Rngs`")


class LinenRngs(nnx.Rngs):
    """An `nnx.Rngs` whose streams are Linen's; its one lift is `split`."""

    def __init__(self, streams: Mapping[str, LinenStream]):
        # The parent's constructor would rebuild each stream as a plain `nnx.RngStream`.
        for name, stream in streams.items():
            setattr(self, name, stream)

    def split(self, k: int | tuple[int, ...]) -> "LinenRngs":  # type: ignore[override]
        return LinenRngs({name: self[name].split(k) for name in self})

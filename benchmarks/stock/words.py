"""What `verify` says, in the few words that a cell has room for."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from flax import nnx

from benchmarks.stock import answer
from benchmarks.stock.answer import Answer
from shared import Pair
from shared.errors import one_line
from shared.models.inputs import abstract_inputs

LONGEST = 110
# Operations of JAX by the names that they have outside of it.
_SPOKEN = {
    "computes convert_element_type": "casts",
    "convert_element_type": "a cast",
    "broadcast_in_dim": "a broadcast",
}
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]\d+)?")
_SHAPE = re.compile(r" \([\d, ]+\)|(?<=\w) [a-z]+\d+\[[\d, ]*\]|\[[\d, ]*\]")


def short(said: str) -> str:
    """One thing of what is said, without shapes and the collections that paths start with."""
    first = said.split("; ")[0].removesuffix(", Linen has nothing in its place")
    for name, spoken in _SPOKEN.items():
        first = first.replace(name, spoken)
    first = _SHAPE.sub("", first)
    first = re.sub(r"\b(?:params|batch_stats|array)/", "", first).replace("~1", "/")
    return first if len(first) <= LONGEST else first[:LONGEST].rsplit(" ", 1)[0] + " ..."


def raised(pair: Pair, error: Exception) -> Answer:
    """What is said where a model of a pair cannot be called."""
    errors = {"Linen": linen_error(pair), "NNX": nnx_error(pair)}
    alone = [side for side, own in errors.items() if own is not None]
    who = "neither runs" if len(alone) == 2 else f"{' and '.join(alone)} does not run"
    said = re.split(r"[.:] ", one_line(error))[0]
    # Where neither runs nothing is lost by moving.
    return Answer(short(f"{who}: {said}"), kind="" if len(alone) == 2 else answer.RAISED)


def linen_error(pair: Pair) -> Exception | None:
    """What Linen raises when it is called; None where it does not."""
    call = pair.linen_call or (lambda module, *x: module(*x, **pair.linen_kwargs))

    def run(*inputs: Any) -> Any:
        variables = pair.linen.init(jax.random.key(0), *inputs, method=call)
        return pair.linen.apply(variables, *inputs, method=call, mutable=True)

    return _error(lambda: jax.eval_shape(run, *abstract_inputs(pair.inputs)))


def nnx_error(pair: Pair) -> Exception | None:
    """The same of the port."""
    call = pair.nnx_call or (lambda module, *x: module(*x, **pair.nnx_kwargs))

    def run(*inputs: Any) -> Any:
        return call(pair.nnx(nnx.Rngs(0)), *inputs)

    return _error(lambda: jax.eval_shape(run, *abstract_inputs(pair.inputs)))


def _error(run: Any) -> Exception | None:
    try:
        run()
    except Exception as error:  # it is the layer that fails
        return error
    return None


def groups(answers: Mapping[str, Answer | None]) -> list[tuple[list[str], Answer | None]]:
    """(the dtypes of which the same is said, the answer with the largest figure among theirs).

    Args:
      answers: {dtype: answer}; None where the question does not arise.
    """
    alike: dict[str, list[str]] = {}
    for dtype, each in answers.items():
        alike.setdefault(_said(dtype, each), []).append(dtype)
    return [(dtypes, _largest(answers, dtypes)) for dtypes in alike.values()]


def folded(answers: Mapping[str, Answer | None]) -> str:
    """A cell: what is said of all dtypes, or of which dtypes what is said."""
    found = [(dtypes, str(each) if each else "-") for dtypes, each in groups(answers)]
    if len(found) == 1:
        return found[0][1]
    return "; ".join(f"{', '.join(dtypes)}: {words}" for dtypes, words in found)


def _said(dtype: str, each: Answer | None) -> str:
    """What is alike where the same is said: numbers in the words are those of one dtype."""
    if each is None:
        return "-"
    # What float32 rounds is of another size.
    own = dtype if dtype == "float32" and each.figure and not each.kind else ""
    return own + _NUMBER.sub("", _without(dtype, each.words))


def _without(dtype: str, words: str) -> str:
    return re.sub(rf"\b{dtype}\b", "the layer's dtype", words)


def _largest(answers: Mapping[str, Answer | None], dtypes: Sequence[str]) -> Answer | None:
    known = [(each, dtype) for dtype in dtypes if (each := answers[dtype])]
    if not known:
        return None
    each, dtype = max(known, key=lambda pair: pair[0].figure or 0)
    if len(known) == 1:
        return each
    # What parts in float32 too is no matter of rounding.
    return dataclasses.replace(each, words=_without(dtype, each.words), kind=known[0][0].kind)

"""Whether two initialisers draw from one distribution, where they are written in two ways.

One draw for each number: the functions from bits to numbers have the same quantiles, or they are
not of one distribution; that leaves nothing to chance. Otherwise the Kolmogorov-Smirnov test of two
samples decides, and of what is computed with arrays also an F test of how norms vary.

Each calls equal distributions different once in `1 / ERROR_RATE`. Two normal ones of which one is
wider by a factor of 1.1 are 0.023 apart; of `SAMPLES` numbers, 0.009 is enough to be different
(`tests/test_initial_values.py` measures both).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from shared.program.distribution import Source, Term, numbers

EQUAL = "equal"
REPEATED = "the same numbers several times"
ERROR_RATE = 1e-9
SAMPLES = 2**18
# Quantiles are those of as many bits, evenly spread; between two ways to write one distribution
# float32 rounds, and the ends of the spread may fall on one side or the other.
QUANTILES = 2**16
NEAR = 1e-3
# NumPy and JAX compute a table as near as this.
SAME_TABLE = 1e-5
# From this on the tails are left to the other quantiles: a truncation moves the last ones most.
_INNER = slice(QUANTILES // 512, -(QUANTILES // 512))


class Comparison(NamedTuple):
    """What two initialisers are.

    Attributes:
      is_same: whether they draw from one distribution.
      how: how that is known, or in what they differ.
    """

    is_same: bool
    how: str


# (how many numbers) -> numbers, a row for each time that they are drawn.
Sampler = Callable[[int], np.ndarray]


def compare(a: Term, b: Term, samplers: tuple[Sampler, Sampler]) -> Comparison:
    """Whether two terms of Linen and of NNX, of which the names differ, are one distribution.

    Args:
      a: a term of Linen; b: of NNX.
      samplers: of both, for initialisers that compute with arrays.
    """
    if not a.bits and not b.bits:
        return _constants(a, b, samplers)
    if not (a.bits and b.bits):
        side = "Linen" if a.bits else "NNX"
        return Comparison(False, f"random in {side}, a constant in the other")
    if a.is_repeated != b.is_repeated:
        side = "NNX" if b.is_repeated else "Linen"
        return Comparison(False, f"{REPEATED} in {side} alone")
    if a.is_elementwise and b.is_elementwise:
        if _has_one_draw(a) and _has_one_draw(b) and _dtype(a) == _dtype(b):
            return _quantiles(a, b)
        x, y = _drawn(a, 0), _drawn(b, 1)
    else:
        rows = [sampler(SAMPLES) for sampler in samplers]
        if apart := _norms_apart(*rows):
            return Comparison(False, apart)
        x, y = (each.reshape(-1) for each in rows)
    # Seldom needed, and as long to import as JAX.
    from scipy import stats

    result = stats.ks_2samp(x, y)
    if result.pvalue < ERROR_RATE:
        return Comparison(False, _described(x, y))
    return Comparison(True, f"a test of {len(x)} and {len(y)} numbers, D = {result.statistic:.2g}")


def _norms_apart(x: np.ndarray, y: np.ndarray) -> str:
    """How norms vary from draw to draw, if otherwise on both sides: that of an orthogonal kernel
    does not. By the F test of their variances.
    """
    if min(len(x), len(y)) < 2:
        return ""
    spread = [
        float(np.var(np.square(each).sum(1) / np.square(each).sum(1).mean())) for each in (x, y)
    ]
    small, large = sorted(spread)
    from scipy import special

    if special.fdtrc(len(x) - 1, len(y) - 1, large / max(small, 1e-12)) >= ERROR_RATE:
        return ""
    one, other = (np.sqrt(each) for each in spread)
    return f"from draw to draw its squared norm varies by {one:.2g} in Linen, {other:.2g} in NNX"


def _constants(a: Term, b: Term, samplers: tuple[Sampler, Sampler]) -> Comparison:
    if a.kind == b.kind == "number":
        x, y = np.asarray(a.value), np.asarray(b.value)
    else:
        x, y = (sampler(1)[0] for sampler in samplers)
    if np.array_equal(x, y):
        return Comparison(True, EQUAL)
    if x.shape == y.shape and _are_near(x, y):
        return Comparison(True, f"equal to {SAME_TABLE:g}")
    return Comparison(False, f"{_constant(x)} in Linen, {_constant(y)} in NNX")


def _are_near(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether they are one table, made by NumPy and by JAX. One number is written, not made."""
    floating = all(jnp.issubdtype(each.dtype, jnp.inexact) for each in (x, y))
    if not floating or x.size == 1:
        return False
    return bool(np.allclose(x, y, rtol=SAME_TABLE, atol=SAME_TABLE, equal_nan=True))


def _constant(x: np.ndarray) -> str:
    flat = x.reshape(-1)
    is_one = flat.size and (flat == flat[0]).all()
    return f"{flat[0]:g}" if is_one else f"numbers of mean {np.mean(flat):.4g}"


def _has_one_draw(term: Term) -> bool:
    return len({bits.sources for bits in term.bits}) == 1


def _dtype(term: Term) -> np.dtype:
    node = term.bits[0].node
    assert node is not None
    return np.dtype(node.avals[0].dtype)


def _quantiles(a: Term, b: Term) -> Comparison:
    dtype = _dtype(a)
    step = (int(np.iinfo(dtype).max) + 1) / QUANTILES
    spread = ((np.arange(QUANTILES) + 0.5) * step).astype(dtype)
    x, y = (np.sort(numbers(term, {term.bits[0].sources: spread})) for term in (a, b))
    scale = max(float(np.std(x)), float(np.std(y)))
    if np.abs(x - y)[_INNER].max() <= NEAR * scale:
        return Comparison(True, f"{QUANTILES} quantiles, equal to {NEAR:g}")
    return Comparison(False, _described(x, y))


def _drawn(term: Term, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    bits: dict[frozenset[Source], np.ndarray] = {}
    for each in term.bits:
        assert each.node is not None
        dtype = np.dtype(each.node.avals[0].dtype)
        most = np.iinfo(dtype).max
        if each.sources not in bits:
            bits[each.sources] = rng.integers(0, most, SAMPLES, dtype, endpoint=True)
    return numbers(term, bits)


def _described(x: np.ndarray, y: np.ndarray) -> str:
    """In what two samples differ, in the words of someone who chooses an initialiser."""
    said = []
    for what, function in (
        ("mean", np.mean),
        ("standard deviation", np.std),
        ("largest", lambda x: np.abs(x).max()),
    ):
        one, other = float(function(x)), float(function(y))
        if abs(one - other) > 0.01 * max(float(np.std(x)), float(np.std(y))):
            said.append(f"{what} {one:.4g} in Linen, {other:.4g} in NNX")
    return "; ".join(said) or "another distribution"

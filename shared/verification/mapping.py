"""The ways to map the weights of a pair: each takes the pair and what the ways before it found."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from shared.models.pure_pair import PurePair
from shared.program.drawn_leaves import is_draw
from shared.program.view import View
from shared.report.result import Verification
from shared.verification.checks.forward import check_forward
from shared.verification.decision.unseen import decide_unseen
from shared.verification.drawn import turned
from shared.verification.placement import place_by_values
from shared.verification.ported import Ported
from shared.verification.programs import program
from shared.weights.crossing import Crossing, find_crossing
from shared.weights.entry import Entry
from shared.weights.find import find, find_again, find_rolled
from shared.weights.fused import Fused, find_fused
from shared.weights.pieces import Found
from shared.weights.pins import fitting

Options = Mapping[str, Any]
# How many orders of axes are tried for draws that have other shapes.
_LAYOUTS = 6


@dataclasses.dataclass(frozen=True)
class Mapped:
    """A pair with its weights mapped as they are meant.

    Attributes:
      ported: the pair, with the map that is meant.
      found: the map that the programs tell.
      crossing: how that is another one; fused: what one side has fused without having said so.
      seconds: how long the map was looked for.
    """

    ported: Ported
    found: Found
    crossing: Crossing | None = None
    fused: Fused | None = None
    seconds: float = 0.0

    @property
    def linen_left(self) -> list[str]:
        """The paths of Linen's weights, and draws, that have no counterpart."""
        return sorted({view.leaf for view in self.found.linen_left})

    @property
    def nnx_left(self) -> list[str]:
        """The same of NNX."""
        return sorted({view.leaf for view in self.found.nnx_left})

    @property
    def remark(self) -> str:
        """How the map that was found is not the one that is meant; "" if it is."""
        return self.crossing.remark if self.crossing else self.fused.remark if self.fused else ""


class Tried(NamedTuple):
    """A map, and what is known of the pair with it; None where that proves nothing."""

    mapped: Mapped
    verification: Verification | None

    @property
    def is_settled(self) -> bool:
        """Whether no other map has to be tried."""
        return self.verification is not None and self.verification.verdict != "different"


# (pair, options, what has been tried) -> a map to try; None if there is none of the kind.
Way = Callable[[PurePair, Options, Sequence[Tried]], Mapped | None]


def scan_by_scan(pure: PurePair, options: Options, tried: Sequence[Tried]) -> Mapped | None:
    """One layer of each scan stands for all.

    The time that takes is that of one layer. None where scans are not alike: then they are
    unrolled, to compare with loops and to see which layer differs.
    """
    started = time.perf_counter()
    models = (pure.linen, pure.nnx)
    if any(model.draws for model in models):
        return None  # each iteration draws numbers of its own
    linen, nnx = (program(model.apply, model, pure.inputs, unroll=False) for model in models)
    if not (linen.graph.has_loops and nnx.graph.has_loops):
        return None
    leaves = (pure.linen.leaves, pure.nnx.leaves)
    entries = find_rolled(linen.graph, nnx.graph, *leaves, pure.weight_map)
    if entries is None or find_crossing(entries, *leaves) is not None:
        return None
    ported = Ported(pure, linen, nnx, entries, is_unrolled=False, **options)
    found = Found(entries, (), (), linen.graph, nnx.graph)
    return Mapped(ported, found, seconds=time.perf_counter() - started)


def unrolled_as_scanned(pure: PurePair, options: Options, tried: Sequence[Tried]) -> Mapped | None:
    """The map found scan by scan, each iteration with operations of its own."""
    return _unrolled(pure, options, tried[-1].mapped.found.entries) if tried else None


def unrolled(pure: PurePair, options: Options, tried: Sequence[Tried]) -> Mapped | None:
    """The map looked for with scans unrolled. None where it is the one that was tried."""
    mapped = _unrolled(pure, options)
    same = tried and set(mapped.found.entries) == set(tried[-1].mapped.found.entries)
    return None if same else mapped


def by_values(pure: PurePair, options: Options, tried: Sequence[Tried]) -> Mapped | None:
    """The map that tells weights apart by what their values do. None if that is no other one."""
    mapped, verification = tried[-1]
    if verification is None or verification.checks[0].status != "equal":
        return None
    entries = place_by_values(mapped.ported)
    if entries is None:
        return None
    return _as_meant(
        dataclasses.replace(mapped.found, entries=entries),
        dataclasses.replace(mapped.ported, entries=entries),
        mapped.seconds,
    )


def as_mapped(pure: PurePair, options: Options, entries: Sequence[Entry]) -> Mapped:
    """Other programs of models of which the weights are mapped: what they draw is paired."""
    started = time.perf_counter()
    linen, nnx = (program(model.apply, model, pure.inputs) for model in (pure.linen, pure.nnx))
    found = find_again(linen.graph, nnx.graph, pure.linen.leaves, pure.nnx.leaves, entries)
    linen = dataclasses.replace(linen, graph=found.linen)
    nnx = dataclasses.replace(nnx, graph=found.nnx)
    ported = Ported(pure, linen, nnx, found.entries, **options)
    return Mapped(ported, found, seconds=time.perf_counter() - started)


def with_draws_laid_out(pure: PurePair, options: Options, tried: Sequence[Tried]) -> Mapped | None:
    """The map with those draws paired that have other shapes, as masks before and after a reshape.

    None where that does not help.
    """
    found = tried[-1].mapped.found
    left = found.linen_left, found.nnx_left
    if not all(left) or not all(is_draw(view.leaf) for view in (*left[0], *left[1])):
        return None
    if len(left[0]) != len(left[1]):
        return None
    ported = tried[-1].mapped.ported
    for which in range(_LAYOUTS):
        pairs = [_laid_out(*pair, ported, which) for pair in zip(*left, strict=True)]
        entries = [entry for entry in pairs if entry is not None]
        if len(entries) < len(left[0]):
            return None
        paired = dataclasses.replace(
            found, entries=(*found.entries, *entries), linen_left=(), nnx_left=()
        )
        other = dataclasses.replace(ported, entries=paired.entries)
        if _passes(other):
            return dataclasses.replace(tried[-1].mapped, ported=other, found=paired)
    return None


def _laid_out(linen: View, nnx: View, ported: Ported, which: int) -> Entry | None:
    """Two draws as one, the first laid out in one of the ways in which it fits the other."""
    shapes = (
        tuple(view.shape_in(model.leaves[view.leaf].shape))
        for view, model in ((linen, ported.linen), (nnx, ported.nnx))
    )
    ways = list(fitting(*shapes))
    if not ways:
        return None
    steps = tuple(ways[min(which, len(ways) - 1)])
    laid_out = linen.then(steps, ported.linen.leaves[linen.leaf].shape)
    return Entry(laid_out, nnx, "draw")


def with_turned_draws(pure: PurePair, options: Options, tried: Sequence[Tried]) -> Mapped | None:
    """The map that gives NNX inverted bits where both compare draws; None if it does not help."""
    mapped, verification = tried[-1]
    if verification is None or verification.checks[0].status != "equal":
        return None
    entries = turned(mapped.ported)
    if entries is None:
        return None
    ported = dataclasses.replace(mapped.ported, entries=entries)
    if not _passes(ported):
        return None
    found = dataclasses.replace(mapped.found, entries=entries)
    return dataclasses.replace(mapped, ported=ported, found=found)


def _unrolled(pure: PurePair, options: Options, known: Sequence[Entry] | None = None) -> Mapped:
    started = time.perf_counter()
    linen, nnx = (program(model.apply, model, pure.inputs) for model in (pure.linen, pure.nnx))
    leaves = (pure.linen.leaves, pure.nnx.leaves)
    if known is None:
        found = find(linen.graph, nnx.graph, *leaves, pure.weight_map)
    else:
        found = Found(tuple(known), (), (), linen.graph, nnx.graph)
    linen = dataclasses.replace(linen, graph=found.linen)
    nnx = dataclasses.replace(nnx, graph=found.nnx)
    ported = Ported(pure, linen, nnx, found.entries, **options)
    return _as_meant(found, ported, time.perf_counter() - started)


def _as_meant(found: Found, ported: Ported, seconds: float) -> Mapped:
    crossing = find_crossing(found.entries, ported.linen.leaves, ported.nnx.leaves)
    if crossing:
        ported = dataclasses.replace(ported, entries=crossing.meant)
        if not (found.linen_left or found.nnx_left) and _passes(ported):
            # Programs do not tell experts of equal form apart; what is loaded into them does.
            crossing = None
    return Mapped(ported, found, crossing, find_fused(found), seconds)


def _passes(ported: Ported) -> bool:
    forward = check_forward(ported)
    return forward.status in ("equal", "close") and not decide_unseen(ported, [forward])[1]

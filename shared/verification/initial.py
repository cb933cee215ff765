"""Whether both models start alike: distributions, constants, and which weights are drawn as one."""

import collections
from collections.abc import Sequence

from shared.models.pair import PurePair
from shared.program.canonical import Names
from shared.program.distribution import Source, name_of
from shared.report.result import NAMED, Check, Divergence
from shared.verification.same_distribution import Comparison, compare
from shared.verification.start import Start
from shared.weights.weight_map import Entry

NAME = "initial"


def check_initial(pure: PurePair, entries: Sequence[Entry]) -> tuple[Check, Divergence | None]:
    """Whether what `entries` pair starts alike, and where it does not.

    Args:
      pure: a pair of models of which the initialisers are known as programs.
      entries: the map of the weights.
    """
    linen, nnx = (Start(model, pure) for model in (pure.linen, pure.nnx))
    unlike, tested = _unlike(linen, nnx, entries)
    if unlike:
        entry, how = unlike[0]
        named = [f"{each.linen.leaf}: {said}" for each, said in unlike[:NAMED]]
        more = [f"{len(unlike) - NAMED} more"] if len(unlike) > NAMED else []
        is_drawn = linen.term(entry.linen).bits or nnx.term(entry.nnx).bits
        what = "is drawn from another distribution" if is_drawn else "starts with other numbers"
        place = _place(f"{entry.linen} {what}: {how}", linen, nnx, entry, entry)
        note = "; ".join(named + more)
        return Check(NAME, "different", worst_leaf=entry.nnx.leaf, note=note), place
    if found := _as_one(linen, nnx, entries):
        (entry, other), alone, count = found
        side, rest = ("NNX", "Linen") if alone == "nnx" else ("Linen", "NNX")
        views = [str(getattr(each, alone)) for each in (other, entry)]
        note = f"{views[0]} starts with the numbers of {views[1]} in {side}, not in {rest}"
        if alone == "nnx":
            note += f"; draw each from a key of its own: rngs.split({count})"
        place = _place(note, linen, nnx, other, other)
        return Check(NAME, "different", worst_leaf=other.nnx.leaf, note=note), place
    note = f"one distribution by {' and by '.join(sorted(tested))}" if tested else ""
    return Check(NAME, "equal" if tested else "identical", note=note), None


def _unlike(
    linen: "Start", nnx: "Start", entries: Sequence[Entry]
) -> tuple[list[tuple[Entry, str]], set[str]]:
    """What starts otherwise, a row for each leaf, in what; and how the rest is known to be alike.

    Nothing is said of the rest where the programs are the same.
    """
    names = Names()
    unlike: dict[tuple[str, str], tuple[Entry, str]] = {}
    tested: set[str] = set()
    known: dict[tuple[int, int], Comparison] = {}
    for entry in entries:
        a, b = linen.term(entry.linen), nnx.term(entry.nnx)
        key = name_of(names, a), name_of(names, b)
        if key[0] == key[1]:
            continue
        if key not in known:
            known[key] = compare(a, b, (linen.sampler(entry.linen), nnx.sampler(entry.nnx)))
        is_same, how = known[key]
        if is_same:
            tested.add(how)
        else:
            unlike.setdefault((entry.linen.leaf, entry.nnx.leaf), (entry, how))
    return list(unlike.values()), tested


def _as_one(
    linen: "Start", nnx: "Start", entries: Sequence[Entry]
) -> tuple[tuple[Entry, Entry], str, int] | None:
    """Two weights that start with the same numbers on one side alone: (both, side, how many do)."""
    found = [
        _groups([start.sources(getattr(entry, side)) for entry in entries])
        for start, side in ((linen, "linen"), (nnx, "nnx"))
    ]
    for i, (here, there) in enumerate(zip(*found, strict=True)):
        for alone, more in (("nnx", there - here), ("linen", here - there)):
            if more:
                group = there if alone == "nnx" else here
                return (entries[i], entries[min(more)]), alone, len(group)
    return None


def _groups(sources: Sequence[frozenset[Source]]) -> list[frozenset[int]]:
    """For each of several weights which of them are drawn of a key that it is drawn of."""
    of: dict[Source, set[int]] = collections.defaultdict(set)
    for i, own in enumerate(sources):
        for source in own:
            of[source].add(i)
    return [frozenset().union(*(of[source] for source in own)) | {i} for i, own in enumerate(sources)]


def _place(reason: str, linen: "Start", nnx: "Start", one: Entry, other: Entry) -> Divergence:
    return Divergence(reason, linen.spot(one.linen), nnx.spot(other.nnx))

"""Whether both models start alike: distributions, constants, and which weights are drawn as one."""

import collections
from collections.abc import Sequence

from shared.program.canonical import Names
from shared.program.distribution import Source, name_of
from shared.program.graph import held_by
from shared.report.result import NAMED, Check, Divergence
from shared.verification.ported import Ported
from shared.verification.same_distribution import EQUAL, REPEATED, Comparison, compare
from shared.verification.start import Start
from shared.weights.entry import Entry
from shared.weights.fused import is_cut_by_flax

NAME = "initial"
TOO_LARGE = "of more numbers than are drawn to be compared"
AS_ONE = "starts with the numbers of"


def check_initial(ported: Ported) -> tuple[Check, Divergence | None]:
    """Whether what is mapped starts alike, and where it does not.

    Args:
      ported: a pair of models of which the initialisers are known as programs.
    """
    pure, entries = ported.pair, ported.weights.entries
    linen, nnx = (Start(model, pure) for model in (pure.linen, pure.nnx))
    every, tested = _unlike(linen, nnx, entries)
    explained = _explained(ported, linen, nnx, every)
    meant = {entry for group in explained.values() for entry in group}
    if unlike := [(entry, how) for entry, how in every if entry not in meant]:
        entry, how = unlike[0]
        named = [f"{each.linen.leaf}: {said}" for each, said in unlike[:NAMED]]
        more = [f"{len(unlike) - NAMED} more"] if len(unlike) > NAMED else []
        is_drawn = linen.term(entry.linen).bits or nnx.term(entry.nnx).bits
        what = "is drawn from another distribution" if is_drawn else "starts with other numbers"
        several = how == f"{REPEATED} in NNX alone"
        place = Divergence(
            f"{entry.linen} {what}: {how}",
            linen.spot(entry.linen),
            nnx.spot_of_several(entry.nnx) if several else nnx.spot(entry.nnx),
        )
        note = "; ".join(named + more)
        return Check(NAME, "different", worst_leaf=entry.nnx.leaf, note=note), place
    changed = _changed(ported)
    if found := _as_one(linen, nnx, [e for e in entries if e.linen.leaf not in changed]):
        (entry, other), alone, count = found
        side, rest = ("NNX", "Linen") if alone == "nnx" else ("Linen", "NNX")
        views = [str(getattr(each, alone)) for each in (other, entry)]
        note = f"{views[0]} {AS_ONE} {views[1]} in {side}, not in {rest}"
        if alone == "nnx":
            note += f"; draw each from a key of its own: rngs.split({count})"
        place = Divergence(
            note,
            linen.spot_of_several(other.linen, entry.linen)
            if alone == "linen"
            else linen.spot(other.linen),
            nnx.spot_of_several(other.nnx, entry.nnx) if alone == "nnx" else nnx.spot(other.nnx),
        )
        return Check(NAME, "different", worst_leaf=other.nnx.leaf, note=note), place
    if explained:
        hows = dict(every)
        note = "; ".join(
            f"{why.format(_paths(group))}: {hows[group[0]]}" for why, group in explained.items()
        )
        to_load = next((g[0].nnx.leaf for why, g in explained.items() if why in _TO_LOAD), None)
        return Check(NAME, "undecided", worst_leaf=to_load, note=note), None
    note = f"one distribution by {' and by '.join(sorted(tested))}" if tested else ""
    return Check(NAME, "equal" if tested else "identical", note=note), None


_NOT_RUN = "{} is not compared"
_FUSED = "Flax draws {}, of which Linen has the parts, otherwise"
_CHANGED = "Linen's init has called the model, and changed {}"
_PINNED = "{} starts otherwise, and is mapped by weight_map"
_HELD_FREE = "{} starts with numbers of no initialiser"
# What is not trained from, or trains otherwise.
_TO_LOAD = (_FUSED, _PINNED, _HELD_FREE)


def is_cause(place: Divergence) -> bool:
    """Whether numbers are drawn once on one side: then so is all that is drawn beside them."""
    return AS_ONE in place.reason or REPEATED in place.reason


def _explained(
    ported: Ported, linen: Start, nnx: Start, unlike: Sequence[tuple[Entry, str]]
) -> dict[str, list[Entry]]:
    """What starts otherwise and is no difference for that: {why: entries}.

    What Flax fuses in layers of its own; what the call changes, which Linen's `init` makes once;
    what the user has mapped, to be loaded; and what stands in a port for what is loaded: zeros,
    ones, standard normal or uniform numbers, of no initialiser and no layer of Flax's.
    """
    graphs = ported.linen_program.graph, ported.nnx_program.graph
    changed = _changed(ported)
    pinned = {entry.linen.leaf for entry in ported.entries if "user" in entry.by}
    found: dict[str, list[Entry]] = collections.defaultdict(list)
    for entry, how in unlike:
        if how == TOO_LARGE:
            found[_NOT_RUN].append(entry)
        elif (entry.linen.part or entry.nnx.part) and is_cut_by_flax(*graphs, entry):
            found[_FUSED].append(entry)
        elif entry.linen.leaf in changed:
            found[_CHANGED].append(entry)
        elif entry.linen.leaf in pinned:
            found[_PINNED].append(entry)
        elif linen.term(entry.linen).bits and nnx.is_held_free(entry.nnx):
            found[_HELD_FREE].append(entry)
    return dict(found)


def _changed(ported: Ported) -> set[str]:
    """Linen's weights that a call changes: its `init` has called the model once."""
    program = ported.linen_program
    outputs = zip(program.outputs, program.graph.outputs, strict=True)
    return {path for path, value in outputs if held_by(value) != path}


def _paths(entries: Sequence[Entry]) -> str:
    return ", ".join(dict.fromkeys(entry.nnx.leaf for entry in entries))


def _unlike(
    linen: Start, nnx: Start, entries: Sequence[Entry]
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
        is_run = not (a.is_elementwise and b.is_elementwise)
        if is_run and (linen.is_too_large(entry.linen) or nnx.is_too_large(entry.nnx)):
            unlike.setdefault((entry.linen.leaf, entry.nnx.leaf), (entry, TOO_LARGE))
            continue
        if key not in known:
            known[key] = compare(a, b, (linen.sampler(entry.linen), nnx.sampler(entry.nnx)))
        is_same, how = known[key]
        if not is_same:
            unlike.setdefault((entry.linen.leaf, entry.nnx.leaf), (entry, how))
        elif how != EQUAL:
            tested.add(how)
    return list(unlike.values()), tested


def _as_one(
    linen: Start, nnx: Start, entries: Sequence[Entry]
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
    return [
        frozenset().union(*(of[source] for source in own)) | {i} for i, own in enumerate(sources)
    ]

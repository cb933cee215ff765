"""Maps that cross what both sides call by the same words or numbers.

A map that loads Linen's query as NNX's key may give equal numbers, but it is not the port that was
meant: the team will load query as query.
"""

import collections
import dataclasses
from collections.abc import Sequence

from shared.program.view import View
from shared.weights.names import numbers, template, words
from shared.weights.weight_map import Entry


@dataclasses.dataclass(frozen=True)
class Crossing:
    """What a map exchanges.

    Attributes:
      remark: how the port would be equal.
      meant: the map without the exchange.
    """

    remark: str
    meant: tuple[Entry, ...]


def find_crossing(entries: Sequence[Entry]) -> Crossing | None:
    """What `entries` cross, or None. Pinned entries are the user's word and cross nothing."""
    free = [entry for entry in entries if entry.by != "user"]
    kept = tuple(entry for entry in entries if entry.by == "user")
    return _crossed_order(free, kept) or _crossed_words(free, kept)


def _crossed_order(free: list[Entry], kept: tuple[Entry, ...]) -> Crossing | None:
    """Layers 0, 1, 2 of one side as layers 2, 1, 0 of the other."""
    groups: dict[tuple[str, str], list[Entry]] = collections.defaultdict(list)
    for entry in free:
        groups[template(entry.linen.leaf), template(entry.nnx.leaf)].append(entry)
    meant: list[Entry] = []
    remarks = set()
    for group in groups.values():
        by_linen = sorted(group, key=lambda entry: _index(entry.linen))
        targets = [entry.nnx for entry in by_linen]
        in_order = sorted(targets, key=_index)
        if targets != in_order:
            turned = targets == in_order[::-1]
            remarks.add("the layer axis were reversed" if turned else "layers were exchanged")
        meant += [
            dataclasses.replace(entry, nnx=target)
            for entry, target in zip(by_linen, in_order, strict=True)
        ]
    if not remarks:
        return None
    return Crossing(f"equal if {' and '.join(sorted(remarks))}", (*kept, *meant))


def _index(view: View) -> tuple[int, ...]:
    starts = (start for _, start, _ in view.part)
    return (*numbers(view.leaf), *(position for _, position in view.index), *starts)


def _crossed_words(free: list[Entry], kept: tuple[Entry, ...]) -> Crossing | None:
    """Linen's query as NNX's key, and Linen's key as NNX's query."""
    meant = list(free)
    remarks = set()
    for i, first in enumerate(meant):
        for j in range(i + 1, len(meant)):
            second = meant[j]
            mine, other = words(first.linen.leaf), words(second.linen.leaf)
            own, its = words(first.nnx.leaf), words(second.nnx.leaf)
            here, there = (mine - other) & (its - own), (other - mine) & (own - its)
            if here and there and _index(first.linen) == _index(second.linen):
                remarks.add(f"{_join(here)} and {_join(there)} were exchanged")
                meant[i] = dataclasses.replace(first, nnx=second.nnx)
                meant[j] = dataclasses.replace(second, nnx=first.nnx)
                break
    if not remarks:
        return None
    return Crossing(f"equal if {' and '.join(sorted(remarks))}", (*kept, *meant))


def _join(found: set[str] | frozenset[str]) -> str:
    return "/".join(sorted(found))

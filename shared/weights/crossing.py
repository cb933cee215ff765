"""Maps that cross what both sides call by the same words or numbers.

A map that loads Linen's query as NNX's key may give equal numbers, but it is not the port that was
meant: the team will load query as query.
"""

import collections
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from shared.program.view import View
from shared.weights.entry import Entry
from shared.weights.names import numbers, words
from shared.weights.regular import Family, families

# Linen numbers layers that have no name as they are made, which is not as they are called: of
# Dense(relu(Dense(x))) the outer one is made first. `Dense_0` says nothing of the order.
_NUMBERED_AS_MADE = {
    *(
        "BatchNorm",
        "GroupNorm",
        "InstanceNorm",
        "LayerNorm",
        "RMSNorm",
        "SpectralNorm",
        "WeightNorm",
    ),
    *("Conv", "ConvLocal", "ConvTranspose", "Dense", "DenseGeneral", "Einsum", "Embed", "PReLU"),
    *("GRUCell", "LSTMCell", "OptimizedLSTMCell", "RNN", "SimpleCell"),
    *("MultiHeadAttention", "MultiHeadDotProductAttention", "SelfAttention"),
}
_TELLS_LAYERS = (
    "dataflow",
    "dataflow and names",
    "dataflow and order",
    "names and order",
    "values",
)


@dataclasses.dataclass(frozen=True)
class Crossing:
    """What a map exchanges.

    Attributes:
      remark: how the port would be equal.
      meant: the map without the exchange.
      layers: a pair that is not of the same layer, if layers are exchanged.
    """

    remark: str
    meant: tuple[Entry, ...]
    layers: Entry | None = None


def find_crossing(
    entries: Sequence[Entry], linen: Mapping[str, Any], nnx: Mapping[str, Any]
) -> Crossing | None:
    """What `entries` cross, or None. Pinned entries are the user's word and cross nothing.

    Args:
      entries: a map.
      linen: {path: shape and dtype} of Linen's leaves; nnx: of those of NNX.
    """
    # A pin is the user's word, and what is placed by its name says nothing of the name.
    free = [entry for entry in entries if entry.by in _TELLS_LAYERS]
    kept = tuple(entry for entry in entries if entry.by not in _TELLS_LAYERS)
    crossed = _crossed_order(free, kept) or _crossed_words(free, kept)
    return crossed or _crossed_axes(entries, linen, nnx)


def _crossed_order(free: list[Entry], kept: tuple[Entry, ...]) -> Crossing | None:
    """Layers 0, 1, 2 of one side as layers 2, 1, 0 of the other."""
    meant: dict[Entry, Entry] = {}
    remarks = set()
    for group in _families(free):
        by_linen = sorted(group, key=lambda entry: _index(entry.linen))
        targets = [entry.nnx for entry in by_linen]
        in_order = sorted(targets, key=_index)
        if targets == in_order or any(entry in meant for entry in group):
            continue
        turned = targets == in_order[::-1]
        remarks.add("the layer axis were reversed" if turned else "layers were exchanged")
        for entry, target in zip(by_linen, in_order, strict=True):
            meant[entry] = dataclasses.replace(entry, nnx=target)
    if not remarks:
        return None
    entries = (*kept, *(meant.get(entry, entry) for entry in free))
    first = next(entry for entry in free if meant.get(entry, entry) != entry)
    return Crossing(f"equal if {' and '.join(sorted(remarks))}", entries, first)


def _families(entries: list[Entry]) -> list[list[Entry]]:
    """Entries of all layers of one weight, where both sides number the same layers.

    Names such as `Dense_0` that Flax gives by itself number other things than `up1` and `up2`:
    their families are not the same.
    """
    groups: dict[tuple[Family, Family], list[Entry]] = collections.defaultdict(list)
    sizes: list[collections.Counter[Family]] = [collections.Counter(), collections.Counter()]
    for entry in entries:
        linen, nnx = families(entry.linen), families(entry.nnx)
        sizes[0].update(linen)
        sizes[1].update(nnx)
        for one in linen:
            for other in nnx:
                groups[one, other].append(entry)
    return [
        group
        for (one, other), group in groups.items()
        if len(group) == sizes[0][one] == sizes[1][other] > 1 and not _is_numbered_as_made(one)
    ]


def _is_numbered_as_made(family: Family) -> bool:
    word = next((word for word in family.path.split("/") if "#" in word), "")
    return word.removesuffix("_#") in _NUMBERED_AS_MADE


def _index(view: View) -> tuple[int, ...]:
    starts = (start for _, start, _ in view.part)
    return (*numbers(view.leaf), *(position for _, position in view.index), *starts)


def _crossed_words(free: list[Entry], kept: tuple[Entry, ...]) -> Crossing | None:
    """Linen's query as NNX's key, and Linen's key as NNX's query."""
    meant = list(free)
    remarks = set()
    layers: dict[tuple[int, ...], list[int]] = collections.defaultdict(list)
    for i, entry in enumerate(meant):
        layers[_index(entry.linen)].append(i)
    for layer in layers.values():
        for i, j in itertools.combinations(layer, 2):
            first, second = meant[i], meant[j]
            mine, other = _words_apart(first.linen.leaf, second.linen.leaf)
            own, its = _words_apart(first.nnx.leaf, second.nnx.leaf)
            here, there = (mine - other) & (its - own), (other - mine) & (own - its)
            if here and there:
                remarks.add(f"{_join(here)} and {_join(there)} were exchanged")
                meant[i] = dataclasses.replace(first, nnx=second.nnx)
                meant[j] = dataclasses.replace(second, nnx=first.nnx)
    if not remarks:
        return None
    return Crossing(f"equal if {' and '.join(sorted(remarks))}", (*kept, *meant))


def _words_apart(one: str, other: str) -> tuple[frozenset[str], frozenset[str]]:
    """The words of two paths, behind the modules that both are in."""
    names = one.split("/"), other.split("/")
    shared = len(
        list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*names, strict=False)))
    )
    first, second = ("/".join(path[shared:]) for path in names)
    return words(first), words(second)


def _crossed_axes(
    entries: Sequence[Entry], linen: Mapping[str, Any], nnx: Mapping[str, Any]
) -> Crossing | None:
    """Weights that are loaded transposed where nothing in their shapes says so.

    Where a port has all its kernels transposed, those that are not square tell.
    """

    def is_square(entry: Entry) -> bool:
        own, its = entry.linen.as_it_is, entry.nnx.as_it_is
        return own.shape_in(linen[own.leaf].shape) == its.shape_in(nnx[its.leaf].shape)

    turned = [
        entry
        for entry in entries
        if any(step.op == "transpose" for step in entry.linen.steps) and entry.by != "user"
    ]
    told = {_name(entry) for entry in turned if not is_square(entry)}
    crossed = [entry for entry in turned if is_square(entry) and _name(entry) not in told]
    if not crossed:
        return None
    meant = tuple(
        dataclasses.replace(entry, linen=entry.linen.as_it_is) if entry in crossed else entry
        for entry in entries
    )
    paths = ", ".join(entry.nnx.leaf for entry in crossed)
    return Crossing(f"equal if {paths} were transposed", meant)


def _name(entry: Entry) -> str:
    return entry.nnx.leaf.rsplit("/", 1)[-1]


def _join(found: set[str] | frozenset[str]) -> str:
    return "/".join(sorted(found))

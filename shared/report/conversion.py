"""A conversion of a checkpoint on the terminal."""

import collections
from collections.abc import Mapping
from typing import Any

from shared.errors import printable
from shared.report.size import size_text

# Of leaves with numbers that are not finite, by name.
_SHOWN = 5
# Of what stands at the top of the tree: an NNX model has its modules there.
_HELD = 12
_FIRST = ("model", "params", "batch_stats", "optimizer", "opt_state", "step")


def print_conversion(document: Mapping[str, Any]) -> None:
    """Prints what was converted, or what would be, from its document."""
    source, target = document["source"], document["target"]
    is_written = document["is_written"]
    print(f"convert  {source['layout']} -> {target['layout']}  {_by(document['by'])}")
    print(f"in       {_side(source)}  {source['format']}")
    print(f"out      {_side(target)}  {'' if is_written else 'not written: --dry_run'}".rstrip())
    if is_written:
        print("         read back: the SHA-256 of each leaf is that of what was made")
    if not is_written:
        _print_leaves(document["leaves"])
    groups = collections.Counter(_group(leaf["target"]) for leaf in document["leaves"])
    held = [f"{printable(name)} {groups[name]}" for name in sorted(groups, key=_rank)]
    if len(held) > _HELD + 1:
        held[_HELD:] = [f"and {len(held) - _HELD} more names"]
    print("holds    " + ", ".join(held))
    changed = collections.defaultdict(list)
    for leaf in document["leaves"]:
        if leaf["transform"]:
            changed[leaf["transform"]].append(printable(leaf["target"]))
    for what, paths in changed.items():
        count = paths[0] if len(paths) == 1 else f"{len(paths)} leaves"
        print(f"changed  {count}: {what}")
    if document["not_finite"]:
        found = list(document["not_finite"].items())
        shown = ", ".join(f"{printable(path)} {count}" for path, count in found[:_SHOWN])
        more = f", and {len(found) - _SHOWN} more leaves" if len(found) > _SHOWN else ""
        print(f"note     NaN or infinite, and kept so: {shown}{more}")


def _by(by: str) -> str:
    return {
        "manifest": "back to what its manifest says it was made of",
        "rule": "weights matched by rule",
        "weight map": "weights matched by the map",
    }[by]


def _side(side: Mapping[str, Any]) -> str:
    return f"{printable(side['path'])}  {side['num_leaves']} leaves  {size_text(side['num_bytes'])}"


def _group(path: str) -> str:
    return path.split("/")[0]


def _rank(name: str) -> int:
    """What a person looks for first comes first."""
    return _FIRST.index(name) if name in _FIRST else len(_FIRST)


def _place(leaf: Mapping[str, Any]) -> tuple:
    """By the first name; layers are in the order of their numbers."""
    names = leaf["target"].split("/")
    return _rank(names[0]), [
        (not name.isdecimal(), int(name) if name.isdecimal() else 0, name) for name in names
    ]


def _print_leaves(leaves: list[Mapping[str, Any]]) -> None:
    """One line for each leaf that would be written."""
    width = max(len(printable(leaf["target"])) for leaf in leaves)
    for leaf in sorted(leaves, key=_place):
        shape = str(tuple(leaf["shape"]))
        origin = printable(leaf["source"][0]) + (", ..." if len(leaf["source"]) > 1 else "")
        what = f"  {leaf['transform']}" if leaf["transform"] else ""
        print(f"  {printable(leaf['target']):<{width}}  {shape} {leaf['dtype']}  <- {origin}{what}")

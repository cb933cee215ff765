"""A conversion of a checkpoint on the terminal."""

import collections
import math
from collections.abc import Mapping
from typing import Any

from shared.errors import printable

# Of leaves with numbers that are not finite, by name.
_SHOWN = 5


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
    print("holds    " + ", ".join(f"{printable(name)} {count}" for name, count in groups.items()))
    changed = collections.Counter(
        leaf["transform"] for leaf in document["leaves"] if leaf["transform"]
    )
    for what, count in changed.items():
        print(f"changed  {count} {'leaf' if count == 1 else 'leaves'}: {what}")
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
    return f"{printable(side['path'])}  {side['num_leaves']} leaves  {_size(side['num_bytes'])}"


def _size(num_bytes: int) -> str:
    if num_bytes < 1000:
        return f"{num_bytes:.0f} bytes"
    units = ("kB", "MB", "GB", "TB")
    power = min(int(math.log(num_bytes, 1000)), len(units))
    return f"{num_bytes / 1000**power:.1f} {units[power - 1]}"


def _group(path: str) -> str:
    return path.split("/")[0]


def _print_leaves(leaves: list[Mapping[str, Any]]) -> None:
    """One line for each leaf that would be written."""
    width = max(len(printable(leaf["target"])) for leaf in leaves)
    for leaf in leaves:
        shape = f"({', '.join(map(str, leaf['shape']))})"
        origin = printable(leaf["source"][0]) + (", ..." if len(leaf["source"]) > 1 else "")
        what = f"  {leaf['transform']}" if leaf["transform"] else ""
        print(f"  {printable(leaf['target']):<{width}}  {shape} {leaf['dtype']}  <- {origin}{what}")

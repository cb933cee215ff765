"""WeightMap: which piece of which Linen leaf is which piece of which NNX leaf."""

import collections
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from shared.errors import CorruptFileError, InputError, first_line
from shared.program.view import View
from shared.trees import Key, Place, leaves_of, module_tree
from shared.weights.entry import Entry
from shared.weights.one_to_one import check_one_to_one
from shared.weights.words import transform

Leaves = Mapping[str, Any]

SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True)
class WeightMap:
    """A one-to-one map of weights.

    Attributes:
      entries: the pieces; together they make up every leaf that is mapped.
      linen: {path: shape and dtype} of the Linen leaves that are mapped.
      nnx: the same of the NNX leaves.
      places: {path: where in the port it is} of the NNX leaves.
      linen_places: the same of the Linen leaves that are in a tuple.
    """

    entries: tuple[Entry, ...]
    linen: Mapping[str, Any]
    nnx: Mapping[str, Any]
    places: Mapping[str, Place] = dataclasses.field(default_factory=dict)
    linen_places: Mapping[str, Place] = dataclasses.field(default_factory=dict)

    def to_nnx(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Linen's variables as NNX's: {collection: pure dict of the port}. Nothing is cast.

        Raises:
          InputError: a leaf is missing, extra or of another shape.
        """
        return _by_collection(self.move(leaves_of(variables), to="nnx"), self.places)

    def to_pure_dict(self, variables: Mapping[str, Any]) -> dict[Key, Any]:
        """`to_nnx` of all collections in one: what `nnx.update` of the port takes as it is.

        So does `nnx.replace_by_pure_dict` of its state. Raises as `to_nnx`.
        """
        return module_tree(self.move(leaves_of(variables), to="nnx"), self.places)

    def to_linen(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The inverse of `to_nnx`."""
        return _by_collection(self.move(leaves_of(state), to="linen"), self.linen_places)

    def move(self, leaves: Leaves, to: str) -> dict[str, Any]:
        """Flat leaves of one side as flat leaves of the other."""
        source = self.linen if to == "nnx" else self.nnx
        target = self.nnx if to == "nnx" else self.linen
        _check(source, leaves)
        pieces: dict[str, list[tuple[View, View]]] = collections.defaultdict(list)
        for entry in self.entries:
            here, there = (entry.linen, entry.nnx) if to == "nnx" else (entry.nnx, entry.linen)
            pieces[there.leaf].append((here, there))
        moved = {}
        for path, spec in target.items():
            origin = pieces[path][0][0].leaf
            if tuple(source[origin].shape) == tuple(spec.shape) and all(
                here == dataclasses.replace(there, leaf=origin) for here, there in pieces[path]
            ):
                moved[path] = leaves[origin]
                continue
            dtypes = {leaves[view.leaf].dtype for view, _ in pieces[path]}
            if len(dtypes) > 1:
                raise InputError(
                    f"{path}: its parts are of different dtypes, {sorted(map(str, dtypes))}"
                )
            whole = np.empty(spec.shape, dtypes.pop())
            for here, there in pieces[path]:
                there.put(whole, here.of(np.asarray(leaves[here.leaf])))
            moved[path] = whole
        return moved

    def rows(self) -> list[dict[str, Any]]:
        """One row for each pair of leaves: paths, shapes, what becomes of one in the other."""
        by_leaves: dict[tuple[str, str], list[Entry]] = collections.defaultdict(list)
        for entry in self.entries:
            by_leaves[entry.linen.leaf, entry.nnx.leaf].append(entry)
        return [
            {
                "linen": linen,
                "nnx": nnx,
                "linen_shape": list(self.linen[linen].shape),
                "nnx_shape": list(self.nnx[nnx].shape),
                "transform": transform(entries),
                "by": ", ".join(sorted({entry.by for entry in entries})),
            }
            for (linen, nnx), entries in by_leaves.items()
        ]

    def save(self, path: str) -> None:
        """Writes the map as JSON that a person can read."""
        document = {
            "schema_version": SCHEMA_VERSION,
            "entries": [
                {"linen": str(entry.linen), "nnx": str(entry.nnx), "by": entry.by}
                for entry in self.entries
            ],
            **{
                side: {
                    path: {"shape": list(spec.shape), "dtype": str(spec.dtype)}
                    for path, spec in getattr(self, side).items()
                }
                for side in ("linen", "nnx")
            },
            "nnx_places": self.places,
            "linen_places": self.linen_places,
        }
        with open(path, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)

    @classmethod
    def load(cls, path: str) -> "WeightMap":
        """The map in a file that `save` wrote.

        Raises:
          InputError: it is not one-to-one, or a newer version of this tool wrote it.
          CorruptFileError: it is no such file.
        """
        try:
            with open(path, encoding="utf-8") as file:
                document = json.load(file)
            if document["schema_version"] != SCHEMA_VERSION:
                raise InputError(
                    f"{path}: a weight map of schema {str(document['schema_version'])[:20]}, this "
                    f"tool reads schema {SCHEMA_VERSION}; save it again"
                )
            entries = tuple(
                Entry(View.parse(row["linen"]), View.parse(row["nnx"]), row["by"])
                for row in document["entries"]
            )
            places, linen_places = (
                {
                    path: Place(tuple(keys), tuple(inside))
                    for path, (keys, inside) in document.get(name, {}).items()
                }
                for name in ("nnx_places", "linen_places")
            )
            linen, nnx = _specs(document["linen"]), _specs(document["nnx"])
        except InputError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            what = f"it has no {error}" if isinstance(error, KeyError) else first_line(error)
            raise CorruptFileError(f"{path}: not a weight map: {what}; save it again") from error
        try:
            check_one_to_one(entries, linen, nnx)
        except ValueError as error:
            raise InputError(f"{path}: is not one-to-one: {error}; save it again") from error
        return cls(entries, linen, nnx, places, linen_places)


def _by_collection(leaves: Leaves, places: Mapping[str, Place]) -> dict[str, Any]:
    groups: dict[str, dict[str, Any]] = collections.defaultdict(dict)
    for path, leaf in leaves.items():
        groups[path.split("/")[0]][path] = leaf
    return {name: module_tree(each, places) for name, each in groups.items()}


def _specs(document: Mapping[str, Any]) -> dict[str, Any]:
    import jax

    specs = {
        path: jax.ShapeDtypeStruct(tuple(spec["shape"]), spec["dtype"])
        for path, spec in document.items()
    }
    for path, spec in specs.items():
        if not all(type(length) is int and length >= 0 for length in spec.shape):
            raise ValueError(f"{path} has the shape {str(spec.shape)[:80]}")
    return specs


def _check(expected: Leaves, received: Leaves) -> None:
    problems = [f"{path}: missing" for path in sorted(expected.keys() - received.keys())]
    problems += [f"{path}: not in the map" for path in sorted(received.keys() - expected.keys())]
    problems += [
        f"{path}: expected {tuple(expected[path].shape)}, received {tuple(received[path].shape)}"
        for path in sorted(expected.keys() & received.keys())
        if tuple(expected[path].shape) != tuple(received[path].shape)
    ]
    if problems:
        raise InputError("weights cannot be moved: " + "; ".join(problems))

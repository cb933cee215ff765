"""Orbax checkpoints: read whatever form they have, written as one flat directory.

Neither JAX nor Orbax is loaded: they alone would take most of the memory that a conversion has. The
files are those of Orbax; TensorStore reads and writes their index.
"""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from shared.checkpoint.formats.orbax_arrays import StoredArray
from shared.checkpoint.formats.orbax_headers import Header, chunks_of, header_of
from shared.checkpoint.formats.orbax_metadata import Entry, Metadata, metadata_of
from shared.checkpoint.formats.orbax_places import Place, place_of
from shared.checkpoint.formats.orbax_values import Values, values_of_database, values_of_files
from shared.checkpoint.formats.orbax_writing import write_orbax
from shared.checkpoint.naming import written
from shared.checkpoint.stored import Leaf, Leaves, Path, nothing
from shared.errors import CorruptFileError, InputError, printable

__all__ = ["OrbaxReader", "open_orbax", "write_orbax"]


# How many numbers a PRNG key of JAX's implementations is.
KEY_NUMBERS = {"threefry2x32": 2, "rbg": 4, "unsafe_rbg": 4}


def open_orbax(path: str, step: int | None = None) -> "OrbaxReader | OrbaxItems":
    """Opens what is at `path`: a checkpoint of version 0 or 1, a step of it, a folder of steps.

    A state whose params and optimizer are in items of their own is read as one tree of them.

    Args:
      path: a directory.
      step: which one of several steps.

    Raises:
      InputError: it is no checkpoint, an unfinished one, or one of several that must be chosen; or
        a leaf cannot be converted.
      CorruptFileError: it is damaged.
      FileAccessError: the system refuses to read it.
    """
    place = place_of(path, step)
    return OrbaxItems(path, place) if place.items else OrbaxReader(path, place)


class OrbaxReader:
    """A `Reader` of Orbax checkpoints. No array has been read when it is made.

    Attributes:
      location: the directory that holds the arrays.
      form: the directories from the path down to it: ("300", "state") of a step's item.
      beside: the names of what else is in the directory of a step; none elsewhere.
    """

    format, separator = "orbax", ""
    items: tuple[str, ...] = ()

    def __init__(self, path: str, located: Place):
        """Reads what the checkpoint says of itself; raises what `open_orbax` does."""
        self.path = path
        self.location, self.form, self.beside = located.directory, located.form, located.beside
        directory = os.path.abspath(located.directory)
        metadata = metadata_of(directory)
        values = _values(directory, metadata)
        leaves: dict[Path, Leaf] = {}
        self.leaves: Leaves = leaves
        self._arrays: dict[Path, StoredArray] = {}
        for leaf, entry in metadata.entries.items():
            if entry.kind == "empty":
                leaves[leaf] = nothing(entry.empty)
                continue
            where = f"{printable(path)}: leaf {printable(written(leaf))}"
            impl = metadata.key_impls.get(entry.name, "")
            header = _header(where, entry, impl, values, metadata.use_zarr3)
            if entry.write_shape is not None and entry.name not in metadata.key_impls:
                _check_no_key(where, header)
            self._arrays[leaf] = StoredArray(
                where,
                header,
                list(chunks_of(where, entry.name, header, values)),
                _spec(directory, entry.name, metadata),
            )
            kind = "key" if impl else entry.kind
            leaves[leaf] = Leaf(header.shape, header.dtype, kind, impl)

    def read(self, path: Path) -> np.ndarray:
        """The numbers of a leaf, contiguous, in the dtype and the shape that are stored.

        Raises:
          CorruptFileError: they are not what the header says.
          FileAccessError: the system refuses to read them.
        """
        return self._arrays[path].read()

    def is_in_parts(self, path: Path) -> bool:
        """Whether it is stored in C's order, as it is written by one device."""
        return self._arrays[path].is_in_order()

    def parts(self, path: Path) -> Iterator[np.ndarray]:
        """The same numbers in C's order: arrays of one axis, of 4 MiB each at most.

        No more than a part is held if it is in parts.

        Raises:
          CorruptFileError: they are not what the header says.
          FileAccessError: the system refuses to read them.
        """
        return self._arrays[path].parts()


class OrbaxItems:
    """A `Reader` of several items of a step, each below its name."""

    format, separator = "orbax", ""

    def __init__(self, path: str, located: Place):
        """Reads what the items say of themselves; raises what `open_orbax` does."""
        self.path = path
        self.location, self.form, self.beside = located.directory, located.form, located.beside
        self.items = located.items
        leaves: dict[Path, Leaf] = {}
        self.leaves: Leaves = leaves
        self._places: dict[Path, tuple[OrbaxReader, Path]] = {}
        for name in located.items:
            item = OrbaxReader(path, Place(os.path.join(located.directory, name), (), ()))
            # One array is an item of its own (`ArraySave` calls it so), or the only one in a dict.
            is_one = list(item.leaves) in ([("checkpoint",)], [(name,)])
            for leaf, found in item.leaves.items():
                whole = (name,) if is_one else (name, *leaf)
                leaves[whole], self._places[whole] = found, (item, leaf)

    def read(self, path: Path) -> np.ndarray:
        """As `OrbaxReader.read`."""
        item, leaf = self._places[path]
        return item.read(leaf)

    def is_in_parts(self, path: Path) -> bool:
        """As `OrbaxReader.is_in_parts`."""
        item, leaf = self._places[path]
        return item.is_in_parts(leaf)

    def parts(self, path: Path) -> Iterator[np.ndarray]:
        """As `OrbaxReader.parts`."""
        item, leaf = self._places[path]
        return item.parts(leaf)


def _values(directory: str, metadata: Metadata) -> Values:
    names = [each.name for each in metadata.entries.values() if each.kind != "empty"]
    # Where nothing is held, as of SGD without momentum, Orbax makes no database.
    if metadata.use_ocdbt and names:
        return values_of_database(directory)
    return values_of_files(directory, names)


def _header(leaf: str, entry: Entry, impl: str, values: Values, use_zarr3: bool) -> Header:
    """The header of a leaf's array, found to be what `_METADATA` says."""
    header = header_of(leaf, entry.name, values, 3 if use_zarr3 else 2)
    # That of what each device wrote, which may be a part.
    part = header.shape if entry.write_shape is None else entry.write_shape
    sizes = list(zip(part, header.shape, strict=False))
    if len(part) != len(header.shape) or any(not 0 < k <= n or n % k for k, n in sizes):
        raise CorruptFileError(
            f"{leaf}: its array is {header.shape}, _METADATA has {part}; copy the checkpoint again"
        )
    numbers = KEY_NUMBERS.get(impl)
    if impl and (
        header.dtype != np.uint32 or (numbers is not None and header.shape[-1:] != (numbers,))
    ):
        raise CorruptFileError(
            f"{leaf}: a PRNG key of {impl} that is {header.dtype} {header.shape}, expected uint32 "
            f"(..., {numbers or 'n'}); copy the checkpoint again"
        )
    return header


def _check_no_key(leaf: str, header: Header) -> None:
    """Stops at what may be a typed PRNG key, of which nothing is said where all arrays are listed.

    Raises:
      InputError: it has the dtype and the shape of one.
    """
    if header.dtype == np.uint32 and header.shape and header.shape[-1] in KEY_NUMBERS.values():
        raise InputError(
            f"{leaf}: may be a PRNG key or its numbers: array_metadatas, which tells and names the "
            f"implementation, does not list it; copy the checkpoint again, with that folder"
        )


def _spec(directory: str, name: str, metadata: Metadata) -> dict[str, Any]:
    """How TensorStore opens an array."""
    files = {"driver": "file", "path": os.path.join(directory, "")}
    store: dict[str, Any] = {"driver": "ocdbt", "base": files, "path": f"{name}/"}
    if not metadata.use_ocdbt:
        store = {"driver": "file", "path": os.path.join(directory, name, "")}
    return {"driver": "zarr3" if metadata.use_zarr3 else "zarr", "kvstore": store}

"""What `_METADATA` and `array_metadatas` say of the leaves of an Orbax checkpoint."""

import dataclasses
import json
import os
from typing import Any

from shared.checkpoint.formats.contents import check_number_of_leaves
from shared.checkpoint.naming import written
from shared.checkpoint.stored import Path
from shared.errors import CorruptFileError, FileAccessError, InputError, printable

KINDS = {"jax.Array": "array", "np.ndarray": "numpy", "scalar": "scalar"}
EMPTY = ("None", "Dict", "List", "Tuple", "NamedTuple")
# A leaf takes about 400 bytes of it.
LARGEST_BYTES = 2**27
# How `_METADATA` marks a key in a path.
SEQUENCE, DICT = 1, 2


@dataclasses.dataclass(frozen=True)
class Entry:
    """A leaf as `_METADATA` has it.

    Attributes:
      name: what its array is stored under.
      kind: as `Leaf` has it.
      empty: of an empty one, what is there.
      write_shape: of the part that each device wrote; None where that is not known.
    """

    name: str
    kind: str
    empty: str = ""
    write_shape: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What a directory of arrays says of itself.

    Attributes:
      entries: of all leaves.
      key_impls: {name: implementation} of arrays of JAX, "" of those that are no typed PRNG keys;
        versions that knew of none have not listed any.
      use_ocdbt: whether the arrays are in a database, not each in a directory.
      use_zarr3: whether they have the headers of Zarr's version 3, not 2.
    """

    entries: dict[Path, Entry]
    key_impls: dict[str, str]
    use_ocdbt: bool
    use_zarr3: bool


def metadata_of(directory: str) -> Metadata:
    """Reads what a directory of arrays says of itself.

    Raises:
      CorruptFileError: it is not what Orbax writes.
      InputError: a leaf is of a kind that cannot be converted.
      FileAccessError: the system refuses to read it.
    """
    file = os.path.join(directory, "_METADATA")
    found = _json(file)
    try:
        check_number_of_leaves(len(found["tree_metadata"]), printable(file))
        entries = dict(_entry(file, each) for each in found["tree_metadata"].values())
        has_database = os.path.exists(os.path.join(directory, "manifest.ocdbt"))
        metadata = Metadata(
            entries,
            _key_impls(os.path.join(directory, "array_metadatas")),
            bool(found.get("use_ocdbt", has_database)),
            bool(found.get("use_zarr3")),
        )
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise CorruptFileError(
            f"{printable(file)}: is damaged: not the tree that Orbax writes; copy the checkpoint "
            f"again"
        ) from error
    _check_names(file, metadata)
    return metadata


def _entry(file: str, found: dict[str, Any]) -> tuple[Path, Entry]:
    keys = [(str(each["key"]), int(each["key_type"])) for each in found["key_metadata"]]
    path = tuple(int(key) if of_type == SEQUENCE else key for key, of_type in keys)
    value = found["value_metadata"]
    of_type, name = value["value_type"], ".".join(key for key, _ in keys)
    if of_type in EMPTY:
        return path, Entry(name, "empty", of_type)
    if of_type not in KINDS:
        what = {"string": "a text", "placeholder": "left out"}.get(of_type, f"a {of_type}")
        raise InputError(
            f"{printable(file)}: leaf {printable(written(path))} is {printable(what)}, expected "
            f"an array, a number or nothing; save the checkpoint without it"
        )
    shape = value.get("write_shape")
    write_shape = None if shape is None else tuple(int(length) for length in shape)
    return path, Entry(name, KINDS[of_type], "", write_shape)


def _key_impls(directory: str) -> dict[str, str]:
    """{name: implementation, "" of no PRNG key}: each process has written those of its own."""
    if not os.path.isdir(directory):
        return {}
    found = {}
    for name in sorted(os.listdir(directory)):
        file = os.path.join(directory, name)
        try:
            for each in _json(file)["array_metadatas"]:
                array = each["array_metadata"]
                impl = (array.get("ext_metadata") or {}).get("random_key_impl")
                found[str(array["param_name"])] = str(impl or "")
        except (AttributeError, KeyError, TypeError) as error:
            raise CorruptFileError(
                f"{printable(file)}: is damaged: not what Orbax writes; copy the checkpoint again"
            ) from error
    return found


def _json(file: str) -> Any:
    """The content of a file that is an object in JSON."""
    try:
        found = json.loads(_text(file))
    except FileNotFoundError:
        raise CorruptFileError(
            f"{printable(file)}: is missing, and says what the arrays are; copy the checkpoint "
            f"again"
        ) from None
    except OSError as error:
        raise FileAccessError(f"{printable(file)}: cannot be read: {error.strerror}") from error
    except InputError:
        raise
    except (ValueError, RecursionError) as error:  # not of Unicode, or not JSON
        raise CorruptFileError(
            f"{printable(file)}: is damaged: not JSON; copy the checkpoint again"
        ) from error
    if not isinstance(found, dict):
        raise CorruptFileError(
            f"{printable(file)}: is damaged: {type(found).__name__}, expected an object; copy the "
            f"checkpoint again"
        )
    return found


def _text(file: str) -> bytes:
    size = os.stat(file).st_size
    if not os.path.isfile(file):  # what is a pipe would be waited for
        raise ValueError("not a file")
    if size > LARGEST_BYTES:
        raise InputError(
            f"{printable(file)}: is of {size:,} bytes, the limit is {LARGEST_BYTES:,}; it is not "
            f"what Orbax writes, do not use this checkpoint"
        )
    with open(file, "rb") as opened:
        return opened.read(size)


def _check_names(file: str, metadata: Metadata) -> None:
    """Stops where two leaves share an array, or a name leads out of the directory."""
    seen: dict[str, Path] = {}
    for path, entry in metadata.entries.items():
        leaf = f"{printable(file)}: leaf {printable(written(path))}"
        if entry.kind == "empty":
            continue
        if entry.name in seen:
            raise InputError(
                f"{leaf} is stored under the same name, {printable(entry.name)}, as "
                f"{printable(written(seen[entry.name]))}: Orbax has kept one of the two; save the "
                f"checkpoint again with other names"
            )
        seen[entry.name] = path
        if not metadata.use_ocdbt and not is_below(entry.name):
            raise InputError(
                f"{leaf} would be read from {printable(entry.name)}, outside of the checkpoint; do "
                f"not use this checkpoint"
            )


def is_below(name: str) -> bool:
    """Whether a name, taken as a path, stays in the directory that it is taken from."""
    return not name.startswith("/") and ".." not in name.split("/") and "\0" not in name

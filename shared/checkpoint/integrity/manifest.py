"""What travels with a checkpoint: what it holds, and of each leaf the SHA-256 of its bytes.

Of a directory it is the file MANIFEST.json in it, which Orbax ignores; of a file the one beside it
that is named as it, with `.manifest.json`.
"""

import dataclasses
import functools
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from shared.checkpoint.integrity.manifest_rows import leaf_of, path_of, row_of
from shared.checkpoint.publishing.siblings import beside, late_manifest
from shared.checkpoint.stored import Leaf, Path
from shared.errors import CorruptFileError, FileAccessError, InputError, first_line, printable

SCHEMA_VERSION = 1
INSIDE = "MANIFEST.json"
LAYOUTS = ("linen", "nnx")
# A leaf takes about 250 bytes, and as many more of `extra` where that has its origin.
LARGEST_BYTES = 2**28
_LONGEST_SHOWN = 200
_TOOLS = ("composed-lifts", "jax", "flax", "orbax-checkpoint", "numpy")


@functools.cache
def versions() -> Mapping[str, str]:
    """Those of this tool and of the libraries that it writes with."""
    found = {name.replace("-", "_"): metadata.version(name) for name in _TOOLS}
    return found | {"python": sys.version.split()[0]}


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What was written.

    Attributes:
      format: "orbax", "safetensors", "msgpack".
      layout: whose names the leaves have, "linen" or "nnx".
      leaves: all of them.
      sha256: of the bytes of each that is not empty, see `sha256_of`.
      written_by: {tool or library: version}.
      extra: of JSON's values; what else is known of where the checkpoint is from.
    """

    format: str
    layout: str
    leaves: Mapping[Path, Leaf]
    sha256: Mapping[Path, str]
    written_by: Mapping[str, str] = dataclasses.field(default_factory=versions)
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def save(self, checkpoint: str) -> None:
        """Writes it into a directory, or beside a file, that is there.

        Raises:
          InputError: it would be too large to be read again.
          FileAccessError: the system refuses to write, or a manifest is there.
        """
        path = path_for(checkpoint)
        text = json.dumps(_signed(self._document()), allow_nan=False) + "\n"
        if len(text) > LARGEST_BYTES:
            raise InputError(
                f"{path}: would be of {len(text):,} bytes, the limit is {LARGEST_BYTES:,}: convert "
                f"the checkpoint in parts"
            )
        try:
            os.stat(checkpoint)
            with open(path, "x", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise FileAccessError(f"{path}: cannot be written: {error.strerror}") from error

    @classmethod
    def load(cls, checkpoint: str) -> "Manifest | None":
        """That of a checkpoint; None where there is none.

        Raises:
          InputError: a newer version of this tool wrote it.
          CorruptFileError: it is damaged.
          FileAccessError: the system refuses to read it.
        """
        path = path_for(checkpoint)
        text = _text_of(path)
        if text is None and os.path.isfile(checkpoint):
            path = late_manifest(checkpoint)
            text = _text_of(path) if path else None
        if text is None:
            return None
        try:
            return cls._from(path, json.loads(text))
        except (InputError, CorruptFileError):
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _damaged(path, first_line(error)) from error

    @classmethod
    def _from(cls, path: str, document: Any) -> "Manifest":
        if not isinstance(document, dict):
            raise _damaged(path, "holds no manifest")
        schema = document.get("schema_version")
        if not isinstance(schema, int) or schema < 1:
            raise _damaged(path, f"schema_version is {str(schema)[:20]!r}")
        if schema > SCHEMA_VERSION:
            tool = printable(str(document.get("written_by"))[:_LONGEST_SHOWN])
            raise InputError(
                f"{path}: of schema {schema}, written by {tool}; this tool reads up "
                f"to schema {SCHEMA_VERSION}: install that version"
            )
        if document != _signed({key: document[key] for key in document if key != "sha256"}):
            raise _damaged(path, "has other bytes than were written")
        if document["layout"] not in LAYOUTS:
            raise _damaged(path, f"its layout is {str(document['layout'])[:20]!r}")
        for name, kind in (("format", str), ("written_by", dict), ("extra", dict)):
            if not isinstance(document[name], kind):
                raise _damaged(path, f"its {name} is a {type(document[name]).__name__}")
        rows = document["leaves"]
        paths = [path_of(row) for row in rows]
        if len(set(paths)) != len(paths):
            raise _damaged(path, "a leaf is named twice")
        return cls(
            document["format"],
            document["layout"],
            {name: leaf_of(row) for name, row in zip(paths, rows, strict=True)},
            {
                n: row["sha256"]
                for n, row in zip(paths, rows, strict=True)
                if row["kind"] != "empty"
            },
            document["written_by"],
            document["extra"],
        )

    def _document(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "written_by": dict(self.written_by),
            "format": self.format,
            "layout": self.layout,
            "leaves": [
                row_of(path, leaf, self.sha256.get(path, "")) for path, leaf in self.leaves.items()
            ],
            "extra": dict(self.extra),
        }


def path_for(checkpoint: str) -> str:
    """Where the manifest of a checkpoint is."""
    return os.path.join(checkpoint, INSIDE) if os.path.isdir(checkpoint) else beside(checkpoint)


def _text_of(path: str) -> str | None:
    try:
        if os.path.lexists(path) and not os.path.isfile(path):  # a pipe would be waited for
            raise _damaged(path, "is not a file")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > LARGEST_BYTES:
                raise InputError(
                    f"{path}: is of more than {LARGEST_BYTES:,} bytes; it is no manifest, move it"
                )
            text = file.read(size)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise FileAccessError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise _damaged(path, first_line(error)) from error


def _signed(document: Mapping[str, Any]) -> dict[str, Any]:
    """With the SHA-256 of all that is in it."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return {**document, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def _damaged(path: str, what: str) -> CorruptFileError:
    return CorruptFileError(f"{path}: the manifest is damaged: {what}; copy the checkpoint again")

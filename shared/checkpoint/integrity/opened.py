"""A checkpoint with its manifest, which knows of each leaf what the format cannot hold."""

import os

import numpy as np

from shared.checkpoint.formats.table import open_checkpoint
from shared.checkpoint.integrity.manifest import Manifest
from shared.checkpoint.integrity.verified import problems_of_header, rows_of, stop_at
from shared.checkpoint.publishing.siblings import is_sibling
from shared.checkpoint.stored import Leaves, Parts, Path, Reader
from shared.errors import InputError


class WithManifest:
    """A reader of a checkpoint as its manifest describes it, also where the format cannot."""

    def __init__(self, reader: Reader, manifest: Manifest):
        """Raises CorruptFileError where it holds other leaves than its manifest says."""
        stop_at(list(problems_of_header(manifest, reader)), reader.path)
        self.format, self.path = reader.format, reader.path
        self.location, self.form, self.beside = reader.location, reader.form, reader.beside
        self.items, self.separator = reader.items, reader.separator
        self.leaves: Leaves = manifest.leaves
        self._reader = reader
        self._paths = {row: path for path, row in rows_of(manifest, reader).items()}

    def read(self, path: Path) -> np.ndarray:
        return self._reader.read(self._paths[path])

    def is_in_parts(self, path: Path) -> bool:
        return self._reader.is_in_parts(self._paths[path])

    def parts(self, path: Path) -> Parts:
        return self._reader.parts(self._paths[path])


def open_with_manifest(
    path: str, step: int | None = None, dtype: str = ""
) -> tuple[Reader, Manifest | None]:
    """The checkpoint at `path`, and its manifest if it has one.

    Args:
      path, step, dtype: as `open_checkpoint` takes them.

    Raises:
      InputError, FileAccessError, CorruptFileError: as `open_checkpoint` and `Manifest.load`; it
        holds other leaves than its manifest says.
    """
    if is_sibling(path):
        raise InputError(
            f"{path}: unfinished checkpoint, the conversion that wrote it was stopped; convert its "
            f"source again"
        )
    reader = open_checkpoint(os.fspath(path), step, dtype)
    manifest = Manifest.load(reader.location)
    if manifest is None:
        return reader, None
    return WithManifest(reader, manifest), manifest

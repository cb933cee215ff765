"""The numbers of each leaf of a target, made of the source's one leaf at a time."""

import hashlib
import threading
from collections.abc import Mapping

import numpy as np

from shared.checkpoint.integrity.manifest import Manifest
from shared.checkpoint.naming import written
from shared.checkpoint.planning.made import Made, Plan
from shared.checkpoint.publishing.journal import Entry
from shared.checkpoint.stored import Parts, Path, Reader, Stored
from shared.errors import CorruptFileError, InputError
from shared.files.digest import bytes_of, sha256_of


class Making:
    """Reads the source, holds its bytes against its manifest, and makes leaves of it.

    Attributes:
      read_sha256: of the bytes of each leaf of the source that was read.
      made_sha256: of those of each that was made.
      not_finite: {path in the source: how many numbers of it are NaN or infinite}.
    """

    def __init__(self, plan: Plan, source: Reader, manifest: Manifest | None):
        self.plan, self.source, self.manifest = plan, source, manifest
        self.read_sha256: dict[Path, str] = {}
        self.made_sha256: dict[Path, str] = {}
        self.not_finite: dict[Path, int] = {}
        # Of several threads one alone holds a leaf that is whole in memory.
        self._whole = threading.Lock()
        # One layer after another is taken of the same stack.
        self._last: tuple[Path, np.ndarray] | None = None

    def read(self, path: Path) -> np.ndarray:
        """The numbers of a leaf of the target."""
        made = self.plan[path]
        if made.is_copy:
            origin = made.pieces[0].source
            where = f"{self.source.path}: {written(origin)}"
            array = _as(made, self._read(origin, keep=False), where)
            same = array.dtype == self.source.leaves[origin].dtype
            self.made_sha256[path] = self.read_sha256[origin] if same else sha256_of(array)
            return array
        array = np.empty(made.leaf.shape, made.leaf.dtype)
        for piece in made.pieces:
            piece.there.put(array, piece.here.of(self._read(piece.source, keep=True)))
        self.made_sha256[path] = sha256_of(array)
        return array

    def parts(self, path: Path) -> Parts:
        """The same numbers: of a leaf that is only moved, no more than a few parts are held.

        At the end of the last one it is known, as after `read`, what its bytes are. Several threads
        may read at once, if each uses up or closes what it gets.
        """
        made = self.plan[path]
        origin = made.pieces[0].source
        is_same = made.is_copy and made.leaf.dtype == self.source.leaves[origin].dtype
        if not is_same or not self.source.is_in_parts(origin):
            with self._whole:
                yield self.read(path).reshape(-1)
            return
        digest, not_finite = hashlib.sha256(), 0
        for part in self.source.parts(origin):
            digest.update(bytes_of(part))
            not_finite += _not_finite(part)
            yield part
        self._check(origin, digest.hexdigest(), not_finite)
        self.made_sha256[path] = self.read_sha256[origin]

    def entry_of(self, path: Path, values: Stored) -> Entry:
        """What is known of a leaf that was made, and is stored as `values`."""
        sources = dict.fromkeys(piece.source for piece in self.plan[path].pieces)
        return Entry(
            values,
            self.made_sha256[path],
            {each: self.read_sha256[each] for each in sources},
            {each: self.not_finite[each] for each in sources if each in self.not_finite},
        )

    def recall(self, entries: Mapping[Path, Entry]) -> None:
        """Takes what another process knew of leaves that it has made."""
        for path, entry in entries.items():
            self.made_sha256[path] = entry.made
            self.read_sha256 |= entry.read
            self.not_finite |= entry.not_finite

    def _read(self, path: Path, keep: bool) -> np.ndarray:
        if self._last is not None and self._last[0] == path:
            return self._last[1]
        self._last = None  # its memory is needed
        array = self.source.read(path)
        if path not in self.read_sha256:
            self._check(path, sha256_of(array), _not_finite(array))
        if keep:
            self._last = (path, array)
        return array

    def _check(self, path: Path, found: str, not_finite: int) -> None:
        if self.manifest is not None and found != self.manifest.sha256[path]:
            raise CorruptFileError(
                f"{self.source.path} is damaged: {written(path)} has other bytes than its manifest "
                f"says were written; take another copy of the checkpoint"
            )
        self.read_sha256[path] = found
        if not_finite:
            self.not_finite[path] = not_finite


def _as(made: Made, array: np.ndarray, name: str) -> np.ndarray:
    """A whole number as the other API counts; every other array as it is.

    Raises:
      InputError: it cannot be held.
    """
    if array.dtype == made.leaf.dtype:
        return array
    cast = array.astype(made.leaf.dtype)
    if not np.array_equal(cast.astype(object), array.astype(object)):
        raise InputError(f"{name} is {array}, which {made.leaf.dtype} cannot hold; mend it")
    return cast


def _not_finite(array: np.ndarray) -> int:
    """How many numbers are NaN or infinite. A part at a time: what it takes is of one part."""
    if array.dtype.kind in "iub":
        return 0
    flat, part = array.reshape(-1), 2**20
    try:
        with np.errstate(invalid="ignore"):  # as a NaN that signals is
            return sum(
                int(np.count_nonzero(_is_not_finite(flat[i : i + part])))
                for i in range(0, flat.size, part)
            )
    except TypeError:  # a dtype of ml_dtypes that has neither
        return 0


def _is_not_finite(array: np.ndarray) -> np.ndarray:
    if array.dtype.name == "bfloat16":
        # Eight times as fast as its own: of what is not finite the exponent is all ones.
        return (array.view(np.uint16) & 0x7F80) == 0x7F80
    return ~np.isfinite(array)

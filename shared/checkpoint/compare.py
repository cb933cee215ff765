"""Two checkpoints, leaf by leaf and bit by bit, in whatever layout and format each is."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from shared.checkpoint.common import MODEL, Common, common_form
from shared.checkpoint.layers import KEEP, Layout
from shared.checkpoint.manifest import Manifest
from shared.checkpoint.naming import written
from shared.checkpoint.opened import open_with_manifest
from shared.checkpoint.recognised import roles_of
from shared.checkpoint.roles import LINEN, Roles
from shared.checkpoint.stored import Leaf, Path, Reader
from shared.errors import InputError
from shared.weights.weight_map import WeightMap

Progress = Callable[[int, int, str], object]
# A part of a leaf at a time: what a comparison takes beyond the two leaves is of one part.
_PART = 2**20


@dataclasses.dataclass(frozen=True)
class Row:
    """One leaf of both checkpoints, or of one.

    Attributes:
      path: in the common form.
      first, second: in each checkpoint, "" where it is not there.
      status: "equal", "close", "different", "shape", "dtype", "only in 1", "only in 2".
      what: how it differs, in words.
      max_abs: the largest difference of a number, None where none can be said.
    """

    path: Path
    first: str
    second: str
    status: str
    what: str = ""
    max_abs: float | None = None


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What two checkpoints have in common.

    Attributes:
      sides: both.
      layouts: how the layers of each were laid out to be compared.
      rows: one for each leaf.
      has_manifest: of each, whether its bytes were held against a manifest.
      tolerance: of numbers, None for the same bits.
    """

    sides: tuple[Common, Common]
    layouts: tuple[Layout, Layout]
    rows: tuple[Row, ...]
    has_manifest: tuple[bool, bool]
    tolerance: "Tolerance | None" = None

    @property
    def is_equal(self) -> bool:
        """Whether all leaves are equal, or close where that was asked for."""
        return all(row.status in ("equal", "close") for row in self.rows)


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """How far numbers may be apart: as in `numpy.isclose`; 0 and 0 for the same bits."""

    atol: float = 0.0
    rtol: float = 0.0


def compare(
    paths: tuple[str, str],
    weights: WeightMap | None = None,
    tolerance: Tolerance | None = None,
    steps: tuple[int | None, int | None] = (None, None),
    progress: Progress = lambda done, total, what: None,
) -> Comparison:
    """Compares all leaves of two checkpoints.

    Args:
      paths: of both.
      weights: which variable of Linen is which of NNX; None to match them by name.
      tolerance: of numbers; None for the same bits.
      steps: which of each, where a folder holds several.
      progress: is told of each leaf.

    Raises:
      InputError: one is no checkpoint, or what its leaves are cannot be told.
      CorruptFileError: one is damaged, or has other bytes than its manifest says.
      FileAccessError: one cannot be read.
    """
    opened = [open_with_manifest(path, step) for path, step in zip(paths, steps, strict=True)]
    (one, first_manifest), (two, second_manifest) = opened
    roles = (_roles(one, first_manifest, weights), _roles(two, second_manifest, weights))
    first, second, layouts = _alike((one, two), roles, weights)
    rows = _Rows(first, second, (first_manifest, second_manifest), tolerance, progress)
    return Comparison(
        (first, second),
        layouts,
        tuple(rows.all()),
        (first_manifest is not None, second_manifest is not None),
        tolerance,
    )


def _roles(reader: Reader, manifest: Manifest | None, weights: WeightMap | None) -> Roles:
    # Params alone may be of either: they are compared by the same names.
    api = manifest.layout if manifest else None
    return roles_of(reader.leaves, reader.path, api, weights, LINEN)


def _alike(
    readers: tuple[Reader, Reader], roles: tuple[Roles, Roles], weights: WeightMap | None
) -> tuple[Common, Common, tuple[Layout, Layout]]:
    """Both in the common form, layers stacked in one if they are in the other."""
    kept = [common_form(reader, role, weights) for reader, role in zip(readers, roles, strict=True)]
    if weights is None and _model(kept[0]) != _model(kept[1]):
        for axis in (0, 1, -1):
            for i in (0, 1):
                layout = Layout("stacked", axis)
                try:
                    stacked = common_form(readers[i], roles[i], None, layout)
                except InputError:  # these are no layers that can be stacked so
                    continue
                if _model(stacked) == _model(kept[1 - i]):
                    both = [kept[0], kept[1]]
                    both[i] = stacked
                    layouts = (layout, KEEP) if i == 0 else (KEEP, layout)
                    return both[0], both[1], layouts
    return kept[0], kept[1], (KEEP, KEEP)


def _model(common: Common) -> dict[Path, tuple[int, ...]]:
    """The shapes of variables."""
    return {path: made.leaf.shape for path, made in common.plan.items() if path[0] == MODEL}


class _Rows:
    """The comparison of each leaf; at most one of each side is in memory."""

    def __init__(
        self,
        first: Common,
        second: Common,
        manifests: tuple[Manifest | None, Manifest | None],
        tolerance: Tolerance | None,
        progress: Progress,
    ):
        self.first, self.second, self.tolerance = first, second, tolerance
        self.makings = first.making(manifests[0]), second.making(manifests[1])
        self.progress = progress

    def all(self) -> Iterator[Row]:
        """One row for each leaf, those of the first checkpoint before those of the second alone."""
        total = sum(made.leaf.nbytes for made in self.first.plan.values())
        done = 0
        for path, made in self.first.plan.items():
            self.progress(done, total, written(path))
            done += made.leaf.nbytes
            if path in self.second.plan:
                yield self._row(path)
            else:
                self.makings[0].read(path)  # its bytes are held against the manifest
                yield Row(path, self._origin(0, path), "", "only in 1", _shown(made.leaf))
        for path in self.second.plan.keys() - self.first.plan.keys():
            self.makings[1].read(path)
            leaf = self.second.plan[path].leaf
            yield Row(path, "", self._origin(1, path), "only in 2", _shown(leaf))

    def _origin(self, side: int, path: Path) -> str:
        common = (self.first, self.second)[side]
        pieces = common.plan[path].pieces
        more = ", ..." if len({piece.source for piece in pieces}) > 1 else ""
        return written(pieces[0].source) + more

    def _row(self, path: Path) -> Row:
        names = self._origin(0, path), self._origin(1, path)
        one, two = self.first.plan[path].leaf, self.second.plan[path].leaf
        arrays = [making.read(path) for making in self.makings]
        if one.shape != two.shape:
            return Row(path, *names, "shape", f"{one.shape} and {two.shape}")
        if one.dtype != two.dtype:
            return Row(path, *names, "dtype", f"{one.dtype} and {two.dtype}")
        if one.key_impl and two.key_impl and one.key_impl != two.key_impl:
            return Row(path, *names, "different", f"keys of {one.key_impl} and {two.key_impl}")
        digests = [making.made_sha256[path] for making in self.makings]
        if digests[0] == digests[1]:
            return Row(path, *names, "equal")
        return self._apart(path, names, arrays)

    def _apart(self, path: Path, names: tuple[str, str], arrays: list[np.ndarray]) -> Row:
        count, largest, where, is_close = 0, 0.0, 0, self.tolerance is not None
        flat = [array.reshape(-1) for array in arrays]
        for start in range(0, flat[0].size, _PART):
            one, two = (array[start : start + _PART] for array in flat)
            others = (_bytes(one) != _bytes(two)).any(axis=1)
            if not others.any():
                continue
            count += int(others.sum())
            wide = [part[others].astype(_wide(part.dtype)) for part in (one, two)]
            with np.errstate(all="ignore"):
                distance = np.abs(wide[0] - wide[1])
            distance = np.where(np.isnan(distance), np.inf, distance)
            if distance.max() > largest or not largest:
                largest = float(distance.max())
                where = start + int(np.flatnonzero(others)[int(distance.argmax())])
            if self.tolerance is not None:
                atol, rtol = self.tolerance.atol, self.tolerance.rtol
                is_close &= np.allclose(wide[0], wide[1], rtol, atol, equal_nan=True)
        index = tuple(map(int, np.unravel_index(where, arrays[0].shape)))
        values = [array[index] for array in arrays]
        what = f"{count} of {flat[0].size} numbers, at {list(index)} {values[0]} and {values[1]}"
        return Row(path, *names, "close" if is_close else "different", what, largest)


def _bytes(array: np.ndarray) -> np.ndarray:
    """(N, bytes of a number): NaN is itself there, and -0 is not 0."""
    return array.view(np.uint8).reshape(-1, array.dtype.itemsize)


def _wide(dtype: np.dtype) -> type:
    return np.complex128 if dtype.kind == "c" else np.float64


def _shown(leaf: Leaf) -> str:
    return f"{leaf.shape} {leaf.dtype}"

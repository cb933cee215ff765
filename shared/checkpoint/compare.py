"""Two checkpoints, leaf by leaf and bit by bit, in whatever layout and format each is."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from shared.checkpoint.comparison import Comparison, Row, Tolerance
from shared.checkpoint.integrity.manifest import Manifest
from shared.checkpoint.integrity.opened import open_with_manifest
from shared.checkpoint.naming import written
from shared.checkpoint.planning.common import MODEL, Common, as_it_is, as_it_was, common_form
from shared.checkpoint.planning.origin import model_at
from shared.checkpoint.stored import Leaf, Path, Reader
from shared.checkpoint.tree.layers import KEEP, Layout
from shared.checkpoint.tree.recognised import roles_of
from shared.checkpoint.tree.roles import LINEN, Roles
from shared.errors import InputError
from shared.weights.weight_map import WeightMap

Progress = Callable[[int, int, str], object]
# A part of a leaf at a time: what a comparison takes beyond the two leaves is of one part.
_PART = 2**20


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
    sides = [_Side.of(path, step, weights) for path, step in zip(paths, steps, strict=True)]
    first, second, layouts = _alike(sides, weights)
    manifests = (sides[0].manifest, sides[1].manifest)
    rows = _Rows(first, second, manifests, tolerance, progress)
    has_manifest = (manifests[0] is not None, manifests[1] is not None)
    apis = (sides[0].roles.api, sides[1].roles.api)
    return Comparison((first, second), apis, layouts, tuple(rows.all()), has_manifest, tolerance)


@dataclasses.dataclass(frozen=True)
class _Side:
    """A checkpoint, opened."""

    reader: Reader
    manifest: Manifest | None
    roles: Roles

    @classmethod
    def of(cls, path: str, step: int | None, weights: WeightMap | None) -> "_Side":
        reader, manifest = open_with_manifest(path, step)
        # Params alone may be of either: they are compared by the same names.
        api = manifest.layout if manifest else None
        at = model_at(manifest) if weights is None else None
        return cls(reader, manifest, roles_of(reader.leaves, path, api, weights, LINEN, at))


_Both = tuple[Common, Common, tuple[Layout, Layout]]


def _alike(sides: Sequence[_Side], weights: WeightMap | None) -> _Both:
    """Both in one form, in which the same leaf has the same path.

    It is that of their own paths where both have the same; else that of the one which the other was
    converted from; else the common form, layers stacked in one if they are in the other.
    """
    own = [as_it_is(side.reader) for side in sides]
    if own[0].plan.keys() == own[1].plan.keys():
        return own[0], own[1], (KEEP, KEEP)
    if weights is None:
        for i in (0, 1):
            origin = as_it_was(sides[i].reader, sides[i].manifest, sides[1 - i].roles.api)
            if origin is not None and origin.plan.keys() == own[1 - i].plan.keys():
                both = (origin, own[1]) if i == 0 else (own[0], origin)
                return *both, (KEEP, KEEP)
    kept = [common_form(side.reader, side.roles, weights) for side in sides]
    if weights is None and _model(kept[0]) != _model(kept[1]):
        return _stacked_alike(sides, kept) or (kept[0], kept[1], (KEEP, KEEP))
    return kept[0], kept[1], (KEEP, KEEP)


def _stacked_alike(sides: Sequence[_Side], kept: list[Common]) -> _Both | None:
    """Both in the common form, the layers of one stacked; None where that makes no model equal."""
    for axis, i in itertools.product((0, 1, -1), (0, 1)):
        layout = Layout("stacked", axis)
        try:
            stacked = common_form(sides[i].reader, sides[i].roles, None, layout)
        except InputError:  # these are no layers that can be stacked so
            continue
        if _model(stacked) == _model(kept[1 - i]):
            if i == 0:
                return stacked, kept[1], (layout, KEEP)
            return kept[0], stacked, (KEEP, layout)
    return None


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
            with np.errstate(all="ignore"):
                wide = [part[others].astype(_wide(part.dtype)) for part in (one, two)]
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
        what = (
            f"{count} of {flat[0].size} numbers, at {list(index)} {values[0]!s} and {values[1]!s}"
        )
        return Row(path, *names, "close" if is_close else "different", what, largest)


def _bytes(array: np.ndarray) -> np.ndarray:
    """(N, bytes of a number): NaN is itself there, and -0 is not 0."""
    return array.view(np.uint8).reshape(-1, array.dtype.itemsize)


def _wide(dtype: np.dtype) -> type:
    return np.complex128 if dtype.kind == "c" else np.float64


def _shown(leaf: Leaf) -> str:
    return f"{leaf.shape} {leaf.dtype}"

"""A checkpoint of one API as one of the other: whole, read back and compared, or not at all."""

import contextlib
import dataclasses
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from shared.checkpoint.formats.table import IN_PARTS, WRITERS, check_can_hold, open_checkpoint
from shared.checkpoint.integrity.manifest import Manifest
from shared.checkpoint.integrity.opened import open_with_manifest
from shared.checkpoint.integrity.verified import (
    problem_of_parts,
    problems_of_header,
    rows_of,
    stop_at,
)
from shared.checkpoint.naming import written
from shared.checkpoint.notes import notes_on
from shared.checkpoint.options import DEFAULT, DIRECTIONS, Options
from shared.checkpoint.planning.adjusted import renamed, without_extra
from shared.checkpoint.planning.axis_names import axis_names_of
from shared.checkpoint.planning.made import Plan
from shared.checkpoint.planning.making import Making
from shared.checkpoint.planning.origin import are_alike, check_back, origin_of, way_back
from shared.checkpoint.planning.plan import plan_of
from shared.checkpoint.planning.rules import map_by_rule
from shared.checkpoint.publishing.beside import carry, form_of
from shared.checkpoint.publishing.file_system import check_room
from shared.checkpoint.publishing.publish import publishing
from shared.checkpoint.stored import Leaves, Parts, Path, Reader
from shared.checkpoint.tree.layers import KEEP
from shared.checkpoint.tree.recognised import likely_api, roles_of
from shared.checkpoint.tree.roles import LINEN, NNX, Roles
from shared.errors import CorruptFileError, InputError, naming

# How many leaves are read back at once where no more than a part of each is held.
READING_BACK = min(4, os.cpu_count() or 1)
# How many bytes are done of how many, and which leaf is next.
Progress = Callable[[int, int, str], object]
# How it is known what becomes of which leaf.
MANIFEST, RULE, WEIGHT_MAP = "manifest", "rule", "weight map"


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What is converted, or was.

    Attributes:
      source: the checkpoint that is read.
      roles: of its leaves.
      plan: what is made.
      by: how it is known what becomes of which leaf: `MANIFEST`, `RULE` or `WEIGHT_MAP`.
      manifest: that came with the source.
      target: where the leaves are, "" before they are written.
      sha256: of the bytes of each that was written.
      not_finite: {path in the source: how many numbers of it are NaN or infinite}.
      axis_names: {path in the target: the name of each axis}, where they are known.
    """

    source: Reader
    roles: Roles
    plan: Plan
    by: str
    manifest: Manifest | None
    target: str = ""
    sha256: Mapping[Path, str] = dataclasses.field(default_factory=dict)
    not_finite: Mapping[Path, int] = dataclasses.field(default_factory=dict)
    axis_names: Mapping[str, list] = dataclasses.field(default_factory=dict)

    @property
    def to(self) -> str:
        """The API of what is made."""
        return NNX if self.roles.api == LINEN else LINEN

    @property
    def leaves(self) -> Leaves:
        """Those of what is made."""
        return {path: made.leaf for path, made in self.plan.items()}

    @property
    def nbytes(self) -> int:
        """How many bytes of numbers are written."""
        return sum(leaf.nbytes for leaf in self.leaves.values())


def planned(source_path: str, options: Options) -> Conversion:
    """What would be made of a checkpoint; nothing is written.

    Raises:
      InputError: there is none, or it cannot be told what is to become of it.
      CorruptFileError: it is damaged.
      FileAccessError: it cannot be read.
    """
    source, manifest = open_with_manifest(source_path, options.step, options.dtype)
    api = DIRECTIONS.get(options.direction) or (manifest.layout if manifest else None)
    with naming(os.fspath(source_path)):
        roles = roles_of(source.leaves, source_path, api, options.weights, likely_api(source))
        given = (source, roles, manifest, options)
        conversion = _one_of(_back(*given), *given)
        check_can_hold(options.format, conversion.leaves)
    names = options.axis_names.get(conversion.to)
    if not names or options.weights is None:
        return conversion
    found = axis_names_of(conversion.leaves, conversion.to, names, options.weights)
    return dataclasses.replace(conversion, axis_names=found)


def _back(
    source: Reader, roles: Roles, manifest: Manifest | None, options: Options
) -> Conversion | None:
    """Back to what a manifest says the source was made of; None where it says nothing of that."""
    if manifest is None or options.layout != KEEP or options.rename:
        return None
    plan = way_back(manifest, NNX if roles.api == LINEN else LINEN, source.location)
    return None if plan is None else Conversion(source, roles, plan, MANIFEST, manifest)


def _one_of(
    back: Conversion | None,
    source: Reader,
    roles: Roles,
    manifest: Manifest | None,
    options: Options,
) -> Conversion:
    """The way back, if there is one and a map that is given leads to the same variables."""
    if back is not None and options.weights is None:
        return back
    anew = _anew(source, roles, manifest, options)
    if back is not None and are_alike(back.plan, anew.plan, back.to, options.weights):
        return back
    return anew


def _anew(source: Reader, roles: Roles, manifest: Manifest | None, options: Options) -> Conversion:
    """By the weight map that is given, or by rule."""
    weights = options.weights
    roles = renamed(roles, options.rename)
    if weights is None:
        weights = map_by_rule(roles, source.leaves, options.layout, source.path)
    elif options.allow_extra:
        roles = without_extra(roles, weights)
    wrapper = "value" if options.format == "orbax" else ""
    plan = plan_of(roles, source.leaves, weights, wrapper, source.path, options.opt_state)
    by = RULE if options.weights is None else WEIGHT_MAP
    return Conversion(source, roles, plan, by, manifest)


def convert(
    source_path: str | os.PathLike[str],
    target_path: str | os.PathLike[str],
    options: Options = DEFAULT,
    told: Callable[[str], object] = lambda message: None,
    progress: Progress = lambda done, total, what: None,
    carried: Callable[[str, bytes, "Conversion"], bytes] = lambda name, data, conversion: data,
) -> Conversion:
    """Makes a checkpoint of the other API at a path where nothing is.

    What is written is read back, and each leaf compared with what was made, before it gets its
    name. The source is not changed.

    Args:
      source_path: a checkpoint, or a folder of several steps.
      target_path: of the form that the source has: where that is a folder of steps, so is this.
      options: what is to be made.
      told: is called with what a user is to know.
      progress: is told of each leaf as it is written, and as it is read back.
      carried: makes what stands beside the arrays of a step, as the JSON of a run, be that of the
        target; it is called with its name, its bytes and the conversion.

    Raises:
      InputError: the source is no checkpoint, or it cannot be told what is to become of it.
      UsageError: source and target are one.
      CorruptFileError: the source is damaged, or what was written is not what is read back.
      FileAccessError: the system refuses, or another process writes the target.
    """
    source_path, target_path = os.fspath(source_path), os.fspath(target_path)
    conversion = planned(source_path, options)
    form = form_of(conversion.source) if options.format == "orbax" else ()
    with publishing(target_path, source_path, _check_replaced(options), told) as new:
        check_room(target_path, conversion.nbytes)
        location = os.path.join(new.path, *form)
        os.makedirs(os.path.dirname(location), exist_ok=True)
        conversion = _written(conversion, location, options.format, progress)
        if form:
            carry(conversion, new.path, carried)
    for note in notes_on(conversion, target_path, options):
        told(note)
    return dataclasses.replace(conversion, target=os.path.join(target_path, *form))


def _written(conversion: Conversion, location: str, kind: str, progress: Progress) -> Conversion:
    """Writes the leaves, reads them back, and writes their manifest."""
    making = Making(conversion.plan, conversion.source, conversion.manifest)
    total, done, one_by_one = 2 * conversion.nbytes, 0, threading.Lock()

    def read(path: Path) -> np.ndarray | Parts:
        nonlocal done
        with one_by_one:
            progress(done, total, written(path))
            done += conversion.plan[path].leaf.nbytes
        return making.parts(path) if kind in IN_PARTS else making.read(path)

    WRITERS[kind](location, conversion.leaves, read)
    if conversion.by == MANIFEST and conversion.manifest is not None:
        check_back(conversion.manifest, making.made_sha256, conversion.source.location)
    origin = origin_of(
        conversion.plan, conversion.source.leaves, making.read_sha256, conversion.roles.api
    )
    extra = {"origin": origin}
    if conversion.axis_names:
        extra["axis_names"] = dict(conversion.axis_names)
    manifest = Manifest(kind, conversion.to, conversion.leaves, making.made_sha256, extra=extra)
    with _reading_back(conversion):
        _check_read_back(manifest, location, lambda n, what: progress(done + n, total, what))
    manifest.save(location)
    return dataclasses.replace(conversion, sha256=making.made_sha256, not_finite=making.not_finite)


@contextlib.contextmanager
def _reading_back(conversion: Conversion) -> Iterator[None]:
    try:
        yield
    except (CorruptFileError, InputError) as error:
        raise CorruptFileError(
            f"what was made of {conversion.source.path} reads back otherwise than it was written, "
            f"and is not kept: {error}; check the disk of the target"
        ) from error


def _check_read_back(
    manifest: Manifest, location: str, progress: Callable[[int, str], object]
) -> None:
    reader = open_checkpoint(location)
    stop_at(list(problems_of_header(manifest, reader)), reader.path)
    rows = rows_of(manifest, reader)
    full = {path: row for path, row in rows.items() if manifest.leaves[row].kind != "empty"}
    done = 0
    with ThreadPoolExecutor(READING_BACK if reader.format in IN_PARTS else 1) as threads:
        try:
            problems = threads.map(
                lambda path: problem_of_parts(manifest, full[path], reader.parts(path)), full
            )
            for row, problem in zip(full.values(), problems, strict=True):
                progress(done, written(row))
                done += manifest.leaves[row].nbytes
                stop_at([problem] if problem else [], reader.path)
        finally:
            threads.shutdown(cancel_futures=True)


def _check_replaced(options: Options) -> Callable[[str], object] | None:
    """What --overwrite replaces: what can be opened as a checkpoint."""
    return open_checkpoint if options.overwrite else None

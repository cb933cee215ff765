"""A checkpoint of one API as one of the other: whole, read back and compared, or not at all."""

import dataclasses
import os
import threading
from collections.abc import Callable

import numpy as np

from shared.checkpoint.conversion import MANIFEST, RULE, WEIGHT_MAP, Conversion
from shared.checkpoint.formats.table import (
    IN_PARTS,
    WRITERS,
    check_can_hold,
    open_checkpoint,
    write_orbax,
    write_safetensors,
)
from shared.checkpoint.integrity.manifest import Manifest, versions
from shared.checkpoint.integrity.opened import open_with_manifest
from shared.checkpoint.integrity.read_back import read_back
from shared.checkpoint.naming import written
from shared.checkpoint.notes import notes_on
from shared.checkpoint.options import DEFAULT, DIRECTIONS, Options
from shared.checkpoint.planning.adjusted import renamed, without_extra
from shared.checkpoint.planning.axis_names import axis_names_of
from shared.checkpoint.planning.making import Making
from shared.checkpoint.planning.origin import (
    are_alike,
    check_back,
    model_at,
    origin_of,
    way_back,
)
from shared.checkpoint.planning.plan import plan_of
from shared.checkpoint.planning.rules import map_by_rule
from shared.checkpoint.publishing.beside import carry, check_no_steps, form_of
from shared.checkpoint.publishing.file_system import check_room
from shared.checkpoint.publishing.journal import Journal, identity_of
from shared.checkpoint.publishing.publish import publishing
from shared.checkpoint.stored import Parts, Path, Reader, Stored
from shared.checkpoint.tree.layers import KEEP
from shared.checkpoint.tree.recognised import likely_api, roles_of
from shared.checkpoint.tree.roles import LINEN, NNX, Roles
from shared.errors import naming

# How many bytes are done of how many, and which leaf is next.
Progress = Callable[[int, int, str], object]


# The bytes in the target of a file beside the arrays, of its name and of those in the source.
Carried = Callable[[str, bytes, Conversion], bytes]


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
        at = model_at(manifest) if options.weights is None else None
        likely = likely_api(source)
        roles = roles_of(source.leaves, source_path, api, options.weights, likely, at)
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
    carried: Carried = lambda name, data, conversion: data,
) -> Conversion:
    """Makes a checkpoint of the other API at a path where nothing is.

    What is written is read back, and each leaf compared with what was made, before it gets its
    name. The source is not changed. What a conversion that was killed has brought to the disk is
    gone on with, if source, plan and versions are the same.

    Args:
      source_path: a checkpoint, or a folder of several steps.
      target_path: of the form that the source has: where that is a folder of steps, so is this.
      options: what is to be made.
      told: is called with each note, as soon as it is known.
      progress: is told of each leaf as it is written, and as it is read back, by one thread at a
        time.
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
    what = repr((dict(versions()), options.format, conversion.plan))
    identity = identity_of(conversion.source.location, what)
    if form and not options.overwrite:
        check_no_steps(conversion.source, target_path)

    notes: list[str] = []

    def note(message: str) -> None:
        notes.append(message)
        told(message)

    def journal_of(new: str) -> Journal:
        return Journal(new, os.path.join(new, *form), identity)

    with publishing(
        target_path,
        source_path,
        _check_replaced(options),
        note,
        lambda left: options.format in IN_PARTS and bool(journal_of(left).entries),
    ) as new:
        location, journal = os.path.join(new.path, *form), journal_of(new.path)
        there = conversion.nbytes_of(journal.entries)
        if there:
            note(f"{there:,} of {conversion.nbytes:,} bytes are on the disk already")
        check_room(target_path, conversion.nbytes - there)
        os.makedirs(os.path.dirname(location), exist_ok=True)
        conversion = _written(conversion, location, options.format, journal, progress)
        if form:
            carry(conversion, new.path, carried)
    for message in notes_on(conversion, target_path, options):
        note(message)
    target = os.path.join(target_path, *form)
    return dataclasses.replace(conversion, target=target, notes=tuple(notes))


def _written(
    conversion: Conversion, location: str, kind: str, journal: Journal, progress: Progress
) -> Conversion:
    """Writes the leaves, reads them back, and writes their manifest."""
    making = Making(conversion.plan, conversion.source, conversion.manifest)
    if journal.entries:
        journal.clear()
        making.recall(journal.entries)
    total, one_by_one = 2 * conversion.nbytes, threading.Lock()
    done = conversion.nbytes_of(journal.entries)

    def read(path: Path) -> np.ndarray | Parts:
        nonlocal done
        with one_by_one:
            progress(done, total, written(path))
            done += conversion.plan[path].leaf.nbytes
        return making.parts(path) if kind in IN_PARTS else making.read(path)

    def on_disk(path: Path, values: Stored) -> None:
        journal.add(path, making.entry_of(path, values))

    if kind in IN_PARTS:
        there = {path: entry.values for path, entry in journal.entries.items()}
        write_orbax(location, conversion.leaves, read, there, on_disk)
    elif kind == "safetensors":
        write_safetensors(location, conversion.leaves, read, conversion.source.separator)
    else:
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
    read_back(manifest, location, conversion.source.path, lambda n, w: progress(done + n, total, w))
    manifest.save(location)
    return dataclasses.replace(conversion, sha256=making.made_sha256, not_finite=making.not_finite)


def _check_replaced(options: Options) -> Callable[[str], object] | None:
    """What --overwrite replaces: what can be opened as a checkpoint."""
    return open_checkpoint if options.overwrite else None

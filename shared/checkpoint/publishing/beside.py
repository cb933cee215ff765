"""What stands beside the arrays of a step, and beside the step: JSON, other items, other steps."""

import json
import os
import shlex
from collections.abc import Callable, Iterator

from shared.checkpoint.conversion import Conversion
from shared.checkpoint.formats.orbax_places import OF_STEP, STATE, STEP, is_step
from shared.checkpoint.stored import Reader
from shared.errors import FileAccessError, InputError

# What the second interface of Orbax marks its checkpoints with; the first one is written.
_V1 = "orbax.checkpoint"
# Beside arrays there are documents; a larger file is none.
LARGEST_BYTES = 2**28
# What a `CheckpointManager` says of its run, beside the steps.
_OF_RUN = os.path.join("metadata", "_ROOT_METADATA")


def form_of(source: Reader) -> tuple[str, ...]:
    """The directories from the path of a target down to its arrays."""
    return source.form[:-1] if _V1 in source.beside else source.form


def check_no_steps(source: Reader, target: str) -> None:
    """Stops where the target is a folder of steps, and the step that is made is none of them.

    Raises:
      FileAccessError: it says how the step gets there.
    """
    step = _step_of(source)
    is_read = os.path.isdir(target) and os.access(target, os.R_OK)
    if not step or not is_read or step in (names := os.listdir(target)):
        return
    if any(STEP.match(name) and is_step(os.path.join(target, name)) for name in names):
        own, new = os.path.join(source.path, step), os.path.join(target, step)
        raise FileAccessError(
            f"{target}: is there already, with other steps; {step} gets beside them without "
            f"--step, by {shlex.quote(f'--source_path={own}')} "
            f"{shlex.quote(f'--target_path={new}')}"
        )


def carry(
    conversion: Conversion,
    target: str,
    rewritten: Callable[[str, bytes, Conversion], bytes],
) -> None:
    """Writes what is beside the arrays of the source beside those of the target.

    Args:
      conversion: that is being written.
      target: the directory that is to be the target.
      rewritten: gives the bytes of a file in the target, by its name below the step.

    Raises:
      InputError: there is a link, or a file that is too large.
      FileAccessError: the system refuses.
    """
    source = conversion.source
    if _V1 in source.beside:
        return
    here, there = (os.path.join(root, *source.form[:-1]) for root in (source.path, target))
    for name in _files(here, source.beside):
        data = rewritten(name, _bytes_of(os.path.join(here, name)), conversion)
        if name == OF_STEP and source.items:
            data = _of_one_item(data, source.items)
        _write(os.path.join(there, name), data)
    if _step_of(source) and os.path.lexists(os.path.join(source.path, _OF_RUN)):
        for name in _files(source.path, (os.path.dirname(_OF_RUN),)):
            _write(os.path.join(target, name), _bytes_of(os.path.join(source.path, name)))


def _step_of(source: Reader) -> str:
    """The name of the directory of the step that was chosen; "" where there are no steps."""
    of_items = len(source.form) == 1 and bool(source.beside)
    name = source.form[0] if source.form and not of_items else ""
    return name if STEP.match(name) else ""


def _bytes_of(path: str) -> bytes:
    if os.path.islink(path):
        raise InputError(f"{path}: is a symbolic link, which is not followed; copy the file")
    if not os.path.isfile(path):  # what is a pipe would be waited for
        raise InputError(f"{path}: is not a file; move it elsewhere")
    if os.path.getsize(path) > LARGEST_BYTES:
        raise InputError(f"{path}: is of more than {LARGEST_BYTES:,} bytes; move it elsewhere")
    with open(path, "rb") as file:
        return file.read()


def _write(path: str, data: bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "xb") as file:
        file.write(data)


def _of_one_item(data: bytes, items: tuple[str, ...]) -> bytes:
    """What a step says of itself, of items that have become one."""
    try:
        found = json.loads(data)
        handlers = found["item_handlers"]
        one = {STATE: handlers["params" if "params" in items else "model"]}
        kept = {name: each for name, each in handlers.items() if name not in items}
        return json.dumps({**found, "item_handlers": kept | one}).encode()
    except (ValueError, LookupError, TypeError, AttributeError):
        return data  # another version of Orbax says it otherwise, or nothing


def _files(directory: str, names: tuple[str, ...]) -> Iterator[str]:
    """The files among `names` and in the directories among them, by their names below."""
    for name in names:
        path = os.path.join(directory, name)
        if os.path.isdir(path) and not os.path.islink(path):
            try:
                inner = sorted(os.listdir(path))
            except OSError as error:
                raise FileAccessError(f"{path}: cannot be read: {error.strerror}") from error
            yield from _files(directory, tuple(os.path.join(name, each) for each in inner))
        else:
            yield name

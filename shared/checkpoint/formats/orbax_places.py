"""Where below a path the arrays of an Orbax checkpoint are: a step, an item, or the path itself."""

import dataclasses
import os
import re

from shared.errors import FileAccessError, InputError, printable

# What Orbax calls a directory that it has not finished.
UNFINISHED = re.compile(r"\.orbax-checkpoint-tmp(-\d+)?$|\.partial_save$")
# "300", "checkpoint_300" and "step_00000300".
STEP = re.compile(r"(?:.*[_-])?(\d{1,18})$")
# Of these one at least is in a directory that arrays were written to.
_SIGNS = ("_METADATA", "manifest.ocdbt", "ocdbt.process_0")
# Items that are one state of training, whatever else is saved beside them.
_OF_ONE_STATE = ({"params", "opt_state"}, {"params", "batch_stats"}, {"model", "optimizer"})
# The item that they become.
STATE = "state"
# What a step says of itself, and of its items by their names.
OF_STEP = "_CHECKPOINT_METADATA"


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the arrays are.

    Attributes:
      directory: that holds `_METADATA`.
      form: the directories from the path down to it: ("300", "state") below the root of a
        `CheckpointManager`, () where the path is `directory` itself.
      beside: the names of what else is in the step's directory, the one that holds the last of
        `form`: other items, `_CHECKPOINT_METADATA`.
      items: where a state is in several items, their names, of directories in `directory`; `form`
        is then that of one item with all of it.
    """

    directory: str
    form: tuple[str, ...]
    beside: tuple[str, ...]
    items: tuple[str, ...] = ()


def place_of(path: str, step: int | None = None) -> Place:
    """Finds the arrays at `path`: a checkpoint of any form, or the folder of its steps.

    Args:
      path: a directory.
      step: which one of several steps.

    Raises:
      InputError: it is no checkpoint, an unfinished one, or one of several that must be chosen.
      FileAccessError: the system refuses to read it.
    """
    path = os.path.normpath(path)
    if any(UNFINISHED.search(part) for part in path.split(os.sep)):
        raise InputError(_unfinished(path))
    names = _names(path)
    if _is_item(names):
        _no_step(path, step)
        return Place(path, (), ())
    items = _items(path, names)
    are_steps = OF_STEP not in names and all(map(STEP.match, items))
    if items and not are_steps:
        _no_step(path, step)
        return _in_step(path, ())
    return _in_step(path, (_step(path, names, step),))


def _in_step(path: str, form: tuple[str, ...]) -> Place:
    """The place in a step's directory, `form` below `path`."""
    directory = os.path.join(path, *form)
    names = _names(directory)
    if _is_item(names):
        return Place(directory, form, ())
    items = _items(directory, names)
    if len(items) > 1 and any(those <= set(items) for those in _OF_ONE_STATE):
        beside = tuple(name for name in names if name not in items)
        return Place(directory, (*form, STATE), beside, tuple(items))
    if len(items) > 1:
        likely = next((name for name in (STATE, "params", "model") if name in items), items[0])
        raise InputError(
            f"{printable(directory)}: holds arrays in several items, {_listed(items)}; give the "
            f"path of one of them, {printable(os.path.join(directory, likely))}: an optimizer goes "
            f"along where it is beside params as `opt_state`, or in one item with them"
        )
    (item,) = items
    beside = tuple(name for name in names if name != item)
    return Place(os.path.join(directory, item), (*form, item), beside)


def _step(path: str, names: list[str], step: int | None) -> str:
    """The name of the directory of a step."""
    steps = {
        int(found[1]): name
        for name in names
        if not UNFINISHED.search(name)
        and (found := STEP.match(name))
        and is_step(os.path.join(path, name))
    }
    if not steps:
        unfinished = [name for name in names if UNFINISHED.search(name)]
        if unfinished:
            raise InputError(_unfinished(os.path.join(path, unfinished[0])))
        what = "an empty directory" if not names else "not an Orbax checkpoint: it has no _METADATA"
        raise InputError(f"{printable(path)}: {what}; give the path of a checkpoint")
    if step is None and len(steps) > 1:
        raise InputError(
            f"{printable(path)}: holds several steps, {_listed(sorted(steps))}; choose one with "
            f"--step={max(steps)}"
        )
    if step is not None and step not in steps:
        raise InputError(
            f"{printable(path)}: has no step {step}; choose one with --step from "
            f"{_listed(sorted(steps))}"
        )
    return steps[min(steps) if step is None else step]


def _names(path: str) -> list[str]:
    """What is in a directory, sorted."""
    try:
        return sorted(os.listdir(path))
    except NotADirectoryError:
        raise InputError(
            f"{printable(path)}: is a file, expected the directory of an Orbax checkpoint; give "
            f"the directory, or the format of the file"
        ) from None
    except OSError as error:
        raise FileAccessError(
            f"{printable(path)}: cannot be read: {error.strerror}; give the directory of a "
            f"checkpoint"
        ) from error


def _is_item(names: list[str]) -> bool:
    return any(sign in names for sign in _SIGNS)


def _items(path: str, names: list[str]) -> list[str]:
    """The directories in a step's directory that hold arrays."""
    directories = [name for name in names if os.path.isdir(os.path.join(path, name))]
    return [
        name
        for name in directories
        if not UNFINISHED.search(name) and _is_item(_names(os.path.join(path, name)))
    ]


def is_step(path: str) -> bool:
    """Whether a directory of that kind of name holds arrays, or items that do."""
    if not os.path.isdir(path):
        return False
    names = _names(path)
    return _is_item(names) or bool(_items(path, names))


def _no_step(path: str, step: int | None) -> None:
    if step is not None:
        raise InputError(
            f"--step={step}: {printable(path)} is one checkpoint, not a folder of steps; leave "
            f"the flag out"
        )


def _unfinished(path: str) -> str:
    return (
        f"{printable(path)}: unfinished checkpoint, the run that wrote it was stopped; choose one "
        f"that was finished"
    )


def _listed(names: list) -> str:
    """At most ten of them."""
    shown = ", ".join(printable(str(name)) for name in names[:10])
    return shown if len(names) <= 10 else f"{shown}, ... ({len(names)} in all)"

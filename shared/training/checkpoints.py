"""Checkpoints of a run: its state after some steps, each in a directory, written beside training.

All calls of Orbax are here. What it says of a failure is made one line.
"""

import contextlib
import dataclasses
import functools
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging as absl_logging

from shared.errors import CorruptFileError, FileAccessError, InputError, first_line
from shared.training.leaves import as_stored, leaves_of, path_of, sha256_of
from shared.training.record import Record
from shared.training.run_directory import steps_in

MAX_TO_KEEP = 3
LONGEST_REASON = 200


class Checkpoints:
    """The states of one run in a directory, the last few of them. It is to be closed.

    A step directory is there as a whole or not at all, however the process ends.
    """

    def __init__(self, path: str):
        """`path` is a directory that only this process writes to.

        Raises:
          FileAccessError: what a killed run has left there cannot be removed.
        """
        _silence()
        self.path = path
        options = ocp.CheckpointManagerOptions(
            max_to_keep=MAX_TO_KEEP,
            create=False,
            cleanup_tmp_directories=True,
            # Otherwise a directory that cannot be made, as on a full disk, holds up the end of the
            # process for minutes.
            async_options=ocp.options.AsyncOptions(create_directories_asynchronously=False),
        )
        handlers = {"state": ocp.StandardCheckpointHandler(), "run": ocp.JsonCheckpointHandler()}
        with self._writing():
            self._manager = ocp.CheckpointManager(
                os.path.abspath(path), options=options, item_handlers=handlers
            )

    def steps(self) -> list[int]:
        """The steps of which there is a checkpoint, in order."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: Any, record: Record) -> None:
        """Begins to write what is after a step; waits until what was begun before is written.

        Args:
          step: its number.
          state: a pytree of arrays; they may be donated as soon as this returns.
          record: of the run; the hashes of the leaves are added.

        Raises:
          FileAccessError: this one or the one before cannot be written.
        """
        leaves = {path: sha256_of(leaf) for path, leaf in leaves_of(state).items()}
        run = dataclasses.replace(record, leaves=leaves).to_json()
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), run=ocp.args.JsonSave(run))
        with self._writing():
            self._manager.save(step, args=args, force=True)

    def wait(self) -> None:
        """Waits until what was begun is written.

        Raises:
          FileAccessError: it cannot be written.
        """
        with self._writing():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits as `wait` does, and ends the threads that write."""
        with self._writing():
            self._manager.close()

    def record(self, step: int) -> Record:
        """What stands beside the state.

        Raises:
          CorruptFileError: it is damaged; the message says which older step is whole.
        """
        with self._says_what_is_whole(step):
            return self._record(step)

    def read(self, step: int, like: Any) -> Any:
        """The state after a step.

        Args:
          step: its number.
          like: a state of the same run: the tree, and of each leaf the shape, dtype and sharding.

        Raises:
          InputError: it is of another model; the first leaf that differs is named.
          CorruptFileError: it is damaged; the message says which older step is whole.
        """
        expected = leaves_of(like)
        with self._says_what_is_whole(step):
            different = self.difference(step, like)
            if different:
                raise InputError(f"{self._of(step)} is of another model: {different}")
            found = self._leaves(step, {path: leaf.sharding for path, leaf in expected.items()})
            for path, leaf in expected.items():
                if found[path].dtype != leaf.dtype:
                    raise CorruptFileError(
                        f"{self._of(step)} is damaged: {path} is {found[path].dtype}, expected "
                        f"{leaf.dtype}"
                    )
        return jax.tree.unflatten(jax.tree.structure(like), [found[path] for path in expected])

    def difference(self, step: int, like: Any) -> str:
        """The first leaf of a state that a checkpoint has not, or has otherwise; "" if none."""
        expected = {path: as_stored(leaf) for path, leaf in leaves_of(like).items()}
        stored = leaves_of(self._metadata(step))
        for path, leaf in expected.items():
            if path not in stored:
                return f"{path}, of shape {tuple(leaf.shape)}, is missing"
            if stored[path].shape != leaf.shape:
                return f"{path} is {stored[path].shape}, expected {tuple(leaf.shape)}"
            if stored[path].dtype != leaf.dtype:
                return f"{path} is {stored[path].dtype}, expected {leaf.dtype}"
        more = sorted(stored.keys() - expected.keys())
        return f"{more[0]} is not expected" if more else ""

    def _record(self, step: int) -> Record:
        args = ocp.args.Composite(run=ocp.args.JsonRestore())
        with self._reading(step):
            return Record.from_json(self._manager.restore(step, args=args).run)

    def _metadata(self, step: int) -> Any:
        with self._reading(step):
            return self._manager.item_metadata(step).state.tree

    def _leaves(self, step: int, shardings: Mapping[str, Any]) -> dict[str, Any]:
        """{path: array} of a state, each with the bytes that were saved."""
        # Without a sharding of its own it is read to the first device.
        default = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        target = jax.tree_util.tree_map_with_path(
            lambda path, leaf: jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=shardings.get(path_of(path), default)
            ),
            self._metadata(step),
        )
        hashes = self._record(step).leaves
        args = ocp.args.Composite(state=ocp.args.StandardRestore(target))
        with self._reading(step):
            found = leaves_of(self._manager.restore(step, args=args).state)
        if found.keys() != hashes.keys():
            path = min(found.keys() ^ hashes.keys())
            raise CorruptFileError(f"{self._of(step)} is damaged: {path} is on one side alone")
        for path, leaf in found.items():
            if sha256_of(leaf) != hashes[path]:
                raise CorruptFileError(
                    f"{self._of(step)} is damaged: {path} has other bytes than were saved"
                )
        return found

    def _of(self, step: int) -> str:
        return f"--checkpoint_dir={self.path}: the checkpoint of step {step}"

    @contextlib.contextmanager
    def _says_what_is_whole(self, step: int) -> Iterator[None]:
        try:
            yield
        except CorruptFileError as error:
            older = [each for each in reversed(self.steps()) if each < step and self._whole(each)]
            what = (
                f"that of step {older[0]} is whole, remove {os.path.join(self.path, str(step))} to "
                f"go on from there"
                if older
                else "no older one is whole, start again in another folder"
            )
            raise CorruptFileError(f"{error}; {what}") from error

    def _whole(self, step: int) -> bool:
        try:
            self._leaves(step, {})
        except CorruptFileError:
            return False
        return True

    @contextlib.contextmanager
    def _reading(self, step: int) -> Iterator[None]:
        try:
            yield
        except (MemoryError, CorruptFileError):
            raise
        except PermissionError as error:
            raise FileAccessError(f"{self._of(step)} cannot be read: {error.strerror}") from error
        except Exception as error:  # Orbax raises what its parts do
            reason = first_line(error)[:LONGEST_REASON]
            raise CorruptFileError(f"{self._of(step)} is damaged: {reason}") from error

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:  # Orbax raises what its parts do
            steps = steps_in(self.path)
            kept = (
                f"that of step {steps[-1]} is there; make room, then go on with --resume"
                if steps
                else "none is there; make room"
            )
            raise FileAccessError(
                f"--checkpoint_dir={self.path}: a checkpoint cannot be written: "
                f"{_reason(error)}; {kept}"
            ) from error


@functools.cache
def _silence() -> None:
    """Keeps off stderr what Orbax says of a failure, for it raises that as well."""
    absl_logging.set_verbosity(absl_logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    hook = sys.unraisablehook

    def without_callbacks(unraisable: Any) -> None:
        # After a failure TensorStore still calls back into event loops that have ended.
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    sys.unraisablehook = without_callbacks


def _reason(error: Exception) -> str:
    """What the system said, which TensorStore writes as a number in a long sentence."""
    code = re.search(r"os_error_code='(\d+)'", str(error))
    if code:
        return os.strerror(int(code[1]))
    return getattr(error, "strerror", None) or first_line(error)[:LONGEST_REASON]

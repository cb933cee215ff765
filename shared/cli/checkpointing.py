"""`--checkpoint_dir`, `--resume`: what a run takes from a checkpoint, and when it writes one."""

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from absl import flags

from shared.cli.exit_codes import PROG
from shared.errors import InputError, UsageError, printable

if TYPE_CHECKING:
    from shared.report.trained import Trained
    from shared.training.checkpoints import Checkpoints
    from shared.training.config import Config
    from shared.training.record import Record
    from shared.training.text import Text
    from shared.training.trainer import Trainer

# How often a run is saved, where no flag says it.
SAVES = 20


def define_checkpoint_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "checkpoint_dir",
        None,
        "A folder for the states of the run, to go on from the last of them.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "checkpoint_every",
        None,
        "Steps from one saved state to the next. Default: a twentieth of the run.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "resume",
        False,
        "Go on with the run in --checkpoint_dir; flags that are left out are as they were.",
        flag_values=values,
    )


@contextlib.contextmanager
def keeping(values: flags.FlagValues) -> Iterator["Kept | None"]:
    """The checkpoints of the run that the flags are of, None where it is to have none.

    With --resume the flags that are not given are set to those of the run.
    """
    path = values.checkpoint_dir
    if path is None:
        for name in ("resume", "checkpoint_every"):
            if values[name].present:
                raise UsageError(f"--{name} needs --checkpoint_dir=FOLDER, which is missing")
        yield None
        return

    from shared.training.run_directory import check_new, locked, steps_in

    if values.resume and not steps_in(path):
        raise UsageError(
            f"--resume: --checkpoint_dir={path} holds no complete checkpoint; leave --resume out "
            f"to start the run"
        )
    if not values.resume:
        check_new(path)
    with locked(path):
        if not values.resume:
            check_new(path)  # another run may have ended there since
        from shared.training.checkpoints import Checkpoints

        checkpoints = Checkpoints(path)
        with contextlib.closing(checkpoints):
            kept = Kept(checkpoints, values.checkpoint_every)
            if values.resume:
                kept.resume(values)
            yield kept


class Kept:
    """The checkpoints of a run, from the flags to the last step."""

    def __init__(self, checkpoints: "Checkpoints", every: int | None):
        self.checkpoints, self.every = checkpoints, every
        self.step = 0
        self.before: Record | None = None

    def resume(self, values: flags.FlagValues) -> None:
        """Takes the last checkpoint, and from it the flags that are not given."""
        self.step = self.checkpoints.steps()[-1]
        self.before = self.checkpoints.record(self.step)
        was = {"impl": self.before.impl, "text": self.before.text["path"], **self.before.config}
        for name in was.keys() & set(values):
            if not values[name].present:
                values[name].value = was[name]

    def check(self, values: flags.FlagValues, config: "Config", text: "Text") -> None:
        """Stops where the run would not go on as it was.

        Raises:
          UsageError: a flag is another one.
          InputError: the text is, or what has no flag.
        """
        from shared.report.document import versions
        from shared.training.record import Record, record_of_text

        self.config, self.text = config, text
        self.record = Record(
            values.impl, dataclasses.asdict(config), record_of_text(values.text, text), versions()
        )
        if self.before is not None:
            self._check_same(values, self.before)
            self._note_versions(self.before)

    def first(self, trainer: "Trainer", state: Any, found: "Trained") -> Any:
        """The state to go on from, and in `found` the losses up to it; `state` in a new run."""
        if self.before is None:
            return state
        saved = self.checkpoints.read(self.step, trainer.to_checkpoint(state))
        found.losses.update(self.before.losses)
        found.validation.update(self.before.validation)
        found.seconds = self.before.seconds
        return trainer.from_checkpoint(state, saved)

    def after(
        self, number: int, trainer: "Trainer", state: Any, found: "Trained", stopped: bool
    ) -> None:
        """Saves the state after a step where it is time, and waits for the last one of a run."""
        last = number == self.config.steps or stopped
        if last or number % (self.every or max(1, self.config.steps // SAVES)) == 0:
            progress = {name: getattr(found, name) for name in ("losses", "validation", "seconds")}
            record = dataclasses.replace(self.record, **progress)
            self.checkpoints.save(number, trainer.to_checkpoint(state), record)
        if last:
            self.checkpoints.wait()

    def _check_same(self, values: flags.FlagValues, before: "Record") -> None:
        was = {"impl": before.impl, **before.config}
        now = {"impl": self.record.impl, **self.record.config}
        if before.text["sha256"] != self.record.text["sha256"]:
            source = values.text or "the documentation that comes with this Python"
            leave = "leave --text out, or " if values["text"].present else ""
            raise InputError(
                f"{self._run} was started on another text than {source}; {leave}give that one with "
                f"--text"
            )
        different = [name for name in now if now[name] != was.get(name)]
        if not different:
            return
        name = different[0]
        if name not in values:
            raise InputError(
                f"{self._run} was started with {name} = {was.get(name)}, which is {now[name]} in "
                f"this version; go on with composed-lifts {before.versions['composed_lifts']}"
            )
        leaf = self._first_leaf()
        raise UsageError(
            f"--{name}={now[name]}, but {self._run} was started with {was[name]}"
            f"{leaf and f' (first leaf that differs: {leaf})'}; leave --{name} out, or "
            f"{self._convert(name) or 'start a run in another folder'}"
        )

    def _note_versions(self, before: "Record") -> None:
        now = self.record.versions
        different = [
            f"{name} {before.versions.get(name)}, here is {now[name]}"
            for name in now
            if before.versions.get(name) != now[name]
        ]
        if different:
            note = f"{self._run} was made with {'; with '.join(different)}: bits may differ"
            print(f"composed-lifts: note: {printable(note)}", file=sys.stderr)

    @property
    def saved(self) -> str:
        """Where the state is, once it has been waited for."""
        return f"saved in {self.checkpoints.path}; --resume goes on"

    @property
    def _run(self) -> str:
        return f"the run in {self.checkpoints.path}"

    def _first_leaf(self) -> str:
        """The first leaf that the checkpoint has otherwise than the flags say, "" if none."""
        import jax

        from shared.training.run import first_state
        from shared.training.trainer import load_trainer

        trainer = load_trainer(self.record.impl)
        state = jax.eval_shape(lambda: first_state(trainer, self.config, self.text))
        return self.checkpoints.difference(self.step, trainer.to_checkpoint(state))

    def _convert(self, name: str) -> str:
        """The command that makes a checkpoint of the other implementation."""

        if name != "impl":
            return ""
        command = f"{PROG} convert --source_path={self.checkpoints.path} --step={self.step}"
        return f"`{command} --target_path=FOLDER` makes one of the other API"

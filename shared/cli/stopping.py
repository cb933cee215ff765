"""Ctrl-C and SIGTERM during a run: it ends after the step that is running, and says where."""

import contextlib
import os
import sys
from collections.abc import Iterator

from shared.checkpoint.publishing.signals import SIGNALS, end_at_next, heard
from shared.errors import InterruptedRunError

_SHOW_CURSOR = b"\x1b[?25h"


class Stop:
    """Whether a run is to end.

    Attributes:
      number: of the signal that asks for it, None until then.
    """

    number: int | None = None

    def __bool__(self) -> bool:
        return self.number is not None

    def check(self, where: str) -> None:
        """Ends the run if that was asked for; `where` it is stands in the message.

        Raises:
          InterruptedRunError: it was.
        """
        if self.number is not None:
            raise InterruptedRunError(f"interrupted {where}", self.number)


@contextlib.contextmanager
def stopping() -> Iterator[Stop]:
    """Catches the first signal; a second one ends the process at once, whatever it is doing."""
    stop = Stop()

    def asked(number, frame):
        if stop.number is not None:
            return
        stop.number = number
        if sys.stderr.isatty():  # the progress bar has hidden it, and may not come to its end
            os.write(sys.stderr.fileno(), _SHOW_CURSOR)
        end_at_next(SIGNALS, asked)

    with heard(SIGNALS, asked):
        yield stop

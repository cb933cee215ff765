"""What can go wrong because of the user's input, each with the exit code of the command line."""

import contextlib
from collections.abc import Iterator


class ComposedLiftsError(Exception):
    """One line: what, where, expected and received, next step."""

    exit_code = 70


class UsageError(ComposedLiftsError):
    """The command line itself is wrong."""

    exit_code = 2


class InputError(ComposedLiftsError, ValueError):
    """What the user handed over cannot be used."""

    exit_code = 3


class FileAccessError(ComposedLiftsError):
    """The system refused to read or to write."""

    exit_code = 4


class CorruptFileError(ComposedLiftsError):
    """A file is damaged: it is not what its own header says."""

    exit_code = 5


class ConnectionFailedError(ComposedLiftsError):
    """The processes of a run cannot be connected, or one of them is gone."""

    exit_code = 4


class InterruptedRunError(ComposedLiftsError):
    """A run ended at a signal; the exit code is that of a process that the signal ends."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.exit_code = 128 + number


@contextlib.contextmanager
def during(what: str) -> Iterator[None]:
    """Notes on what is raised inside that it was raised in `what`, code of the user's."""
    try:
        yield
    except ComposedLiftsError:
        raise
    except Exception as error:
        error.add_note(f"{_DURING}{what}")
        raise


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Puts `path` before what an InputError from inside says, if it does not say it itself."""
    try:
        yield
    except InputError as error:
        if path in str(error):
            raise
        raise InputError(f"{path}: {error}") from error


def where_raised(error: BaseException) -> str:
    """In what `error` was raised, as `during` noted; "" if that was not noted."""
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith(_DURING)]
    return notes[0].removeprefix(_DURING) if notes else ""


_DURING = "composed-lifts: in "


def printable(text: str) -> str:
    """`text` on one line, control characters escaped: names in files may hold any."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


# JAX lists all that led to an error.
_LONGEST = 1_000


def one_line(error: BaseException) -> str:
    """All that `error` says, on one line; of what is longer than any advice, the beginning."""
    text = " ".join(str(error).split()).rstrip(".:")
    if len(text) > _LONGEST:
        text = text[:_LONGEST].rsplit(" ", 1)[0] + " ... (--verbose shows the rest)"
    return text or type(error).__name__


def first_line(error: BaseException) -> str:
    """The first line of what `error` says."""
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__

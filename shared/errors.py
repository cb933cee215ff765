"""What can go wrong because of the user's input, each with the exit code of the command line."""


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


def printable(text: str) -> str:
    """`text` on one line, control characters escaped: names in files may hold any."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def first_line(error: BaseException) -> str:
    """The first line of what `error` says."""
    return str(error).strip().split("\n")[0] or type(error).__name__

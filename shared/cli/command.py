"""From the words of the command line to one command, and from its errors to one line."""

import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import metadata
from types import ModuleType

from absl import flags

from shared.cli import bench, compare, convert, forward, layout, train, verify
from shared.cli.names import did_you_mean
from shared.errors import ComposedLiftsError, UsageError, one_line, printable

PROG = "composed-lifts"
COMMANDS: dict[str, ModuleType] = {
    "forward": forward,
    "layout": layout,
    "verify": verify,
    "convert": convert,
    "compare": compare,
    "bench": bench,
    "train": train,
}
DEFAULT_COMMAND = "forward"
_OUT_OF_MEMORY = "out of memory; choose smaller sizes"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `argv`, the words after the program's name, and returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    verbose = any(word.lstrip("-") in ("verbose", "verbose=true", "verbose=1") for word in words)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    return guarded(lambda: _run(words), verbose)


def guarded(call: Callable[[], int], verbose: bool) -> int:
    """The exit code of `call`; of what it raises a line, and with `verbose` the traceback."""
    try:
        code = call()
        sys.stdout.flush()  # a full disk is to be noticed here, not at exit
        return code
    except ComposedLiftsError as error:
        return _fail(str(error), error.exit_code, verbose)
    except MemoryError:
        return _fail(_OUT_OF_MEMORY, 4, verbose)
    except KeyboardInterrupt:
        return _fail("interrupted", 130, verbose)
    except BrokenPipeError:
        # The reader of our output is gone, as `head` goes. Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        return _fail(f"the output cannot be written: {error.strerror or error}", 4, verbose)
    except Exception as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            return _fail(_OUT_OF_MEMORY, 4, verbose)
        what = f"{type(error).__name__}: {one_line(error)}"
        return _fail(f"internal error: {what}; this is our bug, --verbose shows where", 70, verbose)


def _run(words: list[str]) -> int:
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    if words[:1] == ["--version"]:
        print(f"{PROG} {metadata.version(PROG)}")
        return 0
    name = words.pop(0) if words and not words[0].startswith("-") else DEFAULT_COMMAND
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS)
        raise UsageError(f"unknown command {name!r}{hint}; commands are {', '.join(COMMANDS)}")
    values = flags.FlagValues()
    values.set_gnu_getopt(True)
    COMMANDS[name].define_flags(values)
    flags.DEFINE_boolean("verbose", False, "Show the traceback of an error.", flag_values=values)
    if not {"-h", "-help", "--help"}.isdisjoint(words):
        print(_help(name, values))
        return 0
    try:
        _, *extra = values([PROG, *words])
    except (flags.Error, ValueError) as error:
        raise UsageError(f"{one_line(error)}; see {PROG} {name} --help") from error
    if extra:
        raise UsageError(
            f"unexpected argument {extra[0]!r}; the command comes first, all else is --flag=value"
        )
    return COMMANDS[name].run(values)


def _help(name: str, values: flags.FlagValues) -> str:
    lines = [f"usage: {PROG} [command] [--flag=value ...]", "", "commands:"]
    for command, module in COMMANDS.items():
        default = " (default)" if command == DEFAULT_COMMAND else ""
        lines.append(f"  {command:<9}{module.SUMMARY}{default}")
    lines += ["", f"flags of {name}:"]
    for flag in sorted(values):
        value = values[flag].default
        shown = ",".join(value) if isinstance(value, list) else str(value)
        note = "" if shown in ("None", "False", "") else f" Default: {shown}."
        lines.append(f"  --{flag}: {values[flag].help}{note}")
    lines += ["", f"{PROG} COMMAND --help shows the flags of another command."]
    return "\n".join(lines)


def _fail(message: str, exit_code: int, verbose: bool) -> int:
    if verbose:
        traceback.print_exc()
    print(f"{PROG}: error: {printable(message)}", file=sys.stderr)
    return exit_code

"""From `sys.argv` to one command, and from its errors to one line and an exit code."""

import difflib
import os
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType

from absl import flags

from shared.cli import forward, layout
from shared.errors import ComposedLiftsError, UsageError

PROG = "composed-lifts"
COMMANDS: dict[str, ModuleType] = {"forward": forward, "layout": layout}
DEFAULT_COMMAND = "forward"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `argv`, the words after the program's name, and returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    verbose = "--verbose" in words
    try:
        return _run(words)
    except ComposedLiftsError as error:
        return _fail(str(error), error.exit_code, verbose)
    except MemoryError:
        return _fail("out of memory; try smaller sizes", 4, verbose)
    except KeyboardInterrupt:
        return _fail("interrupted", 130, verbose)
    except BrokenPipeError:
        # The reader of our output has gone, as `head` does. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        message = f"internal error: {type(error).__name__}: {_one_line(error)}"
        return _fail(f"{message}; this is our bug, --verbose shows where", 70, verbose)


def _run(words: list[str]) -> int:
    asks_help = any(word in ("-h", "--help", "-help", "help") for word in words)
    if words[:1] == ["--version"]:
        from importlib import metadata

        print(f"{PROG} {metadata.version(PROG)}")
        return 0
    name = words.pop(0) if words and not words[0].startswith("-") else DEFAULT_COMMAND
    if name == "help":
        name = DEFAULT_COMMAND
    if name not in COMMANDS:
        raise UsageError(
            f"unknown command {name!r}{_did_you_mean(name, COMMANDS)}; "
            f"commands are {', '.join(COMMANDS)}"
        )
    values = flags.FlagValues()
    values.set_gnu_getopt(True)
    COMMANDS[name].define_flags(values)
    flags.DEFINE_boolean(
        "verbose", False, "Show the traceback of an error.", flag_values=values
    )
    if asks_help:
        print(_help(name, values))
        return 0
    try:
        extra = values([PROG, *words])[1:]
    except flags.Error as error:
        raise UsageError(f"{_one_line(error)}; see {PROG} {name} --help") from error
    if extra:
        raise UsageError(
            f"unexpected argument {extra[0]!r}; the command comes first and values follow "
            f"their flag: {PROG} {name} --flag=value"
        )
    return COMMANDS[name].run(values)


def _help(name: str, values: flags.FlagValues) -> str:
    lines = [f"usage: {PROG} [command] [--flag=value ...]", "", "commands:"]
    for other, module in COMMANDS.items():
        default = "  (default)" if other == DEFAULT_COMMAND else ""
        lines.append(f"  {other:<10}{module.SUMMARY}{default}")
    lines += ["", f"flags of {name}:"]
    for flag in sorted(values.get_flags_for_module(sys.argv[0]) or _own_flags(values), key=_name):
        default = "" if flag.default in (None, False) else f" (default: {flag.default})"
        lines.append(f"  --{flag.name}: {flag.help}{default}")
    lines += ["", f"{PROG} COMMAND --help shows the flags of another command."]
    return "\n".join(lines)


def _own_flags(values: flags.FlagValues) -> list[flags.Flag]:
    return [values[name] for name in values]


def _name(flag: flags.Flag) -> str:
    return flag.name


def _did_you_mean(word: str, names: Sequence[str] | dict) -> str:
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.4)
    return f"; did you mean {close[0]}?" if close else ""


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _fail(message: str, exit_code: int, verbose: bool) -> int:
    if verbose:
        traceback.print_exc()
    print(f"{PROG}: error: {message}", file=sys.stderr)
    return exit_code

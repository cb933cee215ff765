"""From the words of the command line to one command."""

import io
import sys
from collections.abc import Sequence
from importlib import metadata
from types import ModuleType

from absl import flags

from shared.cli import bench, compare, convert, forward, layout, train, verify
from shared.cli.exit_codes import PROG, guarded
from shared.cli.names import did_you_mean
from shared.errors import UsageError, one_line

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


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `argv`, the words after the program's name, and returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    verbose = any(word.lstrip("-") in ("verbose", "verbose=true", "verbose=1") for word in words)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    return guarded(lambda: _run(words), verbose)


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

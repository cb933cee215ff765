"""Flags that take one of a few names, and the nearest name to a mistaken one."""

import difflib
from collections.abc import Iterable

from absl import flags


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """ "; did you mean NAME?", or nothing where no name is near."""
    close = difflib.get_close_matches(word.lower(), list(names), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def define_name(
    name: str, default: str | None, names: Iterable[str], text: str, values: flags.FlagValues
) -> None:
    """Defines a flag in `values` that takes one of `names`."""
    flags.DEFINE(_NameParser(list(names)), name, default, text, flag_values=values)


class _NameParser(flags.EnumParser):
    def parse(self, argument: str) -> str:
        if argument not in self.enum_values:
            allowed = ", ".join(self.enum_values)
            raise ValueError(f"expected one of {allowed}{did_you_mean(argument, self.enum_values)}")
        return argument

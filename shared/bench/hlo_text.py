"""The text of an HLO module as instructions: a line is `ROOT %name = shape op(operands), key=...`.

Source: https://openxla.org/xla/hlo_dumps. What is not known is kept as text.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from jax._src.lib import hlo  # not documented: `as_text` has no numbers of large constants


class Instruction(NamedTuple):
    """A line of a computation.

    Attributes:
      shape: dtype, sizes and layout, as `f32[4,5]{1,0}`, or those of a tuple: `(f32[], s32[])`.
      operands: their names, as text; of a parameter its number, of a constant its value.
    """

    name: str
    shape: str
    op: str
    operands: str
    attributes: dict[str, str]
    is_root: bool


class Module(NamedTuple):
    """An HLO module.

    Attributes:
      computations: the lines of each, in order.
      entry: the name of the one that is run.
    """

    computations: dict[str, list[Instruction]]
    entry: str


def optimised_text(program: jax.stages.Compiled) -> str:
    """The optimised HLO, with all numbers and without what it was made of."""
    options = hlo.HloPrintOptions()
    options.print_large_constants = True
    options.print_metadata = False
    executable: Any = program.runtime_executable()
    (module,) = executable.hlo_modules()
    return module.to_string(options)


def parse(text: str) -> Module:
    """The module of a text."""
    computations: dict[str, list[Instruction]] = {}
    lines: list[Instruction] = []
    entry = ""
    for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
        if opened := re.match(r"(ENTRY )?%?([\w.-]+) \(.*\{$", line):
            lines = computations[opened[2]] = []
            entry = opened[2] if opened[1] else entry
        elif line.startswith("  ") and " = " in line:
            lines.append(parse_line(line))
    return Module(computations, entry)


def parse_line(line: str) -> Instruction:
    """The instruction of a line."""
    name, rest = line.strip().split(" = ", 1)
    end = _end(rest, 0) if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end + 1 :]
    begin = rest.index("(")
    end = _end(rest, begin)
    attributes = (each.partition("=") for each in elements(rest[end:].lstrip(", ")))
    return Instruction(
        name.removeprefix("ROOT ").removeprefix("%"),
        shape,
        rest[:begin],
        rest[begin + 1 : end - 1],
        {key: value for key, _, value in attributes},
        name.startswith("ROOT "),
    )


def names(text: str) -> list[str]:
    """What a list of operands, or an attribute, names."""
    return re.findall(r"%([\w.-]+)", text)


def numbers(text: str) -> list[int]:
    """`{0,2}` -> [0, 2]."""
    return list(map(int, re.findall(r"\d+", text)))


def elements(text: str) -> list[str]:
    """Those of a list: between commas that are in no bracket and no quotes."""
    found, begin, depth = [], 0, 0
    for place, character in _outside_quotes(text, 0):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and not depth:
            found.append(text[begin:place].strip())
            begin = place + 1
    return [each for each in (*found, text[begin:].strip()) if each]


def _end(text: str, begin: int) -> int:
    """Behind the bracket that closes the one at `begin`."""
    depth = 0
    for place, character in _outside_quotes(text, begin):
        depth += (character in "([{") - (character in ")]}")
        if not depth:
            return place + 1
    raise ValueError(f"expected a closing bracket in {text}")


def _outside_quotes(text: str, begin: int) -> Iterator[tuple[int, str]]:
    for found in re.compile(r'"(?:\\.|[^"\\])*"|.').finditer(text, begin):
        if len(found[0]) == 1:
            yield found.start(), found[0]

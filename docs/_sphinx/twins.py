"""The directive `twins`: one definition in both twin files, Linen on the left, NNX on the right."""

import ast
import itertools
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]
FOLDERS = {"Linen": "linen_impl", "NNX": "nnx_impl"}


class Twins(SphinxDirective):
    """`{twins} dropout.py OwnMasks`: what has that name in `dropout.py` of both packages.

    The comment lines that stand in both files divide the two into rows: a lift is beside its lift.
    Several names are shown one below the other. A name that a file has not fails the build.
    """

    required_arguments = 2
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        file, *names = " ".join(self.arguments).split()
        files = [f"{folder}/{file}" for folder in FOLDERS.values()]
        titles = [f"{api}: `{path}`" for api, path in zip(FOLDERS, files, strict=True)]
        cells = [(titles, "twins-title")]
        for name in names:
            rows = aligned(*(self.definition(path, name) for path in files))
            blocks = [[included(*part) for part in zip(files, row, strict=True)] for row in rows]
            cells += [(row, "twins") for row in blocks[:-1]] + [(blocks[-1], "twins twins-last")]
        text = [line for row, kind in cells for line in grid(row, kind)]
        node = nodes.Element()
        self.state.nested_parse(StringList(text, source=self.get_source_info()[0]), 0, node)
        for file in files:
            self.env.note_dependency(str(ROOT / file))
        return node.children

    def definition(self, file: str, name: str) -> list[tuple[int, str]]:
        """The numbered lines of a definition, with the decorators and comments above it."""
        source = (ROOT / file).read_text()
        found = [n for n in ast.parse(source).body if getattr(n, "name", None) == name]
        if not found:
            raise self.error(f"{file} has no {name}")
        first = min(node.lineno for node in (found[0], *found[0].decorator_list))
        lines = source.splitlines()
        while lines[first - 2].startswith("#"):
            first -= 1
        return [(n, lines[n - 1]) for n in range(first, found[0].end_lineno + 1)]


def aligned(*sides: list[tuple[int, str]]) -> list[list[str]]:
    """Rows of line ranges, one a side, that begin at the comments which both sides have."""
    comments = [[text.strip() for _, text in side if text.strip()[:1] == "#"] for side in sides]
    linen, nnx = ([text for text in side if all(text in c for c in comments)] for side in comments)
    starts = linen if linen == nnx and len(set(linen)) == len(linen) else []
    parts = [cut(side, starts) for side in sides]
    return [list(row) for row in zip(*parts, strict=True)]


def cut(side: list[tuple[int, str]], starts: list[str]) -> list[str]:
    """The ranges of lines of one side, without the empty lines at their ends."""
    first = [0, *(i for i, (_, text) in enumerate(side) if text.strip() in starts)]
    ranges = []
    for start, end in itertools.pairwise([*dict.fromkeys(first), len(side)]):
        filled = [number for number, text in side[start:end] if text.strip()]
        ranges.append(f"{filled[0]}-{filled[-1]}")
    return ranges


def included(file: str, lines: str) -> str:
    return f"```{{literalinclude}} /../{file}\n:language: python\n:lines: {lines}\n```"


def grid(cells: list[str], kind: str) -> list[str]:
    """Two columns, one below the other where the page is narrow."""
    text = f"::::{{grid}} 1 1 2 2\n:gutter: 1\n:class-container: {kind}\n"
    for api, cell in zip(FOLDERS, cells, strict=True):
        text += f":::{{grid-item}}\n:class: twin-{api.lower()}\n\n{cell}\n:::\n"
    return f"{text}::::\n".splitlines()


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("twins", Twins)
    return {"parallel_read_safe": True}

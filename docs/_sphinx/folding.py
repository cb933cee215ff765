"""A line of code that is too long goes on below its own indentation."""

from collections.abc import Iterator

from pygments.formatters import HtmlFormatter
from sphinx.application import Sphinx
from sphinx.highlighting import PygmentsBridge


class FoldingFormatter(HtmlFormatter):
    """Each line in a block of its own, which knows how far its text is from the edge."""

    def _format_lines(self, tokensource: Iterator) -> Iterator[tuple[int, str]]:
        for is_code, line in super()._format_lines(self._measured(tokensource)):
            indent = self.indents.pop(0) if self.indents else 0
            yield is_code, f'<span class="line" style="--indent: {indent}ch">{line}</span>'

    def _measured(self, tokensource: Iterator) -> list:
        tokens = list(tokensource)
        lines = "".join(text for _, text in tokens).split("\n")
        self.indents = [len(line) - len(line.lstrip(" ")) for line in lines]
        return tokens


def setup(app: Sphinx) -> dict[str, bool]:
    PygmentsBridge.html_formatter = FoldingFormatter
    return {"parallel_read_safe": True}

"""A block that is said to raise, and does not, is a warning of the build."""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging


def check_errors(app: Sphinx, doctree: nodes.document) -> None:
    """Myst-nb fails by itself where a block raises that is not said to."""
    for cell in doctree.findall(nodes.container):
        if "tag_raises-exception" not in cell["classes"]:
            continue
        outputs = cell.findall(nodes.literal_block)
        if not any("traceback" in output["classes"] for output in outputs):
            logging.getLogger(__name__).warning("a block raises nothing", location=cell)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-read", check_errors)
    return {"parallel_read_safe": True}

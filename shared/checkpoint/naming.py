"""How the path of a leaf is written for people and in a manifest: `opt_state/1/0/mu/kernel`."""

from shared.checkpoint.stored import Path
from shared.trees import escape


def written(path: Path) -> str:
    """A path in one word; a name that holds `/` is written as `shared.trees` does."""
    return "/".join(map(escape, path))

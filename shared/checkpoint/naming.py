"""How the path of a leaf is written for people and in a manifest: `opt_state/1/0/mu/kernel`."""

from collections.abc import Iterable

from shared.checkpoint.stored import Path
from shared.trees import escape, unescape


def written(path: Path) -> str:
    """A path in one word; a name that holds `/` is written as `shared.trees` does."""
    return "/".join(map(escape, path))


def split(name: str) -> tuple[str, ...]:
    """The names of what is `written`."""
    return tuple(map(unescape, name.split("/")))


def separator_of(names: Iterable[str]) -> str:
    """What stands between the names of a path in flat names: `/` if any of them holds it."""
    return "/" if any("/" in name for name in names) else "."

"""Where in the user's files an operation was written."""

import dataclasses
import functools
import linecache
import os
import sysconfig
from typing import Any

import flax
import jax

from shared.program.jax_programs import Frame, frames

_JAX, _FLAX = (os.path.dirname(str(module.__file__)) + os.sep for module in (jax, flax))
# The one file of JAX that tells an initialiser from numbers that are drawn by hand.
_INITIALIZERS = os.path.join(_JAX, "_src", "nn", "initializers.py")
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
# What calls the models: a wrong call of theirs is the user's.
_CALLERS = tuple(os.path.join(_OURS, "models", f"{name}.py") for name in ("linen", "nnx", "pure"))
_STANDARD, _INSTALLED = (sysconfig.get_path(name) + os.sep for name in ("stdlib", "purelib"))
# What models are written with, besides; other packages may hold the models themselves.
_TOOLS = tuple(
    os.path.join(_INSTALLED, name) + os.sep for name in ("numpy", "einops", "chex", "optax")
)


def shown(file: str) -> str:
    """A path as the reader would write it: from the working directory, where it is below that."""
    here = os.getcwd() + os.sep
    return file.removeprefix(here)


@dataclasses.dataclass(frozen=True)
class Place:
    """A line of a source file.

    Attributes:
      file: its path.
      line: from 1.
      function: the function that the line is in.
      column: where on the line the call begins, from 0.
    """

    file: str
    line: int
    function: str
    column: int = 0

    @property
    def source(self) -> str:
        """The text of the line."""
        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        return f"{shown(self.file)}:{self.line}: {self.source}"

    @property
    def is_flax(self) -> bool:
        """Whether it is in one of Flax's own layers."""
        return self.file.startswith(_FLAX)

    @property
    def is_ours(self) -> bool:
        """Whether it is in what is behind the models."""
        return self.file.startswith(_OURS) and self.file not in _CALLERS

    @property
    def is_users(self) -> bool:
        """Whether it is outside of the libraries."""
        if self.file.startswith(_INSTALLED):
            return not self.file.startswith((_JAX, _FLAX, _OURS, *_TOOLS))
        return not self.file.startswith((_JAX, _FLAX, _STANDARD, _OURS, "<"))


Stack = tuple[Place, ...]


def places(source_info: Any) -> Stack:
    """The call stack of an equation, innermost first, without lines of JAX and ours."""
    return _places(source_info.traceback)


# Equations of a gradient, or of each turn of a loop, come from the same lines as the model's own.
@functools.lru_cache(maxsize=2**14)
def _places(traceback: Any) -> Stack:
    found = map(_place, frames(traceback))
    return tuple(place for place in found if place is not None)


@functools.cache
def _place(frame: Frame) -> Place | None:
    """A call, unless it is one of JAX or of ours."""
    is_behind = frame[0].startswith((_JAX, _OURS)) and frame[0] != _INITIALIZERS
    return None if is_behind else Place(*frame)


def users_place(stack: Stack) -> Place | None:
    """The innermost line of the user's own files, else the innermost line of all."""
    return next((place for place in stack if place.is_users), stack[0] if stack else None)

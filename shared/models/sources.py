"""Which lines of the user's make a variable, and give its axes names: looked for when it is asked.

Nothing in a program says it of a constant, nor of what is no number. The modules are made once
more, abstractly, while whoever makes a variable is noted.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from flax import linen as nn
from flax import nnx

from shared.models.pure import Sources
from shared.program.source import Place, Stack
from shared.trees import escape

_MADE, _NAMED, _LIFTED = (f"composed_lifts_{what}_at" for what in ("made", "named", "lifted"))
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
# Where NNX lifts a function: `vmap` and the others.
_TRANSFORMS = os.path.dirname(nnx.transforms.__file__) + os.sep


def linen_sources(init: Callable[[], Any]) -> Sources:
    """Those of what `init` makes, which traces the `init` of a Linen module."""
    made: dict[str, Stack] = {}
    param, variable = nn.Module.param, nn.Module.variable

    def note(module: nn.Module, collection: str, name: str) -> None:
        if module.scope is not None:
            path = (collection, *module.scope.path, name)
            made.setdefault("/".join(map(escape, path)), users_stack()[0])

    def noted_param(self, name, *args, **kwargs):
        note(self, "params", name)
        return param(self, name, *args, **kwargs)

    def noted_variable(self, col, name, *args, **kwargs):
        note(self, col, name)
        return variable(self, col, name, *args, **kwargs)

    with _instead(nn.Module, param=noted_param, variable=noted_variable):
        init()
    return Sources(made, {}, {})


def nnx_sources(make: Callable[[], Any], path_of: Callable[[tuple, Any], str]) -> Sources:
    """Those of what `make` makes, a module of NNX.

    They are noted in the metadata of the variables, which transforms of NNX hand on.

    Args:
      make: makes the module.
      path_of: (keys, variable) -> its path.
    """
    init, set_metadata = nnx.Variable.__init__, nnx.Variable.set_metadata

    def noted_init(self, *args, **kwargs):
        init(self, *args, **kwargs)
        if _MADE not in self.get_metadata():
            stack, lifted = users_stack()
            set_metadata(self, _MADE, stack)
            set_metadata(self, _LIFTED, lifted)

    def noted_metadata(self, *args, **kwargs):
        set_metadata(self, *args, **kwargs)
        frame = sys._getframe(1)
        if _place(frame).is_users:
            set_metadata(self, _NAMED, users_stack()[0])

    with (
        _instead(nnx.Variable, __init__=noted_init, set_metadata=noted_metadata),
        nnx.use_eager_sharding(False),
    ):
        model = nnx.eval_shape(make)
    variables = nnx.to_flat_state(nnx.state(model, nnx.Variable))
    noted = {path_of(path, variable): variable.get_metadata() for path, variable in variables}
    return Sources(
        *(
            {path: metadata[name] for path, metadata in noted.items() if name in metadata}
            for name in (_MADE, _NAMED, _LIFTED)
        )
    )


@contextlib.contextmanager
def _instead(kind: type, **methods: Callable[..., Any]) -> Iterator[None]:
    """A class with other methods."""
    before = {name: getattr(kind, name) for name in methods}
    try:
        for name, method in methods.items():
            setattr(kind, name, method)
        yield
    finally:
        for name, method in before.items():
            setattr(kind, name, method)


def users_stack() -> tuple[Stack, Stack]:
    """The user's lines that are being run, innermost first; and those outside of a transform."""
    frame: FrameType | None = sys._getframe(2)
    found: list[Place] = []
    inside: int | None = None
    while frame is not None:
        place = _place(frame)
        if place.is_users:
            found.append(place)
        elif place.file.startswith(_OURS) and found:
            break  # what is further out calls us
        elif place.file.startswith(_TRANSFORMS) and inside is None:
            inside = len(found)
        frame = frame.f_back
    return tuple(found), () if inside is None else tuple(found[inside:])


def _place(frame: FrameType) -> Place:
    return Place(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname)

"""An NNX module as in training: what is switched off at evaluation is switched on."""

import functools
from collections.abc import Callable
from typing import Any

from flax import nnx

from shared.models.switches import SWITCHES, Switches, has_switch


def switch(model: Any, switches: Switches, arguments: bool) -> None:
    """Switches the attributes of all modules, as `model.train()` does.

    Args:
      model: a module.
      switches: the switches.
      arguments: whether to switch what their methods are given, too.
    """
    known: dict[type, type] = {}
    for _, node in nnx.iter_graph(model):
        if not isinstance(node, nnx.Pytree):
            continue
        for name in SWITCHES.keys() & vars(node).keys():
            value = switches.value(name, vars(node)[name])
            if value is not vars(node)[name]:
                setattr(node, name, value)
        if switches.training and arguments:
            kind = type(node)
            if kind not in known:
                known[kind] = _in_training(kind, switches)
            node.__class__ = known[kind]


def _in_training(kind: type, switches: Switches) -> type:
    """A module class whose methods take switches as they are in training."""
    methods = {
        name: method
        for name in dir(kind)
        if has_switch(method := getattr(kind, name)) and name != "__init__"
    }
    if not methods:
        return kind

    def switched(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(self, *args, **kwargs):
            with switches.inside() as takes:
                if takes:
                    args, kwargs = switches.call(functools.partial(method, self), args, kwargs)
                return method(self, *args, **kwargs)

        return call

    made = {name: switched(method) for name, method in methods.items()}
    return type(kind.__name__, (kind,), {**made, "__module__": kind.__module__})

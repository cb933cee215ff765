"""What is switched off at evaluation, by attributes of modules or by arguments of calls."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

# {name: its value in training}. The first three are Flax's own, the others what models call it.
SWITCHES: Mapping[str, bool] = {
    "deterministic": False,
    "use_running_average": False,
    "update_stats": True,
    "train": True,
    "training": True,
    "is_training": True,
}


class Switches:
    """The switches that a call meets.

    Attributes:
      training: whether they are switched to what they are in training.
      off: those that were met as they are at evaluation.
    """

    def __init__(self, training: bool) -> None:
        self.training = training
        self.off: set[str] = set()
        self._is_handed_down = False

    @contextlib.contextmanager
    def inside(self) -> Iterator[bool]:
        """Around a call: whether what it is given is switched.

        What a call is given as in training it hands down; what is given otherwise inside of it is
        meant so.
        """
        before = self._is_handed_down
        try:
            yield not before
        finally:
            self._is_handed_down = before

    def value(self, name: str, value: Any) -> Any:
        """What is used for the `value` of a switch."""
        if isinstance(value, bool) and value != SWITCHES[name]:
            self.off.add(name)
            return SWITCHES[name] if self.training else value
        return value

    def words(self, words: Mapping[str, Any]) -> dict[str, Any]:
        """Keyword arguments, with their switches switched."""
        return {
            name: self.value(name, value) if name in SWITCHES else value
            for name, value in words.items()
        }

    def call(
        self, method: Callable[..., Any], args: tuple, kwargs: Mapping[str, Any]
    ) -> tuple[tuple, dict[str, Any]]:
        """The arguments of a call of `method`, which takes no `self`, with switches switched.

        So are those that are not given and have a default.
        """
        try:
            parameters = inspect.signature(method).parameters
        except (TypeError, ValueError):  # it has none that Python knows
            return args, self.words(kwargs)
        by_place, by_name = list(args), dict(kwargs)
        for i, (name, parameter) in enumerate(parameters.items()):
            if name not in SWITCHES:
                continue
            is_placed = i < len(args) and parameter.kind is not parameter.KEYWORD_ONLY
            given = args[i] if is_placed else kwargs.get(name, parameter.default)
            switched = self.value(name, given)
            if switched is given:
                continue
            self._is_handed_down = True
            if is_placed:
                by_place[i] = switched
            else:
                by_name[name] = switched
        return tuple(by_place), by_name


def has_switch(method: Any) -> bool:
    """Whether a method of a class takes a switch."""
    return inspect.isfunction(method) and _takes_switch(method)


@functools.cache
def _takes_switch(method: Callable[..., Any]) -> bool:
    return not SWITCHES.keys().isdisjoint(inspect.signature(method).parameters)

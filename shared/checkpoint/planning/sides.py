"""Where the variables of a weight map, and what is beside them, are in a checkpoint of each API."""

import dataclasses
from collections.abc import Mapping
from typing import Protocol

from shared.checkpoint.naming import split
from shared.checkpoint.stored import Path
from shared.checkpoint.tree.roles import LINEN, NNX, Names, names_of
from shared.trees import Place, place_of
from shared.weights.weight_map import WeightMap


class Side(Protocol):
    """The paths of one API. A `name` is one of the weight map: `params/dense/kernel`."""

    @property
    def api(self) -> str:
        """ "linen" or "nnx"."""
        ...

    def module_path(self, name: str) -> Names:
        """Names from the root module to the variable, as a tree of moments has them."""
        ...

    def variable(self, name: str) -> Path:
        """Where a variable is."""
        ...

    def moment(self, above: Names, name: str) -> Path:
        """Where that of a variable is in a tree below the names `above` of an optimizer."""
        ...

    def of_optimizer(self, names: Names) -> Path:
        """Where something else of an optimizer is."""
        ...

    def average(self, above: Names, name: str) -> Path:
        """Where that of a variable is in a tree beside the model."""
        ...

    def other(self, names: Names) -> Path:
        """Where something else beside the model is."""
        ...

    def step(self) -> Path:
        """Where the number of steps is."""
        ...


@dataclasses.dataclass(frozen=True)
class LinenSide:
    """Linen's variables by collection, or a TrainState.

    Attributes:
      places: {name: where in its collection it is}, of those that are in a tuple.
      nested: whether params are {"params": ...} once more, in moments too.
    """

    places: Mapping[str, Place] = dataclasses.field(default_factory=dict)
    nested: bool = False
    api: str = LINEN

    def module_path(self, name: str) -> Names:
        return names_of(self._below(name))

    def variable(self, name: str) -> Path:
        path = (split(name)[0], *self._below(name))
        return ("params", *path) if self.nested else path

    def moment(self, above: Names, name: str) -> Path:
        inner = ("params",) if self.nested else ()
        return ("opt_state", *above, *inner, *self._below(name))

    def of_optimizer(self, names: Names) -> Path:
        return ("opt_state", *names)

    def average(self, above: Names, name: str) -> Path:
        return (*above, *self._below(name))

    def other(self, names: Names) -> Path:
        return names

    def step(self) -> Path:
        return ("step",)

    def _below(self, name: str) -> Path:
        place = self.places.get(name) or place_of(name)
        return (*place.keys, *place.inside)


@dataclasses.dataclass(frozen=True)
class NnxSide:
    """The state of a module, or of one that holds a `model` and an `optimizer`.

    Attributes:
      places: {name: where in the module it is}.
      is_training: whether there is an optimizer.
      wrapper: the last name of each leaf, "value", or "" of a pure dict.
    """

    places: Mapping[str, Place]
    is_training: bool
    wrapper: str
    api: str = NNX

    @property
    def model(self) -> Names:
        """Where the model is."""
        return ("model",) if self.is_training else ()

    def module_path(self, name: str) -> Names:
        place = self._place(name)
        return names_of((*place.keys, *place.inside))

    def variable(self, name: str) -> Path:
        return self._below(self.model, name)

    def moment(self, above: Names, name: str) -> Path:
        return self._below(("optimizer", "opt_state", *above), name)

    def of_optimizer(self, names: Names) -> Path:
        return self._wrapped(("optimizer", "opt_state", *names))

    def average(self, above: Names, name: str) -> Path:
        return self._below(above, name)

    def other(self, names: Names) -> Path:
        return self._wrapped(names)

    def step(self) -> Path:
        return self._wrapped(("optimizer", "step"))

    def _place(self, name: str) -> Place:
        return self.places.get(name) or place_of(name)

    def _below(self, above: Names, name: str) -> Path:
        place = self._place(name)
        return (*self._wrapped((*above, *names_of(place.keys))), *place.inside)

    def _wrapped(self, names: Names) -> Path:
        return (*names, self.wrapper) if self.wrapper else names


def sides(weights: WeightMap, nested: bool, is_training: bool, wrapper: str) -> dict[str, Side]:
    """Both sides of a map, by API."""
    return {
        LINEN: LinenSide(weights.linen_places, nested),
        NNX: NnxSide(weights.places, is_training, wrapper),
    }

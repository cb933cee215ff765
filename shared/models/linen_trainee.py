"""A Linen model that is trained: a `TrainState`, stepped by the optimizer or by the user's step."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict, unfreeze
from flax.training import train_state

from shared.errors import InputError, during
from shared.models.alike_keys import Draw, alike, draws
from shared.models.gradients import compiled_quickly
from shared.models.recording import NamedState, Recorded, named, named_state, recording, with_leaves
from shared.trees import escape, flatten, unflatten


class Record(NamedTuple):
    """What an optimizer did in the last step, by the names of the weights.

    Attributes:
      gradients: what it was given; updates: what it returned; calls: how often it was called so
        far; state: what it keeps.
    """

    gradients: dict[str, Any]
    updates: dict[str, Any]
    calls: int
    state: NamedState


class LinenTrainee:
    """Linen's side. A state is a `TrainState`, of the user's class where there is one.

    Attributes:
      not_held: collections that the state has no field for.

    Args:
      module: the model.
      tx: the optimizer.
      step: (state, *inputs) -> (state, loss); None where gradients are given.
      make_state: (variables, tx) -> state; None: of a class with a field for each collection, and
        `key`.
    """

    def __init__(
        self,
        module: nn.Module,
        tx: Any,
        step: Callable[..., Any] | None,
        make_state: Callable[[Any, Any], Any] | None,
    ) -> None:
        self._tx = recording(tx)
        self._make_state = make_state or functools.partial(_state, module)
        self._where_made = "Pair.linen_state" if make_state else "Pair.optimizer, of Linen"
        # {collection: the field of the state that holds it}.
        self._fields: dict[str, str] = {}
        self.not_held: tuple[str, ...] = ()
        self._step = compiled_quickly(functools.partial(_stepped, step)) if step else None
        self._loss = compiled_quickly(lambda *args: _stepped(step, *args)[1])
        self._apply = compiled_quickly(
            lambda state, gradients: state.apply_gradients(grads=gradients)
        )

    def start(self, leaves: Mapping[str, Any], are_alike: bool) -> Any:
        """The state to begin with.

        Args:
          leaves: {path: array} of the variables.
          are_alike: whether its keys all draw the same.

        Raises:
          InputError: `linen_state` returns something else.
        """
        variables = unflatten({path: jax.device_put(leaf) for path, leaf in leaves.items()})
        variables.setdefault("params", {})
        with during(self._where_made):
            state = self._make_state(variables, self._tx)
        if not isinstance(state, train_state.TrainState):
            raise InputError(
                "Pair.linen_state: expected it to return a TrainState, it returns "
                f"{type(state).__name__}"
            )
        if not isinstance(state.opt_state, Recorded):
            raise InputError(
                "Pair.linen_state: expected a state of the optimizer that it is given; write "
                "lambda variables, tx: TrainState.create(..., tx=tx)"
            )
        self._fields = {
            name: field for name, tree in variables.items() if (field := _field(state, name, tree))
        }
        self.not_held = tuple(sorted(variables.keys() - self._fields.keys()))
        # Of a number of Python's there would be one program, of the array after it another.
        state = state.replace(step=jnp.asarray(state.step, jnp.int32))
        rest = self._drawing(state)
        return state.replace(**alike(rest, _is_raw_key)) if are_alike else state

    def with_leaves(self, state: Any, leaves: Mapping[str, Any]) -> Any:
        """`state` with those of its variables that `leaves` has."""
        return state.replace(
            **{
                field: with_leaves(getattr(state, field), dict(leaves), _namer(name))
                for name, field in self._fields.items()
            }
        )

    def step(self, state: Any, inputs: tuple) -> tuple[Any, Any]:
        """(state, loss) after the user's step."""
        assert self._step is not None
        with during("Pair.linen_step"):
            return self._step(state, *inputs)

    def apply(self, state: Any, gradients: Mapping[str, Any]) -> Any:
        """`state` after a step of the optimizer with gradients {path: array}."""
        with during("Pair.optimizer, of Linen"):
            given = with_leaves(state.params, dict(gradients), _namer("params"))
            return self._apply(state, given)

    def leaves(self, state: Any) -> dict[str, Any]:
        """{path: array} of the variables that `state` holds."""
        return flatten({n: unfreeze(getattr(state, field)) for n, field in self._fields.items()})

    def record(self, state: Any) -> Record:
        """What the optimizer did in the last step."""
        made, name_of = state.opt_state, _namer("params")
        return Record(
            named(made.gradients, name_of),
            named(made.updates, name_of),
            int(made.calls),
            named_state(made.inner, state.params, name_of),
        )

    def counts(self, state: Any) -> tuple[str, ...]:
        """The places of whole numbers in the state of the optimizer."""
        rest = self.record(state).state.rest
        return tuple(p for p, x in rest.items() if jnp.issubdtype(x.dtype, jnp.integer))

    def with_counts(self, state: Any, places: tuple[str, ...], more: int) -> Any:
        """`state` with whole numbers of its optimizer that are `more` larger."""

        def moved(path: Any, x: Any) -> Any:
            place = jax.tree_util.keystr(path, simple=True, separator=".")
            return x + more if place in places else x

        inner = jax.tree_util.tree_map_with_path(moved, state.opt_state.inner)
        return state.replace(opt_state=state.opt_state._replace(inner=inner))

    def draws(self, state: Any, inputs: tuple) -> frozenset[Draw]:
        """What the step draws; see `alike_keys.draws`."""
        assert self._step is not None
        with during("Pair.linen_step"):
            return draws(self._step.trace(state, *inputs).jaxpr.jaxpr)

    def losses_drawn(self, state: Any, inputs: tuple) -> tuple[Any, Any]:
        """The loss of the first step, and that of the second with the weights of the first."""
        after, _ = self.step(state, inputs)
        kept = ("opt_state", *self._fields.values())
        again = after.replace(**{name: getattr(state, name) for name in kept})
        return self._loss(state, *inputs), self._loss(again, *inputs)

    def _drawing(self, state: Any) -> dict[str, Any]:
        """The fields of a state that may hold keys."""
        known = {"step", "apply_fn", "tx", "opt_state", *self._fields.values()}
        return {
            name: value
            for name, value in vars(state).items()
            if name not in known and not callable(value)
        }


def _state(module: nn.Module, variables: Mapping[str, Any], tx: Any) -> train_state.TrainState:
    """A state with a field for each collection of `variables`, and `key`."""
    rest = {name: value for name, value in variables.items() if name != "params"}
    fields = {"__annotations__": {**dict.fromkeys(rest, Any), "key": Any}, "__module__": __name__}
    kind: Any = type("TrainState", (train_state.TrainState,), fields)
    return kind.create(
        apply_fn=module.apply, params=variables["params"], tx=tx, key=jax.random.key(0), **rest
    )


def _field(state: Any, collection: str, tree: Any) -> str | None:
    """The field of a state that holds a collection, whatever it is called."""
    if collection == "params":
        return collection
    others = [name for name in vars(state) if name not in ("params", "opt_state")]
    shapes = _shapes(tree)
    for name in dict.fromkeys((collection, *others)):
        if _shapes(getattr(state, name, None)) == shapes:
            return name
    return None


def _shapes(tree: Any) -> dict[str, Any] | None:
    if not isinstance(tree, dict | FrozenDict):
        return None
    return {path: jnp.shape(x) for path, x in flatten(unfreeze(tree)).items()}


def _stepped(step: Any, state: Any, *inputs: Any) -> tuple[Any, Any]:
    made = step(state, *inputs)
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], type(state))):
        raise InputError(
            "Pair.linen_step: expected it to return (state, loss), it returns "
            f"{type(made).__name__}{_inside(made)}"
        )
    return made


def _inside(made: Any) -> str:
    return f" of {', '.join(type(x).__name__ for x in made)}" if isinstance(made, tuple) else ""


def _namer(collection: str) -> Callable[[tuple], str]:
    return lambda keys: "/".join((collection, *map(escape, keys)))


def _is_raw_key(x: Any) -> bool:
    return getattr(x, "dtype", None) == jnp.uint32 and x.shape[-1:] == (2,)

"""An NNX module that is trained: with an `nnx.Optimizer`, by it or by the user's step."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flax import nnx

from shared.errors import InputError, during
from shared.models.alike_keys import Draw, alike, draws
from shared.models.gradients import compiled_quickly
from shared.models.linen_trainee import Record
from shared.models.nnx import Port
from shared.models.recording import named, named_state, recording, with_leaves

# A state: the numbers of the module and of its optimizer, in the order of `NnxTrainee._paths`.
State = list[Any]


class NnxTrainee:
    """NNX's side. A state is a list of arrays.

    Args:
      port: the module.
      tx: the optimizer.
      wrt: which variables it optimizes; None: `nnx.Param`.
      step: (model, optimizer, *inputs) -> loss; None where gradients are given.
    """

    def __init__(self, port: Port, tx: Any, wrt: Any, step: Callable[..., Any] | None) -> None:
        self._port, self._tx, self._user_step = port, recording(tx), step
        self._wrt = nnx.Param if wrt is None else wrt
        self._names = {keys: path for path, (keys, _) in port.held.items()}
        self._graphdef: Any = None
        self._flat: list[tuple[tuple, Any]] = []
        self._start: Any = None
        self._step, self._apply = compiled_quickly(self._stepped), compiled_quickly(self._applied)
        self._loss = compiled_quickly(lambda state, inputs: self._stepped(state, inputs)[1])

    def start(self, leaves: Mapping[str, Any], are_alike: bool) -> State:
        """The state to begin with.

        Args:
          leaves: {path: array} of the weights.
          are_alike: whether its keys all draw the same.
        """
        with nnx.use_eager_sharding(False):
            if self._start is None:
                self._start = compiled_quickly(lambda: nnx.state(self._port.make()))()
            # Some optimizers keep the weights that they start from.
            model = nnx.merge(self._port.graphdef, self._filled(self._start, leaves), copy=True)
            with during("Pair.optimizer, in nnx.Optimizer"):
                optimizer = nnx.Optimizer(model, self._tx, wrt=self._wrt)
            self._graphdef, state = nnx.split((model, optimizer))
        self._flat = list(nnx.to_flat_state(state))
        first = [_value(held) for _, held in self._flat]
        return alike(first) if are_alike else first

    def _filled(self, state: Any, leaves: Mapping[str, Any]) -> Any:
        """The state of a module with those weights that `leaves` has."""
        filled = []
        for path, held in nnx.to_flat_state(state):
            new = _value(held)
            if self._is_weight((0, *path)):
                new = with_leaves(new, dict(leaves), self._namer(path))
            filled.append((path, held.replace(new) if isinstance(held, nnx.Variable) else new))
        return nnx.from_flat_state(filled)

    def with_leaves(self, state: State, leaves: Mapping[str, Any]) -> State:
        """`state` with those weights that `leaves` has."""
        return [
            with_leaves(x, dict(leaves), self._namer(path[1:])) if self._is_weight(path) else x
            for (path, _), x in zip(self._flat, state, strict=True)
        ]

    def step(self, state: State, inputs: tuple) -> tuple[State, Any]:
        """(state, loss) after the user's step."""
        with during("Pair.nnx_step"):
            return self._step(state, inputs)

    def apply(self, state: State, gradients: Mapping[str, Any]) -> State:
        """`state` after a step of the optimizer with gradients {path: array}."""
        with during("Pair.optimizer, in nnx.Optimizer.update"):
            return self._apply(state, dict(gradients))

    def leaves(self, state: State) -> dict[str, Any]:
        """{path: array} of the weights."""
        found: dict[str, Any] = {}
        for (path, _), x in zip(self._flat, state, strict=True):
            if self._is_weight(path):
                found |= named(x, self._namer(path[1:]))
        return found

    def record(self, state: State) -> Record:
        """What the optimizer did in the last step."""
        model, optimizer = self._merged(state)
        made, name_of = nnx.as_pure(optimizer.opt_state), self._namer(())
        params = nnx.as_pure(nnx.state(model, self._wrt))
        return Record(
            named(made.gradients, name_of),
            named(made.updates, name_of),
            int(made.calls),
            named_state(made.inner, params, name_of),
        )

    def draws(self, state: State, inputs: tuple) -> frozenset[Draw]:
        """What the step draws; see `alike_keys.draws`."""
        with during("Pair.nnx_step"):
            return draws(self._step.trace(state, inputs).jaxpr.jaxpr)

    def losses_drawn(self, state: State, inputs: tuple) -> tuple[Any, Any]:
        """The loss of the first step, and that of the second with the weights of the first."""
        after, _ = self.step(state, inputs)
        again = [
            before if self._is_weight(path) or path[:2] == (1, "opt_state") else new
            for (path, _), before, new in zip(self._flat, state, after, strict=True)
        ]
        return self._loss(state, inputs), self._loss(again, inputs)

    def _merged(self, state: Sequence[Any]) -> tuple[Any, nnx.Optimizer]:
        flat = [
            (path, held.replace(x) if isinstance(held, nnx.Variable) else x)
            for (path, held), x in zip(self._flat, state, strict=True)
        ]
        with nnx.use_eager_sharding(False):
            return nnx.merge(self._graphdef, nnx.from_flat_state(flat), copy=True)

    def _after(self, model: Any, optimizer: nnx.Optimizer, before: State) -> State:
        """The numbers after a step, without variables that it has added."""
        with nnx.use_eager_sharding(False):
            found = dict(nnx.to_flat_state(nnx.state((model, optimizer))))
        return [
            _value(found[path]) if path in found else x
            for (path, _), x in zip(self._flat, before, strict=True)
        ]

    def _stepped(self, state: State, inputs: tuple) -> tuple[State, Any]:
        assert self._user_step is not None
        model, optimizer = self._merged(state)
        with nnx.use_eager_sharding(False):
            loss = self._user_step(model, optimizer, *inputs)
        if loss is None:
            raise InputError("Pair.nnx_step: expected it to return the loss, it returns None")
        return self._after(model, optimizer, state), loss

    def _applied(self, state: State, gradients: dict[str, Any]) -> State:
        model, optimizer = self._merged(state)
        given = [
            (path, held.replace(with_leaves(held.get_value(), gradients, self._namer(path))))
            for path, held in nnx.to_flat_state(nnx.state(model, self._wrt))
        ]
        with nnx.use_eager_sharding(False):
            optimizer.update(model, nnx.from_flat_state(given))
        return self._after(model, optimizer, state)

    def _is_weight(self, path: tuple) -> bool:
        return path[0] == 0 and not self._names.get(path[1:], "rng/").startswith("rng/")

    def _namer(self, prefix: tuple) -> Callable[[tuple], str]:
        """Names leaves by their keys below `prefix`: a variable may hold several."""

        def name_of(keys: tuple) -> str:
            every = (*prefix, *keys)
            for length in range(len(every), 0, -1):
                if every[:length] in self._names:
                    rest = map(str, every[length:])
                    return "/".join((self._names[every[:length]], *rest))
            return "/".join(map(str, every))

        return name_of


def _value(held: Any) -> Any:
    return held.get_value() if isinstance(held, nnx.Variable) else held

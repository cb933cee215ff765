"""A Linen model with its NNX port, as a user gives them."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from flax import linen as nn
from flax import nnx

from shared.errors import InputError


@dataclasses.dataclass(frozen=True)
class Pair:
    """A Linen model and its NNX port, to be compared.

    Attributes:
      linen: the Linen module.
      nnx: builds the port from `nnx.Rngs`, ready to be called.
      inputs: makes the inputs of a call from a key; or the inputs, arrays or `ShapeDtypeStruct`s.
      linen_kwargs: keyword arguments of the Linen call.
      nnx_kwargs: keyword arguments of the NNX call.
      linen_train_kwargs: those of the Linen call in training, beside `linen_kwargs`. Without, what
        is switched off at evaluation is switched on: `deterministic`, `use_running_average`,
        `train`, in modules and in their calls.
      nnx_train_kwargs: the same of the NNX call, of a model after `model.train()`.
      linen_call: (module, *inputs) -> outputs, where that is not a plain call.
      nnx_call: (module, *inputs) -> outputs, where that is not a plain call.
      linen_output: from Linen's outputs to what is compared.
      nnx_output: from NNX's outputs to what is compared.
      weight_map: {Linen's path: NNX's path} of leaves that are known; the rest is found.
      initial: "compared", or "loaded" where the port is never trained from its own initial values:
        then it is only remarked that they are others.
      streams: names of random streams that the models ask for, beside "params" and "dropout": a
        Linen model that looks whether it has one, or hands one down in a lifted transform.
      optimizer: the optax optimizer that both are trained with. The check `training` steps with it.
      nnx_optimizer: that of the port, where masks or labels go by the names of weights.
      wrt: which variables `nnx.Optimizer` is given; without, `nnx.Param`.
      linen_step: (state, *inputs) -> (state, loss), a step of training; `state` is a `TrainState`.
      nnx_step: (model, optimizer, *inputs) -> loss, the same of the port and an `nnx.Optimizer`.
      step_inputs: what the steps are called on, as `inputs`, where it is something else.
      linen_state: (variables, tx) -> the `TrainState`, with its optimizer `tx`. Without, it has a
        field for each collection (`batch_stats`) and a `key`.
    """

    linen: nn.Module
    nnx: Callable[[nnx.Rngs], Any]
    inputs: Callable[[jax.Array], tuple] | tuple
    linen_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    nnx_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    linen_train_kwargs: Mapping[str, Any] | None = None
    nnx_train_kwargs: Mapping[str, Any] | None = None
    linen_call: Callable[..., Any] | None = None
    nnx_call: Callable[..., Any] | None = None
    linen_output: Callable[[Any], Any] = lambda outputs: outputs
    nnx_output: Callable[[Any], Any] = lambda outputs: outputs
    weight_map: Mapping[str, str] = dataclasses.field(default_factory=dict)
    initial: str = "compared"
    streams: Sequence[str] = ()
    optimizer: Any = None
    nnx_optimizer: Any = None
    wrt: Any = None
    linen_step: Callable[..., Any] | None = None
    nnx_step: Callable[..., Any] | None = None
    step_inputs: Callable[[jax.Array], tuple] | tuple | None = None
    linen_state: Callable[[Any, Any], Any] | None = None

    def __post_init__(self) -> None:
        """Raises InputError where a field is not of its kind."""
        for name, kind, fine in (
            ("linen", "a Linen module", isinstance(self.linen, nn.Module)),
            ("nnx", "a function of nnx.Rngs that builds the port", callable(self.nnx)),
            (
                "inputs",
                "a tuple of inputs, or a function of a key that returns one",
                callable(self.inputs) or isinstance(self.inputs, tuple),
            ),
            ("streams", "names of random streams", _are_names(self.streams)),
            ("initial", '"compared" or "loaded"', self.initial in ("compared", "loaded")),
        ):
            if not fine:
                given = getattr(self, name)
                received = repr(given) if isinstance(given, str) else type(given).__name__
                if isinstance(given, type):
                    received = f"the class {given.__name__}: write {name}={given.__name__}(...)"
                raise InputError(f"Pair.{name}: expected {kind}, received {received}")
        _check_training(self)


def _are_names(given: Any) -> bool:
    return isinstance(given, tuple | list) and all(isinstance(name, str) for name in given)


def _check_training(pair: Pair) -> None:
    """Stops at fields of a pair, of its training, that do not fit.

    Raises:
      InputError: one is of another kind, or one is missing.
    """
    for name in ("optimizer", "nnx_optimizer"):
        tx = getattr(pair, name)
        if tx is not None and not all(callable(getattr(tx, f, None)) for f in ("init", "update")):
            received = f"the function {tx.__name__}" if callable(tx) else type(tx).__name__
            raise InputError(
                f"Pair.{name}: expected an optax.GradientTransformation, received {received}"
            )
    for name in ("linen_step", "nnx_step", "linen_state"):
        given = getattr(pair, name)
        if given is not None and not callable(given):
            raise InputError(f"Pair.{name}: expected a function, received {type(given).__name__}")
    if (pair.linen_step is None) != (pair.nnx_step is None):
        missing = "nnx_step" if pair.nnx_step is None else "linen_step"
        raise InputError(f"Pair.{missing}: give the steps of both sides, or none")
    for name in ("nnx_optimizer", "wrt", "linen_step", "step_inputs", "linen_state"):
        if pair.optimizer is None and getattr(pair, name) is not None:
            raise InputError(f"Pair.optimizer: {name} needs it, for example optax.adamw(1e-3)")
    for name in ("step_inputs", "linen_state"):
        if pair.linen_step is None and getattr(pair, name) is not None:
            raise InputError(f"Pair.linen_step: {name} is for the steps, and there are none")

"""The interface of an implementation: two functions over plain trees."""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from shared.cases import Case

if TYPE_CHECKING:
    import jax

IMPLEMENTATIONS = ("linen", "nnx")
INITS = ("linen", "native")

# The collections of variables that are there before a call.
COLLECTIONS = ("params", "batch_stats", "cache")

Variables = Mapping[str, Any]
Updates = Mapping[str, Any]
Init = Literal["linen", "native"]


class Implementation(Protocol):
    """One way to write the cases. Laws, for every case:

    * `init` of both implementations makes equal variables, up to the names of their leaves;
    * `apply` of both gives equal outputs and updates, and equal gradients, on equal variables;
    * both functions are pure and can be jitted, differentiated and mapped.
    """

    def init(self, case: Case, seed: int, init: Init = "linen") -> Variables:
        """The initial variables of `case`, a plain nested dict keyed by collection.

        Args:
          case: what to initialise, with its sizes.
          seed: of the default key type of JAX.
          init: "linen" for Linen's numbers, "native" for the implementation's own.

        Raises:
          KeyError: `init` is neither.
          ValueError: for a case that cannot be initialised (`case.params_of` is set).
        """
        ...

    def apply(
        self, case: Case, variables: Variables, *inputs: "jax.Array"
    ) -> "tuple[Any, Updates]":
        """The outputs and the updated collections of one call.

        Args:
          case: what to call.
          variables: all of them.
          *inputs: those of `case.inputs`: the batch (B, F) first.

        Returns:
          outputs: the activation (B, F), in the dtype of the batch; or a tuple that begins with it.
          updates: of the collections beside `params`, the variables after the call.

        Raises:
          InputError: a leaf of `variables` is missing, extra, of another shape or not floating
            where it should be.
          ValueError, TypeError: the inputs do not fit the params.
        """
        ...


def activation_of(outputs: Any) -> "jax.Array":
    """The activation among the outputs of a call."""
    return outputs[0] if isinstance(outputs, tuple) else outputs


def load_implementation(name: str) -> Implementation:
    """The implementation called `name`, "linen" or "nnx". Imports no other."""
    if name not in IMPLEMENTATIONS:
        raise ValueError(f"implementation is {' or '.join(IMPLEMENTATIONS)}, not {name!r}")
    return cast(Implementation, importlib.import_module(f"{name}_impl.implementation"))

"""A Linen module as a pure function."""

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn
from flax.core import DenyList, meta, unfreeze

from shared.models.pure import Pieces, PureModel, arrays
from shared.trees import flatten, unflatten

_STREAMS = ("params", "dropout")
_SOWN = ("intermediates", "perturbations")


def linen_model(
    model: nn.Module,
    inputs: tuple,
    call: Callable[..., Any],
    output: Callable[[Any], Any],
) -> PureModel:
    """`model` as a pure function. Allocates no weight.

    Args:
      model: the module.
      inputs: shapes and dtypes of a call.
      call: (module, *inputs) -> outputs.
      output: from outputs to what is compared.
    """
    keys = {name: jax.random.key(i) for i, name in enumerate(_STREAMS)}

    def init(*args):
        return model.init(keys, *args, method=call)

    variables = meta.unbox(unfreeze(jax.eval_shape(init, *inputs)))
    pieces = Pieces(flatten({name: tree for name, tree in variables.items() if name not in _SOWN}))

    def apply(leaves, inputs):
        outputs, updated = model.apply(
            unflatten(pieces.join(leaves)),
            *inputs,
            method=call,
            mutable=DenyList(("params",)),
            rngs=keys,
        )
        return arrays(output(outputs)), Pieces(flatten(meta.unbox(unfreeze(updated)))).leaves

    return PureModel("linen", pieces.leaves, (), apply)

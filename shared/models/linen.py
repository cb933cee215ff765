"""A Linen module as a pure function."""

from collections.abc import Callable, Collection
from typing import Any

import jax
from flax import linen as nn
from flax.core import DenyList, meta, unfreeze

from shared.models.pure import Pieces, PureModel, arrays
from shared.program.traced_once import TracedOnce
from shared.trees import flatten, unflatten

_STREAMS = ("params", "dropout")
# What is sown to be looked at, and no model needs.
TO_LOOK_AT = {"intermediates", "perturbations"}


def linen_model(
    model: nn.Module,
    inputs: tuple,
    call: Callable[..., Any],
    output: Callable[[Any], Any],
    *frozen: str,
) -> PureModel:
    """`model` as a pure function. Allocates no weight.

    Args:
      model: the module.
      inputs: shapes and dtypes of a call.
      call: (module, *inputs) -> outputs.
      output: from outputs to what is compared.
      frozen: collections that the call cannot change.
    """
    keys = {name: jax.random.key(i) for i, name in enumerate(_STREAMS)}

    def init(*args):
        return model.init(keys, *args, method=call)

    def kept(variables) -> dict[str, Any]:
        variables = meta.unbox(unfreeze(variables))
        return flatten({name: tree for name, tree in variables.items() if name not in TO_LOOK_AT})

    pieces = Pieces(kept(jax.eval_shape(init, *inputs)))

    def initial(paths: Collection[str], inputs: tuple) -> dict[str, Any]:
        def values(*args):
            leaves = Pieces(kept(init(*args))).leaves
            return {path: leaves[path] for path in paths}

        # XLA drops what they do not need: no other weight is made.
        return jax.jit(values)(*inputs)

    def apply(leaves, inputs):
        outputs, updated = model.apply(
            unflatten(pieces.join(leaves)),
            *inputs,
            method=call,
            mutable=DenyList(("params", *frozen)),
            rngs=keys,
        )
        return arrays(output(outputs)), Pieces(flatten(meta.unbox(unfreeze(updated)))).leaves

    return PureModel("linen", pieces.leaves, (), TracedOnce(apply), initial)

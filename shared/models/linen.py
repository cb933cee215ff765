"""A Linen module as a pure function."""

import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
from flax import linen as nn
from flax.core import DenyList, meta, unfreeze

from shared.models.linen_training import switching
from shared.models.pure import Pieces, PureModel, arrays
from shared.models.sources import linen_sources
from shared.models.switches import Switches
from shared.program.traced_once import TracedOnce
from shared.trees import Place, flatten, unescape, unflatten

_STREAMS = ("params", "dropout")
# Linen's collections of what is there to be looked at; no model needs it.
TO_LOOK_AT = {"intermediates", "perturbations"}


def linen_model(
    model: nn.Module,
    inputs: tuple,
    call: Callable[..., Any],
    output: Callable[[Any], Any],
    *frozen: str,
    in_training: Callable[..., Any] | None = None,
    streams: Sequence[str] = (),
) -> PureModel:
    """`model` as a pure function. Allocates no weight.

    Args:
      model: the module.
      inputs: shapes and dtypes of a call.
      call: (module, *inputs) -> outputs.
      output: from outputs to what is compared.
      frozen: collections that the call cannot change.
      in_training: the call in training; without, `call` with all switches switched.
      streams: names of random numbers, beside those that Flax uses by itself.
    """
    named = dict.fromkeys((*_STREAMS, *streams))
    keys = {name: jax.random.key(i) for i, name in enumerate(named)}

    def kept(variables) -> dict[str, Any]:
        variables = meta.unbox(unfreeze(variables))
        return flatten({name: tree for name, tree in variables.items() if name not in TO_LOOK_AT})

    def first_call(*args):
        return model.init(keys, *args, method=call)

    traced: list[Pieces] = []
    axis_names: dict[str, tuple] = {}

    def init(leaves, inputs):
        boxed = first_call(*inputs)
        axis_names.update(_axis_names(boxed))
        variables = kept(boxed)
        traced.append(Pieces(jax.tree.map(_spec, variables)))
        return Pieces(variables).leaves

    made = TracedOnce(init)
    made.program({}, inputs)
    (pieces,) = traced

    def initial(paths: Collection[str], inputs: tuple) -> dict[str, Any]:
        def values(*args):
            leaves = made({}, args)
            return {path: leaves[path] for path in paths}

        # XLA drops what they do not need: no other weight is made.
        return jax.jit(values)(*inputs)

    def applied(called: Callable[..., Any], leaves, inputs):
        outputs, updated = model.apply(
            unflatten(pieces.join(leaves)),
            *inputs,
            method=called,
            mutable=DenyList(("params", *frozen)),
            rngs=keys,
        )
        return arrays(output(outputs)), Pieces(flatten(meta.unbox(unfreeze(updated)))).leaves

    evaluation, training = Switches(training=False), Switches(training=True)

    def apply(leaves, inputs):
        with nn.intercept_methods(switching(evaluation)):
            return applied(call, leaves, inputs)

    def apply_in_training(leaves, inputs):
        if in_training is not None:
            return applied(in_training, leaves, inputs)
        with nn.intercept_methods(switching(training)):
            return applied(call, leaves, inputs)

    return PureModel(
        "linen",
        pieces.leaves,
        (),
        TracedOnce(apply),
        initial,
        _places(pieces),
        init=made,
        in_training=TracedOnce(apply_in_training),
        switches=evaluation.off,
        axis_names=axis_names,
        sources=functools.cache(lambda: linen_sources(lambda: jax.eval_shape(first_call, *inputs))),
    )


def _axis_names(variables: Any) -> dict[str, tuple]:
    """{path: the name of each axis} of the variables in a box that says it."""
    boxes = {
        path: box
        for path, box in flatten(unfreeze(variables)).items()
        if isinstance(box, meta.AxisMetadata) and hasattr(box, "names")
    }
    return {path: tuple(box.names) for path, box in boxes.items()}


def _places(pieces: Pieces) -> dict[str, Place]:
    """Those of the arrays in a variable that holds several."""
    return {
        path: Place(tuple(map(unescape, of.split("/")[1:])), keys)
        for path, (of, keys) in pieces.inside.items()
        if keys
    }


def _spec(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype)

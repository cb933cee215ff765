"""The random draws of a pair, as leaves of its models."""

import dataclasses

import jax

from shared.models.pair import PurePair
from shared.models.pure import PureModel
from shared.program.draws import Draws, draws
from shared.program.traced_once import TracedOnce
from shared.verification.programs import called, program


def with_draws(pure: PurePair) -> PurePair:
    """`pure` with what its models draw among their leaves: numbers to be given, as weights are."""
    linen, nnx = (_with_draws(model, pure) for model in (pure.linen, pure.nnx))
    return dataclasses.replace(pure, linen=linen, nnx=nnx)


def _with_draws(model: PureModel, pure: PurePair) -> PureModel:
    traced = model.apply if isinstance(model.apply, TracedOnce) else TracedOnce(model.apply)
    with called(model, pure.inputs):
        closed, _ = traced.program(dict(model.leaves), pure.inputs)
    if not draws(closed):
        return model
    found = Draws(lambda: jax.tree.leaves(pure.sample_inputs(0, {})))
    drawing = dataclasses.replace(model, apply=traced, draws=found)
    program(traced, drawing, pure.inputs)
    leaves = {path: draw.spec for path, draw in found.found.items()}
    return dataclasses.replace(drawing, leaves={**model.leaves, **leaves})

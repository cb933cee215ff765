"""The random draws of a pair, as leaves of its models."""

import collections
import dataclasses
import itertools

import jax

from shared.models.pair import PurePair
from shared.models.pure import PureModel
from shared.program.draws import Draws, draws
from shared.program.traced_once import TracedOnce
from shared.verification.ported import Ported
from shared.verification.programs import called, program
from shared.weights.weight_map import Entry


def with_draws(pure: PurePair) -> PurePair:
    """`pure` with what its models draw among their leaves: numbers to be given, as weights are."""
    linen, nnx = (_with_draws(model, pure) for model in (pure.linen, pure.nnx))
    return dataclasses.replace(pure, linen=linen, nnx=nnx)


def of_one_key(ported: Ported) -> tuple[Entry, Entry, str] | None:
    """Two draws of one key, on one side alone: (one, the other, "linen" or "nnx").

    Draws of one shape that share a key are one draw. Of other shapes they are other numbers, and
    are not independent.
    """
    entries = [entry for entry in ported.entries if entry.by == "draw"]
    found = []
    for side, model in (("linen", ported.linen), ("nnx", ported.nnx)):
        of: dict[bytes, set[int]] = collections.defaultdict(set)
        for i, entry in enumerate(entries):
            view = getattr(entry, side)
            if model.draws is not None and not view.index:
                keys = model.draws.found[view.leaf].keys
                for key in keys.reshape(-1, keys.shape[-1]):
                    of[key.tobytes()].add(i)
        found.append({pair for s in of.values() for pair in itertools.combinations(sorted(s), 2)})
    for side, alone in (("nnx", found[1] - found[0]), ("linen", found[0] - found[1])):
        if alone:
            i, j = min(alone)
            return entries[i], entries[j], side
    return None


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

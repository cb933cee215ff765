"""What a Linen call sows: no weights, and no outputs where the call uses it by itself."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from flax import errors

from shared.models.linen import TO_LOOK_AT
from shared.models.pure import PureModel
from shared.program.trace import trace

# Collections that a model keeps from call to call.
KEPT = {"params", "batch_stats", "cache"}


def collections(model: PureModel) -> set[str]:
    """Those of the weights of `model`."""
    return {path.split("/")[0] for path in model.leaves}


def without_sown(model: PureModel, inputs: tuple, frozen: Callable[[str], PureModel]) -> PureModel:
    """`model` without the weights that its call makes: what it sows, such as losses.

    Linen's `init` returns them with the variables, for it makes a call.

    Args:
      model: Linen's model.
      inputs: shapes and dtypes of a call.
      frozen: makes the model with a collection in which nothing can be sown.
    """
    candidates = collections(model) - KEPT
    sown = _unused(model, inputs, candidates) if candidates else set()
    sown |= {name for name in candidates - sown if _is_sown(model, inputs, name, frozen)}
    model = dataclasses.replace(model, leaves=_without(model, sown))
    updates = _updates(model, inputs, model.leaves)
    made = {path.split("/")[0] for path in updates} - collections(model) - KEPT - TO_LOOK_AT
    used = {name for name in made if _is_used(model, inputs, frozen(name))}
    return dataclasses.replace(model, used_in_call=frozenset(used))


def _without(model: PureModel, names: set[str]) -> dict[str, Any]:
    return {path: leaf for path, leaf in model.leaves.items() if path.split("/")[0] not in names}


def _unused(model: PureModel, inputs: tuple, candidates: set[str]) -> set[str]:
    """Collections that no output needs and that a call makes."""
    graph, _ = trace(_outputs_of(model), model.leaves, inputs, unroll=False)
    found = candidates - {view.leaf.split("/")[0] for view in graph.views.values()}
    updates = _updates(model, inputs, _without(model, found))
    return found & {path.split("/")[0] for path in updates}


def _is_sown(
    model: PureModel, inputs: tuple, name: str, frozen: Callable[[str], PureModel]
) -> bool:
    """Whether a call does without a collection that it cannot change.

    Linen sows in silence where it cannot, but a variable has to be there.
    """
    try:
        _updates(frozen(name), inputs, _without(model, {name}))
    except errors.FlaxError:
        return False
    except Exception:
        return True  # it is the user's code that misses what it takes out of the collection
    return True


def _is_used(model: PureModel, inputs: tuple, frozen: PureModel) -> bool:
    """Whether the outputs are others where nothing can be sown."""
    try:
        graphs = [
            trace(_outputs_of(each), model.leaves, inputs, unroll=False)[0]
            for each in (model, frozen)
        ]
    except Exception:
        return True  # the user's code cannot do without it
    return len(graphs[0].nodes) != len(graphs[1].nodes)


def _updates(model: PureModel, inputs: tuple, leaves: Mapping[str, Any]) -> Mapping[str, Any]:
    """The shapes of what a call leaves, of the program that is traced once for all checks."""
    _, (_, updates) = model.apply.program(dict(leaves), inputs)
    return updates


def _outputs_of(model: PureModel) -> Callable[[Mapping[str, Any], tuple], Any]:
    return lambda leaves, inputs: model.apply(leaves, inputs)[0]

"""What a pair of models knows of checkpoints of both, and these do not tell by themselves."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from shared.checkpoint.options import Options
from shared.checkpoint.stored import Leaf, Leaves, nothing
from shared.checkpoint.tree.roles import LINEN, NNX
from shared.errors import during
from shared.trees import unflatten
from shared.weights.weight_map import WeightMap

if TYPE_CHECKING:
    from shared.models.pair import Pair
    from shared.models.pure_pair import PurePair

# What Orbax calls an empty one; one of a class with names is None to it.
_EMPTY: dict[type, str] = {dict: "Dict", list: "List", tuple: "Tuple"}


def options_of(pair: "Pair", pure: "PurePair", weights: WeightMap, **others: Any) -> Options:
    """What a pair tells of a conversion. No weight is allocated.

    Args:
      pair: a Linen model and its port.
      pure: both as pure functions, `shared.models.pure_pair.pure_pair` of it.
      weights: which weight is which, `shared.find_weight_map` of it.
      others: more of `Options`: `format`, `step`, `overwrite`.

    Raises:
      InputError: the pair's optimizer or state do not fit.
    """
    return Options(
        weights=weights,
        opt_state=opt_state_of(pair, pure.linen.leaves),
        random=tuple(path.removeprefix("rng/") for path in pure.nnx.rng_leaves),
        axis_names={LINEN: pure.linen.axis_names, NNX: pure.nnx.axis_names},
        **others,
    )


def opt_state_of(pair: "Pair", leaves: Mapping[str, Any]) -> Leaves | None:
    """What Orbax stores of the pair's optimizer below `opt_state`; None where the pair has none.

    Args:
      pair: a pair.
      leaves: {name: shape and dtype} of Linen's variables.
    """
    import jax

    if pair.optimizer is None:
        return None
    variables = unflatten(leaves)

    def state(variables: Any) -> Any:
        if pair.linen_state is not None:
            return pair.linen_state(variables, pair.optimizer).opt_state
        return pair.optimizer.init(variables.get("params", {}))

    with during("Pair.optimizer, of Linen"):
        made = jax.eval_shape(state, variables)
    flat, _ = jax.tree_util.tree_flatten_with_path(made, is_leaf=_is_empty)
    return {("opt_state", *map(_name, keys)): _leaf(value) for keys, value in flat}


def _is_empty(node: Any) -> bool:
    return node is None or (isinstance(node, tuple | list | dict) and not node)


def _name(key: Any) -> str | int:
    if hasattr(key, "idx"):
        return key.idx
    return str(getattr(key, "key", getattr(key, "name", None)))


def _leaf(value: Any) -> Leaf:
    import jax
    import numpy as np

    if _is_empty(value):
        return nothing(_EMPTY.get(type(value), "None"))
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        numbers = jax.eval_shape(jax.random.key_data, value)
        return Leaf(numbers.shape, numbers.dtype, "key")
    return Leaf(tuple(value.shape), np.dtype(value.dtype))

"""Both models of a pair as pure functions."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax

from shared.batch import seeded_inputs
from shared.cases import Case
from shared.errors import during
from shared.interface import Implementation, load_implementation
from shared.models.inputs import abstract_inputs, masks, sample_inputs
from shared.models.linen import linen_model
from shared.models.nnx import ARRAY, built, nnx_model
from shared.models.pair import Pair
from shared.models.pure import PureModel, described
from shared.models.sown import KEPT, collections, without_sown
from shared.models.training import Training, training_of
from shared.program.traced_once import TracedOnce
from shared.program.whole_numbers import WholeNumbers
from shared.trees import flatten, unflatten


@dataclasses.dataclass(frozen=True)
class PurePair:
    """Both models of a pair as pure functions, and what they are called on.

    Attributes:
      inputs: shapes and dtypes.
      sample_inputs: (seed, what the programs do with whole numbers) -> inputs to compute with.
      masks: the numbers, flat, of inputs that hold nothing but 0 and 1 although they are floating.
      port_with: makes the port with other weights: with what is at the paths of which a function
        says so, beside its own; None where it has nothing else.
      weight_map: as in `Pair`.
      is_loaded: whether initial values are replaced before they are used.
      has_training_call: whether the pair says how a model is called in training.
      training: both models with the pair's optimizer; None where it has none.
    """

    linen: PureModel
    nnx: PureModel
    inputs: tuple
    sample_inputs: Callable[[int, Mapping[int, WholeNumbers]], tuple]
    masks: frozenset[int] = frozenset()
    port_with: Callable[[Callable[[str], bool]], PureModel] | None = None
    weight_map: Mapping[str, str] = dataclasses.field(default_factory=dict)
    is_loaded: bool = False
    has_training_call: bool = False
    training: Training | None = None


def pure_pair(pair: Pair, linen: PureModel | None = None) -> PurePair:
    """`pair` without Flax's modules. Allocates no weight.

    Args:
      pair: the pair.
      linen: its Linen model, where that has been made before: of another port of one model.
    """
    inputs = abstract_inputs(pair.inputs)
    nnx_call, in_training = _calls(pair.nnx_call, pair.nnx_kwargs, pair.nnx_train_kwargs)
    linen = linen or _pure_linen(pair, inputs)
    # Where Linen has nothing of the kind, a table or a metric of the port is none of the weights.
    pinned = set(pair.weight_map.values())
    own = not collections(linen) - KEPT

    def is_fixed(path: str) -> bool:
        collection = path.split("/")[0]
        return (own or collection == ARRAY) and collection not in KEPT and path not in pinned

    def port_with(is_weight: Callable[[str], bool] = lambda path: False) -> PureModel:
        def is_no_weight(path: str) -> bool:
            return is_fixed(path) and not is_weight(path)

        return nnx_model(port, nnx_call, pair.nnx_output, is_no_weight, in_training)

    with during("Pair.nnx, called with nnx.Rngs"):
        port = built(pair.nnx, pair.streams)
    return PurePair(
        linen,
        port_with(),
        inputs,
        functools.partial(sample_inputs, pair.inputs),
        masks(pair.inputs),
        port_with,
        pair.weight_map,
        pair.initial == "loaded",
        not (pair.linen_train_kwargs is None and pair.nnx_train_kwargs is None),
        training_of(pair, port),
    )


Call = Callable[..., Any]


def _calls(
    given: Call | None, words: Mapping[str, Any], in_training: Mapping[str, Any] | None
) -> tuple[Call, Call | None]:
    """The call of a module, and that in training where the pair has words for it."""

    def with_words(words: Mapping[str, Any]) -> Call:
        return lambda module, *args: module(*args, **words)

    training = None if in_training is None else with_words({**words, **in_training})
    return given or with_words(words), training


def _pure_linen(pair: Pair, inputs: tuple) -> PureModel:
    """The Linen model, without what it sows, which its `init` returns with the variables."""
    call, in_training = _calls(pair.linen_call, pair.linen_kwargs, pair.linen_train_kwargs)
    with during(f"Linen's init and call on {described(inputs)}"):
        with_frozen = functools.partial(
            linen_model,
            pair.linen,
            inputs,
            call,
            pair.linen_output,
            in_training=in_training,
            streams=pair.streams,
        )
        return without_sown(with_frozen(), inputs, with_frozen)


def pure_case(case: Case, load: Callable[[str], Implementation] = load_implementation) -> PurePair:
    """The two implementations of a built-in case, which `load` finds by name."""

    def model(name: str) -> PureModel:
        implementation = load(name)
        init = functools.partial(implementation.init, case.params_case, seed=0)
        specs = flatten(jax.eval_shape(init))

        def apply(leaves, inputs):
            # What is drawn is among the leaves too.
            variables = {path: leaf for path, leaf in leaves.items() if path in specs}
            outputs, updates = implementation.apply(case, unflatten(variables), *inputs)
            return outputs, flatten(updates)

        def initial(paths, inputs):
            leaves = flatten(init())
            return {path: leaves[path] for path in paths}

        return PureModel(name, specs, (), TracedOnce(apply), initial)

    return PurePair(
        model("linen"),
        model("nnx"),
        jax.eval_shape(functools.partial(seeded_inputs, case, 0)),
        lambda seed, _: seeded_inputs(case, seed),
    )

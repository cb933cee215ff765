"""A Linen model with its NNX port, and both as pure functions."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from flax import linen as nn
from flax import nnx

from shared.batch import seeded_inputs
from shared.cases import Case
from shared.errors import InputError, during
from shared.interface import Implementation, load_implementation
from shared.models.inputs import abstract_inputs, masks, sample_inputs
from shared.models.linen import linen_model
from shared.models.nnx import ARRAY, built, nnx_model
from shared.models.pure import PureModel, described
from shared.models.sown import KEPT, collections, without_sown
from shared.models.training import Training, check_training, training_of
from shared.program.traced_once import TracedOnce
from shared.program.whole_numbers import WholeNumbers
from shared.trees import flatten, unflatten


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
        check_training(self)


def _are_names(given: Any) -> bool:
    return isinstance(given, tuple | list) and all(isinstance(name, str) for name in given)


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

"""Between NNX's idiom, a module that holds its variables, and plain trees."""

import importlib
from typing import Any

import jax
from flax import nnx

from nnx_impl.rngs import linen_rngs, linen_streams, native_rngs
from shared.batch import is_key
from shared.cases import Case
from shared.interface import COLLECTIONS, Init, Updates, Variables
from shared.trees import check_same_shapes

TYPES = (nnx.Param, nnx.BatchStat, nnx.Cache)  # those of COLLECTIONS, in its order


def init(case: Case, seed: int, init: Init = "linen") -> Variables:
    """The variables of `case`: {"params": {"layers": ...}}. See `shared.interface`."""
    rngs = {
        "linen": lambda: linen_rngs(seed, case.all_draws, case.num_scans, case.draws_outside),
        "native": lambda: native_rngs(seed),
    }[init]()
    return variables_of(build(case, rngs))


def apply(case: Case, variables: Variables, *inputs: jax.Array) -> tuple[Any, Updates]:
    """The outputs and updates of `case`. See `shared.interface`."""
    # A confused model cannot be made, only called: its graph is that of the case whose params fit.
    abstract = nnx.eval_shape(lambda: build(case.params_case, native_rngs(seed=0)))
    check_same_shapes(variables_of(abstract), variables)
    graphdef, *states = nnx.split(abstract, *TYPES)
    for name, state in zip(COLLECTIONS, states, strict=True):
        nnx.replace_by_pure_dict(state, variables.get(name, {}))
    model = nnx.merge(graphdef, *states)
    outputs = call(case, model, *inputs)
    updates = {name: tree for name, tree in variables_of(model).items() if name != "params"}
    return outputs, updates


def call(case: Case, model: nnx.Module, *inputs: jax.Array) -> Any:
    """The outputs of the module of `case`, which keeps what the call changes."""
    run = model_class(case).__call__ if case.call is None else getattr(pattern(case), case.call)
    args, streams = arguments(case, inputs)
    return run(model, *args, **streams)


def arguments(case: Case, inputs: tuple) -> tuple[tuple, dict[str, nnx.Rngs]]:
    """What the module is called with, and its random streams: Linen's."""
    named = list(zip(case.inputs, inputs, strict=True))
    args = tuple(value for row, value in named if not is_key(row))
    streams = {row.name: (value, row.draws, case.num_scans) for row, value in named if is_key(row)}
    return args, {"rngs": linen_streams(streams)} if streams else {}


def variables_of(model: nnx.Module) -> dict[str, Any]:
    """The variables of a model by collection, those that are empty left out."""
    trees = [nnx.to_pure_dict(nnx.state(model, kind)) for kind in TYPES]
    return {name: tree for name, tree in zip(COLLECTIONS, trees, strict=True) if tree}


def build(case: Case, rngs: nnx.Rngs) -> nnx.Module:
    """The module of `case`, with its variables."""
    # A variable whose axes are named is placed on the mesh when it is made: where there is one.
    with nnx.use_eager_sharding(not jax.sharding.get_abstract_mesh().empty):
        model = model_class(case)(**case.arguments, rngs=rngs)
    for row in case.inputs:
        if row.init_axes is not None:
            model.init_cache(case.init_shape(row))
    return model


def model_class(case: Case) -> Any:
    """The class of the module of `case`."""
    return getattr(pattern(case), case.model)


def pattern(case: Case) -> Any:
    """The file of `case`."""
    return importlib.import_module(f"nnx_impl.{case.pattern}")

"""Between NNX's idiom, a module that holds its variables, and plain trees."""

import importlib
from typing import Any

import jax
from flax import nnx

from nnx_impl.rngs import linen_rngs, native_rngs
from shared.cases import Case
from shared.interface import Init, Variables
from shared.trees import check_same_shapes


def init(case: Case, seed: int, init: Init = "linen") -> Variables:
    """The variables of `case`: {"params": {"layers": ...}}. See `shared.interface`."""
    rngs = {
        "linen": lambda: linen_rngs(seed, case.draws, case.num_scans),
        "native": lambda: native_rngs(seed),
    }[init]()
    model = build(case, rngs)
    return {"params": nnx.to_pure_dict(nnx.state(model, nnx.Param))}


def apply(case: Case, variables: Variables, x_batch: jax.Array) -> jax.Array:
    """The activation of `case`: (B, F) -> (B, F). See `shared.interface`."""
    # A confused model cannot be made, only called: its graph is that of the case whose params fit.
    abstract = nnx.eval_shape(lambda: build(case.params_case, native_rngs(seed=0)))
    graphdef, params = nnx.split(abstract, nnx.Param)
    check_same_shapes({"params": nnx.to_pure_dict(params)}, variables)
    nnx.replace_by_pure_dict(params, variables["params"])
    return model_class(case).__call__(nnx.merge(graphdef, params), x_batch)


def build(case: Case, rngs: nnx.Rngs) -> nnx.Module:
    """The module of `case`, with its variables."""
    return model_class(case)(**case.model_sizes, rngs=rngs)


def model_class(case: Case) -> Any:
    """The class of the module of `case`."""
    return getattr(importlib.import_module(f"nnx_impl.{case.pattern}"), case.model)

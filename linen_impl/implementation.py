"""Between Linen's idiom, a module that is applied to variables, and plain trees."""

import functools
import importlib
from typing import Any

import jax
from flax import linen as nn
from flax.core import meta

from linen_impl.rngs import linen_rngs, native_rngs
from shared.batch import is_key, zero_inputs
from shared.cases import Case
from shared.interface import COLLECTIONS, Init, Updates, Variables
from shared.trees import check_same_shapes


def init(case: Case, seed: int, init: Init = "linen") -> Variables:
    """The variables of `case`: {"params": {"Dense_0": ...}}. See `shared.interface`."""
    rngs = {"linen": linen_rngs, "native": native_rngs}[init](seed)
    args, streams = arguments(case, zero_inputs(case))
    model = build(case)
    if case.init and init == "linen":
        made = getattr(pattern(case), case.init)(model, rngs | streams, *args)
    else:
        made = model.init(rngs | streams, *args)
    variables = meta.unbox(made)
    return {name: variables[name] for name in COLLECTIONS if name in variables}


def apply(case: Case, variables: Variables, *inputs: jax.Array) -> tuple[Any, Updates]:
    """The outputs and updates of `case`. See `shared.interface`."""
    expected = jax.eval_shape(lambda: init(case.params_case, seed=0))
    check_same_shapes(expected, variables)
    return call(case, variables, *inputs)


def call(case: Case, variables: Variables, *inputs: jax.Array) -> tuple[Any, Updates]:
    """The outputs and updates of the module of `case`, whose variables fit."""
    model = build(case)
    if case.call is not None:
        return getattr(pattern(case), case.call)(model, variables, *inputs)
    args, streams = arguments(case, inputs)
    mutable = [name for name in variables if name != "params"]
    outputs, updates = model.apply(variables, *args, rngs=streams, mutable=mutable)
    if not case.in_parent:
        final, scanned = outputs
        outputs = final if scanned is None else (final, scanned)
    return outputs, updates


def arguments(case: Case, inputs: tuple) -> tuple[tuple, dict[str, jax.Array]]:
    """What the module is called with, and its random streams."""
    named = list(zip(case.inputs, inputs, strict=True))
    args = tuple(value for row, value in named if not is_key(row))
    streams = {row.name: value for row, value in named if is_key(row)}
    if not case.in_parent and len(args) == 1:
        args += (None,)  # nothing is scanned but the layers
    return args, streams


@functools.cache  # a class made anew would be compiled anew
def build(case: Case) -> nn.Module:
    """The module of `case`."""
    return getattr(pattern(case), case.model)(**case.arguments)


def pattern(case: Case) -> Any:
    """The file of `case`."""
    return importlib.import_module(f"linen_impl.{case.pattern}")

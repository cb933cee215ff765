"""Between Linen's idiom, a module that is applied to variables, and plain trees."""

import functools
import importlib

import jax
import jax.numpy as jnp
from flax import linen as nn

from linen_impl.rngs import linen_rngs, native_rngs
from shared.cases import Case
from shared.interface import Init, Variables
from shared.trees import check_same_shapes


def init(case: Case, seed: int, init: Init = "linen") -> Variables:
    """The variables of `case`: {"params": {"Dense_0": ...}}. See `shared.interface`."""
    rngs = {"linen": linen_rngs, "native": native_rngs}[init](seed)
    return build(case).init(rngs, jnp.zeros(case.input_shape), None)


def apply(case: Case, variables: Variables, x_batch: jax.Array) -> jax.Array:
    """The activation of `case`: (B, F) -> (B, F). See `shared.interface`."""
    expected = jax.eval_shape(lambda: init(case.params_case, seed=0))
    check_same_shapes(expected, variables)
    final, _ = build(case).apply(variables, x_batch, None)
    return final


@functools.cache  # a class made anew would be compiled anew
def build(case: Case) -> nn.Module:
    """The module of `case`."""
    constructor = getattr(importlib.import_module(f"linen_impl.{case.pattern}"), case.model)
    return constructor(**case.model_sizes)

"""What holds of a half-migrated model, whose stack draws by the rules of its own API."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx as flax_nnx
from helpers import assert_identical, random_batch, small

from linen_impl import bridge as in_linen
from nnx_impl import bridge as in_nnx
from shared.cases import CASES
from shared.linen_keys import fold_in_path

CASE = small(CASES["bridge"])
SIZES = (CASE.num_layers, CASE.features)
# Of the seed 7 both halves give their stack one key; each stack draws of it by its own rules.
KEY = fold_in_path(jax.random.key(7), "stack", 1)


def linen_stack():
    """The params of the Linen stack of the NNX half, made by Linen alone."""
    return in_nnx.Stack(*SIZES).init(KEY, jnp.zeros((1, CASE.features)), None)["params"]


def nnx_stack():
    """The params of the NNX stack of the Linen half, made by NNX alone."""
    stack = in_linen.Stack(*SIZES, rngs=flax_nnx.Rngs(params=KEY))
    return flax_nnx.to_pure_dict(flax_nnx.state(stack))


def test_a_stack_has_the_params_that_its_own_api_makes_of_the_key(linen, nnx):
    assert_identical(linen_stack(), nnx.init(CASE, 7)["params"]["stack"])
    assert_identical(nnx_stack(), linen.init(CASE, 7, init="native")["params"]["stack"])


def test_they_are_other_params(linen):
    kernels = linen_stack()["Dense_0"]["kernel"], nnx_stack()["layers"]["dense"]["kernel"]
    assert not np.any(kernels[0] == kernels[1])


def test_a_key_given_to_lazy_init_is_linens_and_rngs_are_folded_first():
    example, stack = jnp.zeros((1, CASE.features)), in_nnx.Stack(*SIZES)
    with_key = flax_nnx.bridge.ToNNX(stack).lazy_init(example, None, rngs=KEY)
    assert_identical(linen_stack(), flax_nnx.to_pure_dict(flax_nnx.state(with_key)))
    rngs = flax_nnx.Rngs(params=KEY)
    with_rngs = flax_nnx.bridge.ToNNX(stack, rngs=rngs).lazy_init(example, None)
    assert not np.any(with_rngs.Dense_0["kernel"][...] == linen_stack()["Dense_0"]["kernel"])


def test_before_a_first_call_a_wrapped_linen_stack_has_no_variables():
    stack = flax_nnx.bridge.ToNNX(in_nnx.Stack(*SIZES), rngs=flax_nnx.Rngs(0))
    assert not flax_nnx.state(stack, flax_nnx.Param)
    with pytest.raises(
        flax.errors.ScopeCollectionNotFound, match='"kernel" from collection "params"'
    ):
        stack(random_batch(CASE), None)


def test_a_linen_lift_around_a_wrapped_nnx_module_names_no_axis():
    """Its names are those of one layer, in silence, where Linen's own boxes raise or learn."""

    class Layer(flax_nnx.Module):
        def __init__(self, *, rngs):
            metadata = {"out_sharding": ("in", "out")}
            with flax_nnx.use_eager_sharding(False):
                self.dense = flax_nnx.Linear(5, 5, kernel_metadata=metadata, rngs=rngs)

        def __call__(self, x, _):
            return self.dense(x), None

    scan = nn.scan(
        flax_nnx.bridge.ToLinen,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=3,
        metadata_params={nn.PARTITION_NAME: "layers"},
    )
    variables = scan(Layer).init(jax.random.key(0), jnp.zeros(5), None)
    kernel = variables["params"]["dense"]["kernel"]
    assert kernel.value.shape == (3, 5, 5)
    assert kernel.metadata["out_sharding"] == ("in", "out")


def test_params_that_a_wrapped_nnx_stack_lacks_are_drawn_anew_in_silence(linen):
    """Linen raises. `linen_impl.implementation` compares the leaves before it applies."""
    model, x = in_linen.HalfMigrated(*SIZES), random_batch(CASE)
    params = linen.init(CASE, 7)["params"]
    received = model.apply({"params": {**params, "stack": {}}}, x)
    fresh = in_linen.Stack(*SIZES, rngs=flax_nnx.Rngs(default=0))
    assert_identical(fresh(x) * params["scale"], received)
    assert np.any(received != model.apply({"params": params}, x))
    with pytest.raises(flax.errors.ScopeParamNotFoundError):
        model.apply({"params": {"stack": params["stack"]}}, x)


def test_a_wrapped_nnx_stack_is_made_anew_at_each_call_and_jit_drops_its_draws(linen):
    model, params = in_linen.HalfMigrated(*SIZES), linen.init(CASE, 7)["params"]

    def call(params, x):
        return model.apply({"params": params}, x)

    args = params, random_batch(CASE)
    assert "random_bits" in str(jax.make_jaxpr(call)(*args))
    assert "threefry" not in jax.jit(call).lower(*args).as_text()

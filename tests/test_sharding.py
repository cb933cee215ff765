"""On eight devices: each leaf where its rules put it, the numbers and the program of one device.

The devices are those of processes of their own: see `on_devices.py`.
"""

import contextlib
import functools
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx as flax_nnx
from helpers import assert_identical
from jax.sharding import AxisType, PartitionSpec
from on_devices import CASE, PLACEMENTS, SEED

from linen_impl import sharding as linen_sharding
from nnx_impl import sharding as nnx_sharding
from shared import oracle
from shared.batch import seeded_batch

ROOT = Path(__file__).parent.parent
STACK = CASE.num_layers * CASE.features * CASE.features

# What one device holds of the bias (N, F) and of the kernel (N, F, F), and of the activation.
SHARDS = {
    "fsdp": ([[6, 16], [6, 2, 16]], [[1, 16]]),
    "tensor parallel": ([[6, 2], [6, 16, 2]], [[8, 16]]),
    "both": ([[6, 4], [6, 8, 4]], [[4, 16]]),
}

pytestmark = pytest.mark.xdist_group("devices")  # the fixtures are made once


@functools.cache
def printed_by(num_processes):
    """(return code, what is printed, errors) of each process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, str(ROOT / "tests" / "on_devices.py")]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with contextlib.ExitStack() as stack:
        workers = []
        for i in range(num_processes):
            # Files: one process would wait for room in a pipe, the other for that process.
            out, err = (stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(2))
            args = [*words, str(i), str(num_processes), str(port)]
            worker = subprocess.Popen(args, env=env, stdout=out, stderr=err)
            stack.callback(worker.kill)
            workers.append((worker, out, err))
        found = []
        for worker, out, err in workers:
            code = worker.wait(timeout=120)
            texts = [file.seek(0) or file.read() for file in (out, err)]
            found.append((code, *texts))
    return found


def on_devices(num_processes):
    """What each process saw."""
    for code, _, err in printed_by(num_processes):
        assert code == 0, err
    return [json.loads(out.splitlines()[-1]) for _, out, _ in printed_by(num_processes)]


@pytest.fixture(params=PLACEMENTS)
def placement(request):
    return request.param


@pytest.fixture(params=[1, pytest.param(2, marks=pytest.mark.thorough)], ids="processes={}".format)
def found(request, placement):
    """{"linen", "nnx": what it did}, of the first of the processes."""
    return on_devices(request.param)[0][placement]


def test_every_leaf_lies_where_the_rules_put_it(found, placement):
    for name in ("linen", "nnx"):
        params, activation = SHARDS[placement]
        assert found[name]["params"] == found[name]["gradients"] == params
        assert found[name]["activation"] == activation


def test_the_params_are_those_of_one_device(found, linen):
    expected = jax.tree.leaves(linen.init(CASE, SEED))
    for name in ("linen", "nnx"):
        received = [np.array(leaf, np.float32) for leaf in found[name]["values of params"]]
        assert_identical(expected, received)


def test_the_numbers_are_those_of_one_device(found, linen):
    variables, x = linen.init(CASE, SEED), seeded_batch(CASE, SEED).x
    activation, bound = oracle.forward(CASE, variables, x)
    loss = lambda variables: linen.apply(CASE, variables, x)[0].sum()  # noqa: E731
    gradients = jax.tree.leaves(jax.grad(loss)(variables))
    assert np.any(activation)
    for name in ("linen", "nnx"):
        assert np.all(np.abs(found[name]["values of activation"] - activation) <= bound)
        for a, b in zip(found[name]["values of gradients"], gradients, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


def test_both_are_the_same_program(found):
    assert found["linen"]["program"] == found["nnx"]["program"]
    assert found["linen"]["program"] != found["all gathered first"]["program"]
    for values in ("values of activation", "values of gradients"):
        assert found["linen"][values] == found["nnx"][values]


def test_no_device_ever_holds_the_whole_stack(found):
    for name in ("linen", "nnx"):
        sizes = found[name]["sizes of collectives"]
        assert sizes
        assert max(sizes) <= STACK / CASE.num_layers
    assert max(found["all gathered first"]["sizes of collectives"]) >= STACK


def test_gradients_of_fsdp_lie_whole_on_every_device_unless_they_are_placed():
    found = on_devices(1)[0]["fsdp"]
    for name in ("linen", "nnx"):
        assert found[name]["gradients left to XLA"] == [[6, 16], [6, 16, 16]]


@pytest.mark.thorough
def test_all_processes_see_the_same(placement):
    first, second = on_devices(2)
    assert first[placement] == second[placement]


def mesh_of_one(kind=AxisType.Auto):
    return jax.make_mesh((1, 1), ("data", "model"), axis_types=(kind,) * 2)


RULES = (("layers", None), ("in", "data"), ("out", "model"), ("features", None))


class Nameless(flax_nnx.Module):
    """A stack whose scan names no axis."""

    def __init__(self, rngs):
        create = lambda rngs: nnx_sharding.ShardedBlock(4, rngs=rngs)  # noqa: E731
        self.layers = flax_nnx.vmap(create, graph=False)(rngs.split(3))


def test_a_layer_axis_without_a_name_is_an_error_of_linen_and_silent_in_nnx():
    scan = nn.scan(
        linen_sharding.ShardedBlock,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=3,
    )
    with pytest.raises(
        flax.errors.PartitioningUnspecifiedError, match='"partition_name" is not specified'
    ):
        scan(features=4).init(jax.random.key(0), jnp.zeros(4), None)

    with flax_nnx.use_eager_sharding(False):
        kernel = Nameless(flax_nnx.Rngs(0)).layers.dense.kernel
    assert kernel.shape == (3, 4, 4)
    assert kernel.out_sharding == ("in", "out")
    with nn.logical_axis_rules(RULES):  # the layers lie where the rows should
        assert flax_nnx.get_partition_spec({"k": kernel})["k"].get_raw_value() == PartitionSpec(
            "data", "model"
        )


def test_with_its_name_both_say_the_same_of_each_leaf():
    linen = linen_sharding.Sharded(3, 4)
    boxed = jax.eval_shape(lambda: linen.init(jax.random.key(0), jnp.zeros((2, 4)), None))
    with flax_nnx.use_eager_sharding(False):
        dense = nnx_sharding.Sharded(3, 4, rngs=flax_nnx.Rngs(0)).layers.dense
    for name, axes in (("kernel", ("layers", "in", "out")), ("bias", ("layers", "out"))):
        assert boxed["params"]["Dense_0"][name].names == axes
        assert getattr(dense, name).out_sharding == axes


def test_nnx_places_a_variable_when_it_is_made_and_linen_when_it_is_told():
    with pytest.raises(ValueError, match="An auto mesh context or metadata is required"):
        nnx_sharding.Sharded(3, 4, rngs=flax_nnx.Rngs(0))
    linen_sharding.Sharded(3, 4).init(jax.random.key(0), jnp.zeros((2, 4)), None)


def test_axes_of_the_type_explicit_are_the_default_and_fail():
    mesh, x = jax.make_mesh((1, 1), ("data", "model")), jnp.zeros((2, 4))
    assert mesh.axis_types == (AxisType.Explicit,) * 2
    with nn.logical_axis_rules(RULES), jax.set_mesh(mesh):
        with pytest.raises(AssertionError, match="all axes of mesh are of type `Explicit`"):
            linen_sharding.Sharded(3, 4).init(jax.random.key(0), x, None)
        stack = nnx_sharding.Sharded(3, 4, rngs=flax_nnx.Rngs(0))
        with pytest.raises(AssertionError, match="all axes of mesh are of type `Explicit`"):
            stack(x)


def test_a_name_without_a_rule_is_an_error_of_nnx_and_whole_in_linen():
    rules = [rule for rule in RULES if rule[0] != "layers"]
    with nn.logical_axis_rules(rules):
        axes = ("layers", "in", "out")
        assert nn.logical_to_mesh_axes(axes) == PartitionSpec(None, "data", "model")
        with pytest.raises(ValueError, match=r"Resource axis: layers .* is not found in mesh"):
            nnx_sharding.init_sharded(0, 3, 4, mesh_of_one())


def test_of_two_rules_for_a_name_linen_takes_the_first_and_nnx_the_last():
    with nn.logical_axis_rules([*RULES, ("in", "model")]), flax_nnx.use_eager_sharding(False):
        assert nn.logical_to_mesh_axes(("in",)) == PartitionSpec("data")
        kernel = nnx_sharding.Sharded(3, 4, rngs=flax_nnx.Rngs(0)).layers.dense.kernel
        spec = flax_nnx.get_partition_spec({"k": kernel})["k"].get_raw_value()
        assert spec == PartitionSpec(None, "model", "model")


def test_a_call_follows_the_rules_that_hold_when_it_is_made():
    """JAX does not know of them: a scan that is made once would keep those of its first trace."""
    with flax_nnx.use_eager_sharding(False):
        graphdef, params = flax_nnx.split(nnx_sharding.Sharded(3, 4, rngs=flax_nnx.Rngs(0)))

    def is_placed(axis):
        rules = [rule for rule in RULES if rule[0] != "features"]
        with nn.logical_axis_rules([*rules, ("features", axis)]), jax.set_mesh(mesh_of_one()):
            call = jax.jit(lambda params, x: flax_nnx.merge(graphdef, params)(x))
            text = call.lower(params, jnp.zeros((2, 4))).as_text()
        return '[{"data"}, {"model"}]' in text

    assert not is_placed(None)
    assert is_placed("model")

"""Tied weights have one place in the tree and one gradient; what unties them, or stops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as flax_linen
from flax import nnx as flax_nnx
from helpers import assert_identical, random_batch, random_inputs, random_variables, run, small

from linen_impl.block import Block as LinenBlock
from nnx_impl.block import Block as NnxBlock
from shared.cases import CASES
from shared.cli import main


def test_one_layer_runs_as_a_stack_of_its_copies(linen):
    tied, shared = small(CASES["tied_layers"]), small(CASES["shared"])
    variables, x = random_variables(tied), random_batch(tied)
    copies = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (3, *leaf.shape)), variables)
    assert_identical(run(linen, shared, copies, (x,)), run(linen, tied, variables, (x,)))

    def loss(implementation, case):
        return jax.grad(lambda v: implementation.apply(case, v, x)[0].sum())

    of_copies = jax.tree.map(lambda leaf: leaf.sum(0), loss(linen, shared)(copies))
    one = loss(linen, tied)(variables)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), of_copies, one)


def test_a_table_gets_the_gradients_of_both_its_uses(linen):
    case = small(CASES["tied_embedding"])
    variables, inputs = random_variables(case), random_inputs(case)
    gradient = jax.grad(lambda v: linen.apply(case, v, *inputs)[0].sum())(variables)
    rows = np.asarray(gradient["params"]["Embed_0"]["embedding"])
    unused = np.setdiff1d(np.arange(11), inputs[0])
    assert unused.size
    assert np.all(rows[unused] == rows[unused[0]])  # that of the scores alone
    assert np.all(np.any(rows[inputs[0]] != rows[unused[0]], axis=1))


def test_linen_refuses_to_draw_anew_what_is_tied():
    scan = flax_linen.scan(
        LinenBlock, variable_broadcast="params", split_rngs={"params": True}, length=3
    )
    with pytest.raises(ValueError, match="broadcasted variable has a data dependency"):
        scan(features=5).init(jax.random.key(0), jnp.zeros(5), None)


class Untied(flax_nnx.Module):
    """One layer at two places of the tree."""

    def __init__(self):
        self.encoder = NnxBlock(5, rngs=flax_nnx.Rngs(0))
        self.decoder = self.encoder

    def __call__(self, x):
        return self.decoder(self.encoder(x))


def test_one_variable_at_two_places_is_two_leaves_of_a_tree():
    model = Untied()
    assert len(jax.tree.leaves(flax_nnx.state(model))) == 2
    assert len(jax.tree.leaves(model)) == 4  # `jax.grad` over it gives each place its own
    with pytest.raises(ValueError, match="does not support shared references"):
        flax_nnx.split(model, graph=False)


def test_an_embedding_of_nnx_keeps_the_dtype_that_it_was_made_with():
    tokens = jnp.zeros(4, jnp.int32)
    table = jnp.ones((11, 5), jnp.float16)
    y = flax_linen.Embed(11, 5).apply({"params": {"embedding": table}}, tokens)
    assert y.dtype == jnp.float16
    embed = flax_nnx.Embed(11, 5, rngs=flax_nnx.Rngs(0))
    embed.embedding.set_value(table)
    assert embed(tokens).dtype == jnp.float32


def test_tokens_are_in_no_file(capsys):
    assert main(["--impl=nnx", "--case=tied_embedding", "--input=x.npy"]) == 2
    assert "takes tokens (batch); leave --input out" in capsys.readouterr().err

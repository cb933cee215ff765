"""`verify` steps with a pair's own optimizer and step: right ones pass, mistakes are named.

Each kind of mistake has a right neighbour: written in the same way, without the mistake.
"""

import jax
import optax
import pytest
from planted_training_steps import (
    DECAYED,
    MISTAKES,
    NORM,
    RIGHT,
    SLOW,
    by_axes,
    mean_of_means,
    sharded,
    with_,
)

from shared import verify
from shared.errors import where_raised
from shared.report.result import PASSES, DifferentError
from tests.ports import trained
from tests.ports.trained import GIVEN, PLAIN, adamw


def checked(pair):
    """(what is found of a pair, its check of training)."""
    found = verify(pair, checks=("training",), samples=1)
    (check,) = (check for check in found.checks if check.name == "training")
    return found, check


@pytest.mark.thorough("Adam on rounding", "mean over shards")
@pytest.mark.parametrize("pair", RIGHT)
def test_what_is_trained_alike_passes(pair):
    found, check = checked(pair)
    assert found.verdict in PASSES, check
    assert check.status in PASSES
    assert check.note.startswith("5 steps of")


def test_one_program_for_both_is_bitwise_equal():
    assert checked(PLAIN)[1].status == "equal"


def rows():
    """The first of each kind is run, the others with --thorough."""
    kinds = set()
    for i, row in enumerate(MISTAKES):
        marks = SLOW if row[0] in kinds else ()
        kinds.add(row[0])
        yield pytest.param(*row[1:], id=f"{row[0]} {i}", marks=marks)


@pytest.mark.parametrize(("pair", "step", "leaf", "cause"), rows())
def test_a_mistake_is_named_with_step_and_leaf(pair, step, leaf, cause):
    found, check = checked(pair)
    assert (found.verdict, check.status) == ("different", "different"), check
    assert check.note.startswith(f"step {step}, {leaf}"), check.note
    assert cause in check.note
    assert check.worst_leaf.startswith(leaf)
    with pytest.raises(DifferentError, match=f"equal but for training: step {step}, "):
        found.raise_if_different()


def test_a_mask_by_the_number_of_axes_decays_the_norms_of_a_stack():
    _, check = checked(with_(GIVEN, optimizer=adamw(mask=by_axes), nnx_optimizer=adamw()))
    assert check.note.startswith(f"step 2, {NORM}")
    assert DECAYED in check.note


def test_a_norm_of_a_leaf_is_that_of_all_layers_of_a_stack():
    _, check = checked(with_(GIVEN, optimizer=optax.lamb(1e-2)))
    assert check.note.startswith("step 1, params/layers/")
    assert "of Linen is a stack: what an optimizer makes of a whole leaf" in check.note


def test_a_mask_by_the_last_key_of_a_path_is_an_error_in_nnx():
    def by_last_key(params):
        def is_kernel(path, _):
            return path[-1].key == "kernel"

        return jax.tree_util.tree_map_with_path(is_kernel, params)

    with pytest.raises(AttributeError, match="object has no attribute 'key'") as raised:
        verify(with_(PLAIN, optimizer=adamw(mask=by_last_key)), checks=("training",), samples=1)
    assert where_raised(raised.value) == "Pair.optimizer, in nnx.Optimizer"


def test_what_was_equal_where_they_part_is_said():
    _, check = checked(with_(PLAIN, nnx_step=sharded(mean_of_means)))
    assert check.note.endswith("on all 6 leaves; loss equal there")


def test_a_state_that_fits_no_map_is_not_compared_and_said():
    found, check = checked(with_(PLAIN, optimizer=optax.adafactor(1e-2)))
    assert found.verdict in PASSES
    assert "not compared of the optimizers' states: 0.v_col.first.bias" in check.note


def own_key(model, optimizer, x, labels):
    noise = jax.random.normal(jax.random.fold_in(jax.random.key(0), optimizer.step[...]), x.shape)
    return trained.nnx_step(model, optimizer, x + 0 * noise, labels)


def test_draws_of_keys_that_a_step_makes_are_said_not_to_be_compared():
    found, check = checked(with_(PLAIN, nnx_step=own_key))
    assert (found.verdict, check.status) == ("undecided", "undecided")
    assert "NNX draws of a key that its step makes by itself" in found.remark

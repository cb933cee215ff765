"""The table of Flax's layers: none is missing, cells say what is true, the page has each row."""

import pathlib

import flax.linen as nn
import pytest
from flax import nnx

from benchmarks.stock import answer, remedies, table
from benchmarks.stock.answer import Answer
from benchmarks.stock.answers import answers
from benchmarks.stock.words import folded, short

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "stock_layers.md"
ROWS = {row.name: row for row in table.ROWS}


def test_every_layer_that_both_have_has_a_row_or_a_reason():
    have_rows = {row.linen for row in table.ROWS}
    assert table.in_both() - have_rows - set(table.LEFT_OUT) == set()
    assert not have_rows & set(table.LEFT_OUT)
    assert {row.nnx for row in table.ROWS} >= table.classes(nnx, nnx.Module) - {
        *table.in_one()[1],
        *table.LEFT_OUT,
    }


def test_what_is_left_out_is_there_and_is_what_its_reason_says():
    for name in table.LEFT_OUT:
        assert hasattr(nn, name)
    whole = nn.MultiHeadDotProductAttention
    assert nn.MultiHeadAttention.__call__ is whole.__call__
    assert issubclass(nn.SelfAttention, whole)


def test_a_layer_of_one_library_is_in_no_row():
    for side, names in enumerate(table.in_one()):
        assert not {(row.linen, row.nnx)[side] for row in table.ROWS} & set(names)
    assert "LoRA" in table.in_one()[1]
    assert "ConvLSTMCell" in table.in_one()[0]


def test_a_layer_that_is_the_same():
    said = {
        question: each.words
        for question, each in answers(ROWS["Dense / Linear"], "bfloat16").items()
    }
    assert said == {
        answer.WEIGHTS: "one to one",
        answer.FORWARD: "identical",
        answer.GRADIENTS: "identical",
        answer.INITIAL: "identical",
    }


def test_dropout_has_a_training_mode_and_no_weights():
    said = {question: each.words for question, each in answers(ROWS["Dropout"], "float32").items()}
    assert said == {
        answer.WEIGHTS: "none",
        answer.FORWARD: "identical",
        answer.GRADIENTS: "identical",
        answer.TRAINING: "identical",
    }


def test_a_bias_that_nnx_has_not_is_named():
    said = answers(ROWS["GRUCell"], "float32")
    assert said[answer.WEIGHTS] == Answer("only in Linen: hn/bias", kind=answer.ALONE)
    assert said[answer.FORWARD].words == "not compared"
    assert said[answer.INITIAL].kind == answer.STARTED


@pytest.mark.thorough
def test_weights_that_the_call_changes_are_named():
    said = answers(ROWS["SpectralNorm"], "float32")
    assert said[answer.STATE] == Answer(
        "NNX changes weights in the call: layer_instance/kernel", kind=answer.OVERWRITTEN
    )
    assert {said[each].words for each in (answer.FORWARD, answer.TRAINING)} == {"equal"}
    assert said[answer.INITIAL].words.endswith("standard deviation 1 in Linen, 0.01 in NNX")


def test_a_layer_that_does_not_run_on_one_side_says_which():
    (row,) = (row for name, row in ROWS.items() if "init_cache" in name)
    said = answers(row, "bfloat16")
    assert said[answer.DECODE].words.startswith("NNX does not run: lax.dynamic_update_slice")
    assert said.keys() == {answer.DECODE}


def test_a_cell_names_the_dtypes_that_differ():
    same, close = Answer("identical"), Answer("close, {figure}", 0.25)
    closer = Answer("close, {figure}", 0.125)
    assert folded({"float32": same, "bfloat16": same, "float16": same}) == "identical"
    assert (
        folded({"float32": same, "bfloat16": closer, "float16": close})
        == "float32: identical; bfloat16, float16: close, 0.25"
    )
    assert (
        folded({"float32": closer, "bfloat16": close, "float16": None})
        == "float32: close, 0.12; bfloat16: close, 0.25; float16: -"
    )


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("only in Linen: params/hn/bias float32[5]", "only in Linen: hn/bias"),
        (
            "NNX computes convert_element_type (3, 5), Linen has nothing in its place",
            "NNX casts",
        ),
        ("params/kernel: bfloat16[4, 6] in Linen; more", "kernel: bfloat16 in Linen"),
    ],
)
def test_a_cell_has_no_shapes(said, words):
    assert short(said) == words


def test_the_page_has_every_row():
    first_cells = [
        line.split(" | ")[0][2:] for line in PAGE.read_text().splitlines() if line[:2] == "| "
    ]
    for row in (*table.ROWS, *remedies.ROWS):
        assert row.name in first_cells

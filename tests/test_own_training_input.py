"""An optimizer or a step that cannot be used is one line, that says what was expected."""

import dataclasses

import optax
import pytest

from shared import verify
from shared.cli import main
from shared.errors import InputError, where_raised
from tests.ports import trained
from tests.ports.trained import PLAIN


def raises(state, x, labels):
    return state, state.params["frist"]


BAD = {
    "received the function adam": {"optimizer": optax.adam},
    "received str": {"nnx_optimizer": "adam"},
    "give the steps of both sides": {"nnx_step": None},
    "Pair.optimizer: nnx_optimizer needs it": {"optimizer": None, "nnx_optimizer": optax.adam(1)},
    "step_inputs is for the steps": {"linen_step": None, "nnx_step": None},
    r"return \(state, loss\), it returns tuple of dict": {
        "linen_step": lambda state, x, labels: ({}, 0.0)
    },
    "return the loss, it returns None": {"nnx_step": lambda model, optimizer, x, labels: None},
    "it returns a, linen_step returns loss": {
        "nnx_step": lambda *given: {"a": trained.nnx_step(*given)}
    },
    "does not call the optimizer": {"linen_step": lambda state, x, labels: (state, 0.0)},
    "return a TrainState, it returns dict": {"linen_state": lambda variables, tx: {}},
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("said", BAD)
def test_what_cannot_be_used_is_one_line(said):
    with pytest.raises(InputError, match=said):
        verify(dataclasses.replace(PLAIN, **BAD[said]), checks=("training",), samples=1)


def test_what_a_step_raises_says_in_which():
    with pytest.raises(KeyError) as raised:
        verify(dataclasses.replace(PLAIN, linen_step=raises), checks=("training",), samples=1)
    assert where_raised(raised.value) == "Pair.linen_step"


FILE = """
import dataclasses
from tests.ports.trained import PLAIN

def step(model, optimizer, x, labels):
    return model.frist(x)

PAIR = dataclasses.replace(PLAIN, nnx_step=step)
"""


def test_what_a_step_raises_is_one_line_of_the_command(tmp_path, capsys):
    file = tmp_path / "pair.py"
    file.write_text(FILE)
    assert main(["verify", f"--pair={file}:PAIR", "--checks=training"]) == 3
    said = capsys.readouterr().err.strip().split("\n")[-1]
    assert said.endswith("no attribute 'frist', in Pair.nnx_step")
    assert f"{file}:6: return model.frist(x): AttributeError" in said

"""`composed-lifts train` as it is without flags."""

import json

import pytest

from shared.cli import main


# In a group of many tests, which is begun before single ones: it takes a minute.
@pytest.mark.xdist_group("transformer")
@pytest.mark.optimized
@pytest.mark.thorough
def test_the_default_run_predicts_better_than_a_trigram(capsys):
    assert main(["train", "--impl=nnx", "--format=json"]) == 0
    start, *_, last, _ = map(json.loads, capsys.readouterr().out.splitlines())
    assert last["step"] == start["config"]["steps"]
    assert last["validation"] < start["counted"]["trigram"] < start["counted"]["bigram"]

"""The JSON of the commands is a contract: `tests/json_documents/` holds its keys and types."""

import json
from pathlib import Path

import pytest

from shared.cli import main

HERE = Path(__file__).parent
RUNS = {
    "forward": ["forward", "--impl=linen", "--batch_size=2", "--features=3"],
    "verify_equal": ["verify", "--case=shared", "--samples=1"],
    "verify_different": ["verify", f"--pair={HERE}/ports/stacks.py:BACKWARDS", "--samples=1"],
}


def structure(value):
    """The keys of every object, and the types that stand under each."""
    if isinstance(value, dict):
        return {key: structure(item) for key, item in value.items()}
    if isinstance(value, list):
        return [merged([structure(item) for item in value])] if value else []
    return {str: "text", bool: "boolean", int: "number", float: "number"}.get(type(value), "null")


def merged(structures):
    """What fits all items of a list; the names of several types are joined."""
    first, *others = structures
    for other in others:
        if isinstance(first, dict) and isinstance(other, dict):
            assert list(first) == list(other)
            first = {key: merged([first[key], other[key]]) for key in first}
        elif first != other:
            assert isinstance(first, str)
            assert isinstance(other, str)
            first = "|".join(sorted({*first.split("|"), *other.split("|")}))
    return first


@pytest.mark.parametrize("name", RUNS)
def test_keys_and_types_stay(capsys, name):
    main([*RUNS[name], "--format=json"])
    document = json.loads(capsys.readouterr().out)
    expected = json.loads((HERE / "json_documents" / f"{name}.json").read_text())
    assert json.dumps(structure(document)) == json.dumps(expected)


def test_another_type_or_order_is_noticed():
    assert structure({"a": 1, "b": [1, None]}) == {"a": "number", "b": ["null|number"]}
    assert structure({"a": 1}) != structure({"a": "1"})
    assert json.dumps(structure({"a": 1, "b": 2})) != json.dumps(structure({"b": 2, "a": 1}))

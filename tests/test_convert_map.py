"""A weight map in a file is as good as the pair that it is of; one of another model is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pair_states import assert_same, held, save, values_like, variables_of
from pairs_to_convert import FUSED, STACK

from shared import WeightMap, find_weight_map
from shared.checkpoint.convert import convert
from shared.checkpoint.options import Options
from shared.cli import main
from shared.program.view import View
from shared.trees import escape, unflatten
from shared.weights.entry import Entry


@pytest.fixture(scope="module")
def weights():
    return find_weight_map(FUSED)


@pytest.fixture(scope="module")
def source(weights, tmp_path_factory):
    """Linen's variables, saved."""
    variables = variables_of(weights)
    return save(tmp_path_factory.mktemp("source") / "linen", variables)


def run(source, target, weights, capsys):
    """(exit code, the line on stderr) of `convert` with a map in a file."""
    code = main(
        ["convert", f"--source_path={source}", f"--target_path={target}", f"--weight_map={weights}"]
    )
    error = [line for line in capsys.readouterr().err.splitlines() if ": note: " not in line]
    assert len(error) == (code != 0)
    return code, "".join(error)


def test_a_map_that_was_saved_is_as_good_as_the_pair(weights, source, tmp_path, capsys):
    weights.save(str(tmp_path / "map.json"))
    assert run(source, tmp_path / "made", tmp_path / "map.json", capsys) == (0, "")
    convert(source, tmp_path / "expected", Options(weights=weights))
    assert_same(tmp_path / "made", tmp_path / "expected")
    (tmp_path / "made" / "MANIFEST.json").unlink()
    assert run(tmp_path / "made", tmp_path / "back", tmp_path / "map.json", capsys) == (0, "")
    assert_same(tmp_path / "back", source)


NAMES = ["w[0]", "conv(1)", "a.transpose(1, 0)", "a/b", "a.b", "~1", "value", "ü"]


def test_names_may_hold_what_a_map_is_written_with(tmp_path, capsys):
    spec = jax.ShapeDtypeStruct((2, 2), jnp.float32)
    linen = {f"params/{escape(name)}": spec for name in NAMES}
    port = {f"params/box/{escape(name)}": spec for name in NAMES}
    rows = [View("", part=((0, row, row + 1),)) for row in (0, 1)]
    entries = [
        Entry(dataclasses.replace(here, leaf=one), dataclasses.replace(there, leaf=other))
        for one, other in zip(linen, port, strict=True)
        for here, there in zip(rows, reversed(rows), strict=True)
    ]
    WeightMap(tuple(entries), linen, port).save(str(tmp_path / "map.json"))
    values = {name: np.float32([[i, i], [i, -i]]) for i, name in enumerate(NAMES, 1)}
    save(tmp_path / "linen", {"params": values})
    assert run(tmp_path / "linen", tmp_path / "nnx", tmp_path / "map.json", capsys) == (0, "")
    made = {path: array for path, (_, array) in held(tmp_path / "nnx").items()}
    assert made.keys() == {("box", name, "value") for name in NAMES}
    for name, array in values.items():
        np.testing.assert_array_equal(made["box", name, "value"], array[::-1])
    assert run(tmp_path / "nnx", tmp_path / "back", tmp_path / "map.json", capsys) == (0, "")
    assert_same(tmp_path / "back", tmp_path / "linen")


def test_a_map_of_another_model_says_of_each_leaf_what_does_not_fit(source, tmp_path, capsys):
    find_weight_map(STACK).save(str(tmp_path / "map.json"))
    code, error = run(source, tmp_path / "made", tmp_path / "map.json", capsys)
    assert code == 3
    assert f"{source} does not fit the weight map: " in error
    assert "params/out/kernel: in no entry of the map" in error
    assert "params/embed/embedding: missing, expected (7, 4) float32" in error
    assert not (tmp_path / "made").exists()


def test_a_leaf_of_another_shape_or_dtype_is_named(weights, tmp_path, capsys):
    values = values_like(weights.linen, 0)
    values["params/out/bias"] = np.zeros(9, np.float32)
    values["params/query/bias"] = np.zeros(4, np.float16)
    values["params/value/gamma"] = values.pop("params/value/scale")
    del values["tables/waves"]
    save(tmp_path / "source", unflatten(values))
    weights.save(str(tmp_path / "map.json"))
    code, error = run(tmp_path / "source", tmp_path / "made", tmp_path / "map.json", capsys)
    assert code == 3
    assert "params/out/bias: expected (6,), received (9,)" in error
    assert "params/query/bias: expected float32, received float16" in error
    assert "tables/waves: missing, expected (4,) float32" in error
    assert "scale: missing, expected (4,) float32 (renamed? params/value/gamma has its" in error


def test_of_many_problems_the_first_are_said_and_the_rest_counted(tmp_path, capsys):
    find_weight_map(STACK).save(str(tmp_path / "map.json"))
    save(tmp_path / "source", {"params": {f"w{i}": np.zeros(3, np.float32) for i in range(30)}})
    code, error = run(tmp_path / "source", tmp_path / "made", tmp_path / "map.json", capsys)
    assert code == 3
    assert error.count("in no entry of the map") + error.count(": missing") == 20
    assert "; and 19 more" in error


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a weight map"),
        ("{}", "not a weight map"),
        ("[1]", "not a weight map"),
        ('{"entries": 3}', "not a weight map"),
        ("\0", "not a weight map"),
    ],
)
def test_a_file_that_is_no_map_is_damaged(text, said, source, tmp_path, capsys):
    (tmp_path / "map.json").write_text(text)
    code, error = run(source, tmp_path / "made", tmp_path / "map.json", capsys)
    assert code == 5
    assert said in error
    assert "map.json" in error


def test_a_map_that_is_not_there_is_a_mistake_of_usage(source, tmp_path, capsys):
    code, error = run(source, tmp_path / "made", tmp_path / "none.json", capsys)
    assert code == 2
    assert "none.json" in error


def test_a_map_and_a_pair_are_one_too_many(source, tmp_path, capsys):
    words = [f"--source_path={source}", f"--target_path={tmp_path / 'made'}"]
    assert main(["convert", *words, "--weight_map=a.json", "--pair=b.py:PAIR"]) == 2
    assert "one of --pair" in capsys.readouterr().err


def test_of_two_variables_of_one_module_path_moments_are_of_the_param(tmp_path):
    spec = jax.ShapeDtypeStruct((3,), jnp.float32)
    linen = {"params/norm/scale": spec, "stats/norm/scale": spec}
    port = {"params/norm/scale": spec, "Stat/norm/running": spec}
    entries = tuple(Entry(View(one), View(other)) for one, other in zip(linen, port, strict=True))
    params, statistics = {"norm": {"scale": np.ones(3, np.float32)}}, np.zeros(3, np.float32)
    state = {
        "params": params,
        "stats": {"norm": {"scale": statistics}},
        "opt_state": [{"count": np.int32(1), "mu": params, "nu": params}],
        "step": np.int32(1),
    }
    save(tmp_path / "source", state)
    convert(
        tmp_path / "source", tmp_path / "made", Options(weights=WeightMap(entries, linen, port))
    )
    made = held(tmp_path / "made")
    assert ("optimizer", "opt_state", "0", "mu", "norm", "scale", "value") in made
    assert ("model", "norm", "running", "value") in made

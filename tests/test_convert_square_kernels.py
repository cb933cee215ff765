"""Row 25 of the table of bad inputs: square kernels in the wrong place, which no shape shows."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from ports import mlp
from refused import called, converted, save

from shared import find_weight_map
from shared.checkpoint.formats.table import open_checkpoint
from shared.program.layout import Step
from shared.program.view import View
from shared.trees import flatten

PAIR = f"--pair={Path(mlp.__file__)}:PAIR"
X = jax.random.normal(jax.random.key(1), (6, 8))
TURNED = (Step("transpose", (1, 0)),)


def swapped(weights, one, other):
    """A map in which two leaves of the port have changed places."""
    names = {f"params/{one}": f"params/{other}", f"params/{other}": f"params/{one}"}
    entries = [
        dataclasses.replace(entry, nnx=View(names.get(entry.nnx.leaf, entry.nnx.leaf)))
        for entry in weights.entries
    ]
    return dataclasses.replace(weights, entries=tuple(entries))


def turned(weights, name):
    """A map in which a leaf of the port is transposed."""
    entries = [
        dataclasses.replace(entry, nnx=View(entry.nnx.leaf, steps=TURNED))
        if entry.nnx.leaf == f"params/{name}"
        else entry
        for entry in weights.entries
    ]
    return dataclasses.replace(weights, entries=tuple(entries))


WRONG = {
    "layers in another order": (lambda w: swapped(w, "second/kernel", "third/kernel"), 2),
    "a transposed kernel": (lambda w: turned(w, "second/kernel"), 1),
}


@pytest.fixture(scope="module")
def linen():
    """Params of the model, and what it makes of a batch."""
    params = mlp.MLP().init(jax.random.key(0), X)
    return params, mlp.MLP().apply(params, X)


def output_of(path):
    """What the port makes of the same batch with the params of a checkpoint."""
    reader = open_checkpoint(path)
    port = mlp.Port(nnx.Rngs(2))
    state = nnx.to_pure_dict(nnx.state(port))
    for *names, name, _ in reader.leaves:
        node = state
        for each in names:
            node = node[each]
        node[name] = reader.read((*names, name, "value"))
    nnx.update(port, state)
    return port(X)


def saved(linen, path):
    return save(path, {name: np.asarray(x) for name, x in flatten(linen[0]).items()})


def test_with_a_pair_the_map_comes_from_the_programs(linen, tmp_path):
    source = saved(linen, tmp_path / "ck")
    converted(source, PAIR, target=tmp_path / "nnx")
    np.testing.assert_allclose(output_of(tmp_path / "nnx"), linen[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", WRONG)
def test_a_map_that_is_wrong_is_shown_by_the_outputs_and_by_compare(name, linen, tmp_path):
    change, count = WRONG[name]
    change(find_weight_map(mlp.PAIR)).save(tmp_path / "map.json")
    source = saved(linen, tmp_path / "ck")
    converted(source, f"--weight_map={tmp_path}/map.json", target=tmp_path / "nnx")
    assert np.abs(output_of(tmp_path / "nnx") - linen[1]).max() > 0.1
    words = (f"--ckpt_path_1={source}", f"--ckpt_path_2={tmp_path / 'nnx'}", PAIR)
    code, out, _ = called("compare", *words)
    assert code == 1
    assert "second/kernel" in out
    assert f"{count} different" in out, out

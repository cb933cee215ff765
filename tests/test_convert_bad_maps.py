"""What `convert` refuses because a weight map and a checkpoint do not fit, and what flags mend.

The name of each begins with its row in the table of bad inputs, see bad_input_rows.py.
"""

import json

import jax
import numpy as np
import pytest
from refused import DENSE, MODEL, assert_same_leaves, converted, numbers, refusal, save

from shared.checkpoint.formats.table import open_checkpoint
from shared.program.view import View
from shared.weights.entry import Entry
from shared.weights.weight_map import WeightMap

MOMENT = {f"opt_state/0/mu/{name.removeprefix('params/')}": x for name, x in DENSE.items()}


def spec(shape, dtype="float32"):
    return jax.ShapeDtypeStruct(shape, dtype)


def map_of(path, rows):
    """A weight map of (Linen's name, NNX's name, shape) below `params`."""
    weights = WeightMap(
        tuple(Entry(View(f"params/{a}"), View(f"params/{b}"), "user") for a, b, _ in rows),
        {f"params/{a.split('[')[0]}": spec(shape) for a, _, shape in rows},
        {f"params/{b.split('[')[0]}": spec(shape) for _, b, shape in rows},
    )
    weights.save(path)
    return path


ROWS = [
    ("dense/kernel", "fc/kernel", (2, 3)),
    ("dense/bias", "fc/bias", (3,)),
    ("out/kernel", "out/kernel", (3, 3)),
]


def without(tree, name):
    return {path: array for path, array in tree.items() if path != name}


def under(tree, old, new):
    return {path.replace(old, new): array for path, array in tree.items()}


MANY = [(f"m{i:03}/kernel", f"n{i}/kernel", (2, 3)) for i in range(60)]
MAPPED = {
    # name: (rows, tree, words)
    "20 one leaf less": (
        ROWS,
        without(MODEL, "params/dense/bias"),
        ["params/dense/bias: missing, expected (3,) float32; give another step, or a map of what"],
    ),
    "20 sixty less": (
        MANY,
        {"params/a": numbers(7)},
        ["params/m000/kernel: missing", "params/m019/kernel: missing", "; and 41 more;"],
    ),
    "20 another shape": (
        ROWS,
        {**MODEL, "params/out/kernel": numbers(3, 4)},
        ["params/out/kernel: expected (3, 3), received (3, 4); give a map or a pair"],
    ),
    "21 one more": (
        ROWS,
        {**MODEL, "params/head/kernel": numbers(5)},
        ["params/head/kernel: in no entry of the map; convert has --allow_extra, which carries"],
    ),
    "22 another name": (
        ROWS,
        under(MODEL, "dense", "Dense_0"),
        [
            "params/dense/bias: missing, expected (3,) float32 (renamed? params/Dense_0/bias has",
            "(renamed? params/Dense_0/kernel has its shape)",
            "; convert has --rename=OLD=NEW for other names",
        ],
    ),
    "24 another dtype": (
        ROWS,
        {name: array.astype(np.float16) for name, array in MODEL.items()},
        ["params/dense/bias: expected float32, received float16", "give a map or a pair of these"],
    ),
}


@pytest.mark.parametrize("name", MAPPED)
def test_what_does_not_fit_a_map(name, tmp_path):
    rows, tree, expected = MAPPED[name]
    weight_map = map_of(tmp_path / "map.json", rows)
    source = save(tmp_path / "ck", tree)
    code, line = refusal(tmp_path, source, f"--weight_map={weight_map}")
    assert code == 3
    for words in (f"{source} does not fit the weight map: ", *expected):
        assert words in line


BAD_MAPS = {
    # name: (rows, what is changed in the document, exit code, words)
    "20 no map": (ROWS, lambda d: d.clear(), 5, "not a weight map: it has no 'schema_version'"),
    "20 a newer map": (ROWS, lambda d: d.update(schema_version=2), 3, "of schema 2, this tool"),
    "20 no list": (ROWS, lambda d: d.update(entries=3), 5, "not a weight map"),
    "20 places that are none": (ROWS, lambda d: d.update(nnx_places=[1]), 5, "not a weight map"),
    "20 a part of nothing": (
        ROWS,
        lambda d: d["entries"][1].update(nnx="params/fc/bias[x]"),
        5,
        "not a weight map: params/fc/bias[x]: expected x to be a number, a range or a colon",
    ),
    "20 a length of no array": (
        ROWS,
        lambda d: d["nnx"]["params/fc/bias"].update(shape=[-3]),
        5,
        "params/fc/bias has the shape (-3,)",
    ),
    "20 a leaf in no entry": (
        ROWS,
        lambda d: d["entries"].pop(),
        3,
        "is not one-to-one: params/out/kernel: no part of it is named",
    ),
    "20 a leaf that is not listed": (
        ROWS,
        lambda d: d["linen"].pop("params/out/kernel"),
        3,
        "params/out/kernel is of no leaf that it lists",
    ),
    "20 a part left out": (
        ROWS,
        lambda d: (
            d["nnx"]["params/fc/bias"].update(shape=[9]),
            d["entries"][1].update(nnx="params/fc/bias[0:3]"),
        ),
        3,
        "params/fc/bias: its parts leave some of it out",
    ),
    "20 a part beyond the end": (
        ROWS,
        lambda d: d["entries"][1].update(nnx="params/fc/bias[4611686018427387904]"),
        3,
        "params/fc/bias[4611686018427387904] is no part of an array (3,)",
    ),
    "20 a part of another size": (
        ROWS,
        lambda d: d["entries"][1].update(nnx="params/fc/bias[0:2]"),
        3,
        "params/dense/bias (3,) cannot be params/fc/bias[0:2] (2,)",
    ),
    "23 two are one": (
        [*ROWS, ("other/bias", "fc/bias", (3,))],
        lambda d: None,
        3,
        "params/dense/bias is params/fc/bias, and params/other/bias is params/fc/bias",
    ),
    "23 one is two": (
        [*ROWS, ("dense/bias", "other/bias", (3,))],
        lambda d: None,
        3,
        "params/dense/bias is params/fc/bias, and params/dense/bias is params/other/bias",
    ),
}


@pytest.mark.parametrize("name", BAD_MAPS)
def test_a_map_that_is_none(name, tmp_path):
    rows, change, expected, words = BAD_MAPS[name]
    weight_map = map_of(tmp_path / "map.json", rows)
    document = json.loads(weight_map.read_text())
    change(document)
    weight_map.write_text(json.dumps(document))
    source = save(tmp_path / "ck", MODEL)
    code, line = refusal(tmp_path, source, f"--weight_map={weight_map}")
    assert (code, words in line) == (expected, True), line
    assert str(weight_map) in line


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"null", b"[" * 100_000])
def test_a_file_that_is_no_map(text, tmp_path):
    (tmp_path / "map.json").write_bytes(text)
    source = save(tmp_path / "ck", MODEL)
    code, line = refusal(tmp_path, source, f"--weight_map={tmp_path}/map.json")
    assert (code, "not a weight map" in line) == (5, True)


@pytest.mark.parametrize("by", ["weight map", "rule"])
def test_22_a_module_has_another_name(by, tmp_path):
    weight_map = map_of(tmp_path / "map.json", ROWS)
    flags = ["--rename=Dense_0=dense"] + [f"--weight_map={weight_map}"] * (by == "weight map")
    tree = {**under({**MODEL, **MOMENT}, "dense", "Dense_0"), "step": np.int32(3)}
    source = save(tmp_path / "ck", tree)
    converted(source, *flags, target=tmp_path / "nnx")
    reader = open_checkpoint(tmp_path / "nnx")
    new = "fc" if by == "weight map" else "dense"
    for name, array in DENSE.items():
        below = (new, name.split("/")[-1], "value")
        for above in (("model",), ("optimizer", "opt_state", "0", "mu")):
            np.testing.assert_array_equal(reader.read((*above, *below)), array)
    converted(tmp_path / "nnx", target=tmp_path / "back")
    assert_same_leaves(source, tmp_path / "back")


def test_21_what_is_extra_is_carried_along_and_comes_back(tmp_path):
    weight_map = map_of(tmp_path / "map.json", ROWS)
    source = save(tmp_path / "ck", {**MODEL, "params/head/kernel": numbers(5)})
    flags = (f"--weight_map={weight_map}", "--allow_extra", f"--report={tmp_path}/report.json")
    converted(source, *flags, target=tmp_path / "nnx")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["carried_along"] == ["linen_aux/params/head/kernel"]
    converted(tmp_path / "nnx", target=tmp_path / "back")
    assert_same_leaves(source, tmp_path / "back")

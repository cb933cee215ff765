"""What `convert` refuses because of its command line, or of the tree that a checkpoint holds.

The name of each begins with its row in the table of bad inputs, see bad_input_rows.py.
"""

import msgpack
import numpy as np
import pytest
from refused import (
    DENSE,
    MODEL,
    assert_same_leaves,
    convert,
    converted,
    key_of,
    numbers,
    refusal,
    save,
)

from shared.checkpoint.formats.table import open_checkpoint

COMMAND_LINES = {
    "4 source and target are one": (["--target_path={source}"], "are one, or one is within"),
    "4 target in the source": (["--target_path={source}/a"], "are one, or one is within"),
    "4 source in the target": (["--target_path={folder}"], "are one, or one is within"),
    "4 by a link": (["--source_path={folder}/link", "--target_path={source}/a"], "are one, or"),
    "4 pair and map": (["--pair=a.py:A", "--weight_map=a.json"], "give one of --pair="),
    "4 layers without a layout": (["--layers=layers"], "--layers needs --layer_layout="),
    "4 an axis without a layout": (["--param_scan_axis=1"], "needs --layer_layout="),
    "4 a layout beside a map": (
        ["--weight_map=a.json", "--layer_layout=stacked"],
        "--layer_layout is of a map by rule",
    ),
    "4 extra params without a map": (["--allow_extra"], "needs --pair or --weight_map"),
    "4 a report in the source": (["--report={source}/a.json"], "is in a checkpoint"),
    "4 a report in the target": (["--report={folder}/target/a.json"], "is in a checkpoint"),
    "4 a report for a manifest": (["--report={folder}/target.manifest.json"], "of its manifest"),
    "1 direction": (["--direction=nnx_to_linnen"], "did you mean nnx_to_linen?"),
    "1 format": (["--format=npz"], "expected one of orbax, safetensors, msgpack"),
    "1 flag": (["--overwritte"], "Did you mean: overwrite"),
    "2 step": (["--step=-1"], "--step=-1"),
    "2 dtype": (["--dtype=float32"], "expected one of bfloat16, "),
    "2 report": (["--report=a.txt"], "expected a name ending in .json"),
    "2 no source": (["--source_path="], "--source_path=PATH is missing"),
    "2 a path with a NUL": (["--target_path=a\0b"], "has a NUL in it"),
    "22 a name without another": (["--rename=dense"], "expected OLD=NEW"),
    "22 a name twice": (["--rename=a=b,a=c"], "each OLD once"),
    "20 no map": (["--weight_map=none.json"], "--weight_map=none.json: there is no such file"),
}


@pytest.mark.parametrize("name", COMMAND_LINES)
def test_a_command_line(name, tmp_path):
    flags, words = COMMAND_LINES[name]
    source = save(tmp_path / "ck", DENSE)
    (tmp_path / "link").symlink_to("ck")
    places = {"source": source, "folder": tmp_path}
    code, line = refusal(tmp_path, source, *(flag.format(**places) for flag in flags))
    assert code == 2
    assert words in line


def test_a_command_line_is_refused_before_the_source_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("shared.checkpoint.formats.table.open_checkpoint", None)
    for flags, _ in COMMAND_LINES.values():
        if not any("{" in flag for flag in flags):
            assert refusal(tmp_path, tmp_path / "none", *flags)[0] == 2


def layers(*names, **arrays):
    return {f"params/{name}/{leaf}": array for name in names for leaf, array in arrays.items()}


KERNEL = numbers(2, 2)
STACK = "--layer_layout=stacked"
TREES = {
    # name: (tree, flags, words)
    "17 no number": (
        {**DENSE, "params/dense/mask": numbers(0, 3)},
        [],
        "dense/mask/value: (0, 3) is an array without numbers, which Orbax cannot hold; leave it",
    ),
    "19 only None": ({"params/dense/kernel": None, "step": None}, [], "no parameters found; name"),
    "19 neither API": ({"w": KERNEL}, [], "it has w; say what it is with --direction="),
    "23 two collections": (
        {"params/norm/mean": numbers(2), "batch_stats/norm/mean": numbers(2)},
        [],
        "params/norm/mean and batch_stats/norm/mean would both be norm/mean; give --pair",
    ),
    "23 names with a dot": (
        {("params", "a.b"): KERNEL, ("params", "a", "b"): KERNEL},
        [],
        "a/b/value and a.b/value would both be stored as a.b.value, and one be lost; rename one",
    ),
    "23 a list beside its name": (
        layers("layers_0", "layers_1", "layers", kernel=KERNEL),
        [],
        "inside of the other; give it another name, --rename=layers=NAME, or --pair",
    ),
    "27 a gap": (
        layers("layers_0", "layers_2", kernel=KERNEL),
        [],
        "a list of layers has no gap; give one another name, --rename=layers_2=NAME, or --pair",
    ),
    "27 a bias less": (
        {**layers("layers_0", "layers_1", kernel=KERNEL), "params/layers_1/bias": numbers(2)},
        [STACK],
        "layer 1 has params/bias, layer 0 has not",
    ),
    "27 another shape": (
        {"params/layers_0/kernel": KERNEL, "params/layers_1/kernel": numbers(2, 3)},
        [STACK],
        "params/kernel is (2, 2) float32 in layer 0, (2, 3) float32 in layer 1",
    ),
    "27 another dtype": (
        {"params/layers_0/kernel": KERNEL, "params/layers_1/kernel": KERNEL.astype(np.float16)},
        [STACK],
        "params/kernel is (2, 2) float32 in layer 0, (2, 2) float16 in layer 1",
    ),
    "27 a list of one": (layers("layers_0", kernel=KERNEL), [], "layers_0 may be layers/0, a list"),
    "27 no layers": (DENSE, [STACK], "found none that can be told by name and shapes; name one"),
    "27 an axis that is none": (
        layers("layers_0", "layers_1", kernel=KERNEL),
        [STACK, "--param_scan_axis=5"],
        "layers cannot be stacked along its axis 5; give another --param_scan_axis",
    ),
    "30 moments of some layers alone": (
        {
            **layers("layers_0", "layers_1", kernel=KERNEL),
            "opt_state/0/mu/layers_0/kernel": KERNEL,
            "step": np.int32(3),
        },
        [STACK],
        "opt_state/0/mu has nothing for params/layers_1/kernel, and has for params/layers_0/kernel",
    ),
    "30 factored moments in another layout": (
        {
            **layers("layers_0", "layers_1", kernel=KERNEL),
            **{f"opt_state/0/v_row/layers_{i}/kernel": numbers(2) for i in range(2)},
            "step": np.int32(3),
        },
        [STACK],
        "opt_state/0/v_row/layers_0/kernel is (2,), its param (2, 2): what it is where",
    ),
    "30 more steps than can be counted": (
        {**DENSE, "step": np.int64(2**40)},
        [],
        "step is 1099511627776, which uint32 cannot hold",
    ),
    "31 a variable of no kind that is known": (
        {
            **{f"model/{name[7:]}/value": array for name, array in DENSE.items()},
            **{f"optimizer/opt_state/0/mu/{n[7:]}/value": x for n, x in DENSE.items()},
            "optimizer/step/value": np.uint32(3),
            "model/dense/count/value": numbers(1),
        },
        [],
        "none of dense/count: are they params that are not trained, or of another collection?",
    ),
    "22 no such module": (DENSE, ["--rename=Dense_0=dense"], "Dense_0 is not there; did you mean"),
    "22 a name that is taken": (
        MODEL,
        ["--rename=out=dense"],
        "params/dense/kernel and params/out/kernel would both be params/dense/kernel",
    ),
}


# What Orbax itself cannot hold.
OTHERWISE = {"17 no number": "msgpack", "19 only None": "msgpack", "23 names with a dot": "msgpack"}


@pytest.mark.parametrize("name", TREES)
def test_a_tree(name, tmp_path):
    tree, flags, words = TREES[name]
    source = save(tmp_path / "ck", tree, OTHERWISE.get(name, "orbax"))
    code, line = refusal(tmp_path, source, *flags)
    assert (code, words in line) == (3, True), line
    assert line.startswith(str(source))
    if "which uint32" not in words:  # that is known when it is read
        assert refusal(tmp_path, source, *flags, "--dry_run") == (code, line)


def packed(folder, tree):
    path = folder / "ck.msgpack"
    path.write_bytes(msgpack.packb(tree))
    return path


NOT_TREES = {
    "19 an empty dict": ({}, "no parameters found; name a folder that holds a state"),
    "19 an empty state": ({"params": {}}, "no parameters found"),
    "28 a name that leads up": ({"params": {"..": 1.0}}, "params: the name '..' is refused"),
    "28 out of a folder": ({"params": {"../a": 1.0}}, "the name '../a' is refused: it could leave"),
    "28 an absolute name": ({"params": {"/a": 1.0}}, "params: the name '/a' is refused"),
    "28 a NUL": ({"params": {"a\0b": 1.0}}, r"the name 'a\x00b' is refused"),
}


@pytest.mark.parametrize("name", NOT_TREES)
def test_what_is_no_tree_of_names(name, tmp_path):
    tree, words = NOT_TREES[name]
    code, line = refusal(tmp_path, packed(tmp_path, tree))
    assert (code, words in line) == (3, True), line


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_29_a_key_keeps_its_implementation_in_every_format(impl, tmp_path):
    count = {"threefry2x32": 2, "rbg": 4}[impl]
    source = save(tmp_path / "ck", {**DENSE, "step": np.int32(1), "key": key_of(impl, count)})
    for form in ("orbax", "safetensors", "msgpack"):
        _, notes = converted(source, f"--format={form}", target=tmp_path / form)
        assert any("1 PRNG keys are plain numbers" in note for note in notes) == (form != "orbax")
        converted(tmp_path / form, target=tmp_path / f"{form}_back")
        assert_same_leaves(source, tmp_path / f"{form}_back")


def test_29_numbers_of_a_key_stay_numbers(tmp_path):
    source = save(tmp_path / "ck", {**DENSE, "step": np.int32(1), "key": numbers(2, dtype="u4")})
    converted(source, target=tmp_path / "nnx")
    assert open_checkpoint(tmp_path / "nnx").leaves["key", "value"].kind == "array"


def test_one_line_says_all_of_a_tree_that_cannot_be_written(tmp_path):
    """Before the lock and the target are touched: a dry run says the same."""
    tree = {("params", "a.b"): KERNEL, ("params", "a", "b"): KERNEL}
    source = save(tmp_path / "ck.msgpack", tree, "msgpack")
    (tmp_path / "target").mkdir()
    assert refusal(tmp_path, source)[0] == 3
    code, _, _ = convert(source, "--format=msgpack", target=tmp_path / "other")
    assert code == 0

"""A mistake is answered by one line, the right exit code, and nothing else."""

import io
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from numpy.lib import format as npy

from shared.cli import main
from shared.files import limits, read_array


def answer(capsys, *words):
    """(exit code, the line on stderr) of a run that must fail cleanly."""
    code = main(words)
    out, err = capsys.readouterr()
    assert code != 0
    assert out == ""
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert last.startswith("composed-lifts: error: ")
    assert err.count("composed-lifts: error:") == 1
    return code, last


USAGE = {
    "wrong impl": (["--impl=torch"], "flag --impl=torch: expected one of linen, nnx"),
    "near impl": (["--impl=nxx"], "did you mean nnx?"),
    "no impl": ([], "--impl is missing"),
    "near flag": (["--imlp=nnx"], "Unknown command line flag 'imlp'. Did you mean: impl"),
    "flag of another command": (["layout", "--impl=nnx"], "Unknown command line flag 'impl'"),
    "near command": (["fowrard"], "did you mean forward?; commands are forward, layout, verify"),
    "unknown command": (["zzz"], "unknown command 'zzz'; commands are forward, layout, verify"),
    "extra word": (["--impl=nnx", "layout"], "unexpected argument 'layout'"),
    "wrong case": (["--impl=nnx", "--case=ensembel"], "did you mean ensemble?"),
    "wrong init": (["--impl=nnx", "--init=zeros"], "expected one of linen, native"),
    "wrong format": (["--impl=nnx", "--format=xml"], "expected one of text, json"),
    "no layer": (["--impl=nnx", "--num_layers=0"], "--num_layers=0"),
    "negative layers": (["--impl=nnx", "--num_layers=-1"], "--num_layers=-1"),
    "layers in words": (["--impl=nnx", "--num_layers=1e9"], "--num_layers=1e9"),
    "no feature": (["--impl=nnx", "--features=0"], "--features=0"),
    "half a feature": (["--impl=nnx", "--features=2.5"], "--features=2.5"),
    "negative batch": (["--impl=nnx", "--batch_size=-1"], "--batch_size=-1"),
    "negative seed": (["--impl=nnx", "--seed=-1"], "--seed=-1"),
    "seed past 32 bits": (["--impl=nnx", "--seed=4294967296"], "--seed=4294967296"),
    "absurd layers": (["--impl=nnx", "--num_layers=1000000000"], "the limit is 4 GiB"),
    "absurd features": (["--impl=nnx", "--features=1000000"], "the params would take"),
    "absurd batch": (["--impl=nnx", "--batch_size=1000000000"], "the batch would take"),
    "absurd layout": (["layout", "--features=10000000"], "the params would take"),
    "empty output": (["--impl=nnx", "--output="], "ending in .npy or .csv"),
    "value of a switch": (["--impl=nnx", "--noverbose=3"], "verbose"),
    "output of another kind": (["--impl=nnx", "--output=a.txt"], "ending in .npy or .csv"),
}


@pytest.mark.parametrize("name", USAGE)
def test_usage(name, capsys):
    words, message = USAGE[name]
    code, line = answer(capsys, *words)
    assert code == 2
    assert message in line


def npy_bytes(array):
    buffer = io.BytesIO()
    npy.write_array(buffer, np.asarray(array))
    return buffer.getvalue()


def npy_with_header(header, body=b"\0" * 64):
    text = header.encode() + b"\n"
    return npy.magic(1, 0) + len(text).to_bytes(2, "little") + text + body


def header(descr="'<f4'", shape="(4, 4)"):
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


def npz_bytes(members, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


ONES = np.ones((4, 3), np.float32)
NPZ = npz_bytes([("a.npy", npy_bytes(ONES)), ("b.npy", npy_bytes(ONES))])
FLIPPED = bytearray(npz_bytes([("a.npy", npy_bytes(ONES))]))
FLIPPED[200] ^= 1

FILES = {
    # name: (file, content, exit code, message)
    "one example": (
        "x.npy",
        npy_bytes(np.ones(4)),
        3,
        "expected (batch, features), received (4,); for one example, reshape it to (1, 4)",
    ),
    "scalar": ("x.npy", npy_bytes(np.float32(1)), 3, "expected (batch, features), received ()"),
    "three axes": ("x.npy", npy_bytes(np.ones((2, 3, 4))), 3, "received (2, 3, 4)"),
    "no feature": ("x.npy", npy_bytes(np.ones((3, 0))), 3, "at least one feature"),
    "integers": ("x.npy", npy_bytes(np.ones((4, 3), int)), 3, "received int64"),
    "bool": ("x.npy", npy_bytes(np.ones((4, 3), bool)), 3, "received bool"),
    "complex": ("x.npy", npy_bytes(np.ones((4, 3), complex)), 3, "received complex128"),
    "text": ("x.npy", npy_bytes(np.array([["a"]])), 3, "received str"),
    "dates": ("x.npy", npy_bytes(np.array([["2026-01-01"]], "M8[D]")), 3, "received datetime64"),
    "records": ("x.npy", npy_bytes(np.zeros((4, 3), [("a", "f4")])), 3, "received void"),
    "bfloat16": ("x.npy", npy_bytes(np.zeros((4, 3), "V2")), 3, "bfloat16 is stored so"),
    "long double": (
        "x.npy",
        npy_bytes(np.ones((4, 3), np.longdouble)),
        3,
        "expected float16, float32 or float64",
    ),
    "objects": (
        "x.npy",
        npy_with_header(header("'|O'")),
        3,
        "contains Python objects, which could run code",
    ),
    "pickle": ("x.npy", b"\x80\x04K\x01.", 3, "looks like a pickle"),
    "text called npy": (
        "x.npy",
        b"1,2,3\n",
        3,
        "not a NumPy file (first bytes b'1,2,3\\n'); if it is text, name it .csv",
    ),
    "zip called npy": ("x.npy", NPZ, 3, "name it .npz"),
    "empty npy": ("x.npy", b"", 3, "it is empty"),
    "html called npz": ("x.npz", b"<html>", 3, "not a NumPy .npz archive (first bytes b'<html>')"),
    "header of 4 TB": (
        "x.npy",
        npy_with_header(header(shape="(1000000, 1000000)")),
        3,
        "4,000,000,000,000 bytes; the file has 64",
    ),
    "header past 64 bits": (
        "x.npy",
        npy_with_header(header(shape="(99999999999999999999, 9)")),
        3,
        "every length must be",
    ),
    "negative length": (
        "x.npy",
        npy_with_header(header(shape="(-4, 4)")),
        3,
        "every length must be",
    ),
    "no byte, but wide": (
        "x.npy",
        npy_with_header(header(shape="(0, 99999999999)"), b""),
        3,
        "every length must be",
    ),
    "no byte, but 4 GiB of params": (
        "x.npy",
        npy_with_header(header(shape="(0, 50000000)"), b""),
        3,
        "the params would take",
    ),
    "length True": (
        "x.npy",
        npy_with_header(header(shape="(True, 16)")),
        3,
        "every length must be",
    ),
    "length of 40 digits": (
        "x.npy",
        npy_with_header(header(shape=f"({'9' * 40}, 0)"), b""),
        3,
        "every length must be",
    ),
    "70 axes": ("x.npy", npy_with_header(header(shape=f"({'1, ' * 70})")), 3, "70 axes"),
    "header too deep": ("x.npy", npy_with_header("-" * 9000 + "1"), 5, "its header cannot be read"),
    "header that is no dict": ("x.npy", npy_with_header("[1, 2]"), 5, "its header cannot be read"),
    "header that is code": (
        "x.npy",
        npy_with_header("__import__('os').system('false')"),
        5,
        "its header cannot be read",
    ),
    "header cut": ("x.npy", npy_bytes(ONES)[:20], 5, "its header cannot be read"),
    "body cut": ("x.npy", npy_bytes(ONES)[:-7], 5, "48 bytes, but 41 follow"),
    "body too long": ("x.npy", npy_bytes(ONES) + b"more", 5, "4 bytes after the end"),
    "format 3.0": ("x.npy", npy.magic(3, 0) + b"\0" * 99, 3, "NumPy format 3.0"),
    "format 9.9": ("x.npy", npy.magic(9, 9) + b"\0" * 99, 3, "NumPy format 9.9"),
    "several arrays": ("x.npz", NPZ, 3, "holds 2 arrays; pick one as"),
    "no array": ("x.npz", npz_bytes([]), 3, "holds no array"),
    "archive cut": ("x.npz", NPZ[:-30], 5, "truncated"),
    "archive damaged": ("x.npz", bytes(FLIPPED), 5, "damaged archive: Bad CRC-32"),
    "member of another kind": (
        "x.npz",
        npz_bytes([("a.txt", b"hello, world")]),
        3,
        "not a NumPy file",
    ),
    "text in a cell": (
        "x.csv",
        b"a,b\n1,2\n3,four\n",
        3,
        "row 3, column 2: expected a number, received 'four'",
    ),
    "half a header": (
        "x.csv",
        b"a,2\n1,2\n",
        3,
        "row 1, column 1: expected a number, received 'a'",
    ),
    "only empty cells first": (
        "x.csv",
        b",\n1,2\n",
        3,
        "row 1, column 1: expected a number, received ''",
    ),
    "missing values first": (
        "x.csv",
        b"NA,NA\n1,2\n",
        3,
        "row 1, column 1: expected a number, received 'NA'",
    ),
    "empty cell": ("x.csv", b"1,2\n3,\n", 3, "row 2, column 2: expected a number, received ''"),
    "underscore": ("x.csv", b"1,2\n3,1_0\n", 3, "received '1_0'"),
    "ragged": ("x.csv", b"1,2\n3\n", 3, "row 2 has 1 cells, the first has 2"),
    "header only": ("x.csv", b"a,b\n", 3, "holds no row of numbers"),
    "empty csv": ("x.csv", b"", 3, "holds no row of numbers"),
    "not utf-8": ("x.csv", b"1,2\n\xff\xfe,4\n", 3, "not a CSV text"),
    "another suffix": ("x.parquet", b"PAR1", 3, "expected a file named .npy, .npz, .csv"),
}


@pytest.mark.parametrize("name", FILES)
def test_input_file(name, tmp_path, capsys):
    file, content, expected, message = FILES[name]
    (tmp_path / file).write_bytes(content)
    output = tmp_path / "out.npy"
    code, line = answer(capsys, "--impl=nnx", f"--input={tmp_path / file}", f"--output={output}")
    assert code == expected, line
    assert message in line
    assert file in line
    assert os.listdir(tmp_path) == [file]


def test_width_against_features(tmp_path, capsys):
    np.save(tmp_path / "x.npy", ONES)
    code, line = answer(capsys, "--impl=nnx", f"--input={tmp_path}/x.npy", "--features=4")
    assert code == 3
    for words in ("x.shape[-1] is 3", "--features=4", "carries from layer to layer"):
        assert words in line


def test_contradictions_are_found_before_anything_is_done(tmp_path, capsys):
    np.save(tmp_path / "x.npy", ONES)
    source = f"--input={tmp_path}/x.npy"
    code, line = answer(capsys, "--impl=nnx", source, "--batch_size=5")
    assert (code, "holds 4 examples" in line) == (2, True)
    (tmp_path / "y.npy").symlink_to(tmp_path / "x.npy")
    code, line = answer(capsys, "--impl=nnx", source, f"--output={tmp_path}/y.npy")
    assert (code, "is the --input itself" in line) == (2, True)
    assert np.array_equal(np.load(tmp_path / "x.npy"), ONES)


def test_missing_input(tmp_path, capsys):
    for place, message in (("none.npy", "does not exist"), ("dir.npy", "is not a regular file")):
        (tmp_path / "dir.npy").mkdir(exist_ok=True)
        code, line = answer(capsys, "--impl=nnx", f"--input={tmp_path / place}")
        assert (code, message in line) == (3, True)


@pytest.mark.parametrize(
    ("key", "message"),
    [("c", "holds 0 arrays called 'c'; it has a, b"), ("../a", "holds 0 arrays")],
)
def test_npz_key(tmp_path, capsys, key, message):
    (tmp_path / "x.npz").write_bytes(NPZ)
    code, line = answer(capsys, "--impl=nnx", f"--input={tmp_path}/x.npz:{key}")
    assert (code, message in line) == (3, True)


@pytest.mark.filterwarnings("ignore:Duplicate name")  # that is the point
def test_npz_with_one_name_twice(tmp_path, capsys):
    twice = npz_bytes([("a.npy", npy_bytes(ONES)), ("a.npy", npy_bytes(-ONES))])
    (tmp_path / "x.npz").write_bytes(twice)
    code, line = answer(capsys, "--impl=nnx", f"--input={tmp_path}/x.npz:a")
    assert (code, "holds 2 arrays called 'a'" in line) == (3, True)


def test_npz_that_unpacks_to_too_much(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(limits, "MAX_BYTES", 10_000)
    monkeypatch.setattr(limits, "MAX_NPZ_MEMBERS", 3)
    bomb = npz_bytes([("a.npy", b"\0" * 20_000)], zipfile.ZIP_DEFLATED)
    assert len(bomb) < 1000
    (tmp_path / "x.npz").write_bytes(bomb)
    code, line = answer(capsys, "--impl=nnx", f"--input={tmp_path}/x.npz")
    assert (code, "unpacks to 20,000 bytes" in line) == (3, True)
    (tmp_path / "x.npz").write_bytes(npz_bytes([(f"{i}.npy", b"") for i in range(4)]))
    code, line = answer(capsys, "--impl=nnx", f"--input={tmp_path}/x.npz")
    assert (code, "4 members, the limit is 3" in line) == (3, True)


def test_output_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.npy").mkdir()
    for place in ("none/out.npy", "file/out.npy", "folder.npy"):
        code, line = answer(capsys, "--impl=nnx", f"--output={tmp_path / place}")
        assert (code, f"--output={tmp_path / place}" in line) == (4, True)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.npy"]


def test_output_of_a_read_only_place(capsys):
    code, line = answer(capsys, "--impl=nnx", "--output=/proc/out.npy")
    assert (code, "cannot be written" in line) == (4, True)


@pytest.mark.parametrize("fails", ["os.fsync", "os.replace", "shared.files.write.npy.write_array"])
def test_a_full_disk_leaves_the_old_file_as_it_was(tmp_path, capsys, monkeypatch, fails):
    path = tmp_path / "out.npy"
    path.write_bytes(b"old")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fails, full)
    code, line = answer(capsys, "--impl=nnx", f"--output={path}")
    assert (code, "No space left on device" in line) == (4, True)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out.npy"]


def test_output_keeps_the_permissions_of_the_file_that_was_there(tmp_path):
    for path, mode in ((tmp_path / "old.npy", 0o664), (tmp_path / "new.npy", None)):
        if mode:
            path.write_bytes(b"")
            path.chmod(mode)
        (tmp_path / "reference").write_bytes(b"")
        assert main(["--impl=nnx", f"--output={path}"]) == 0
        expected = mode or (tmp_path / "reference").stat().st_mode & 0o777
        assert path.stat().st_mode & 0o777 == expected


def test_control_characters_do_not_reach_the_terminal(tmp_path, capsys):
    code, line = answer(capsys, "--impl=nnx", "--input=a\nb\x1b]0;title\x07.npy")
    assert code == 3
    assert r"a\nb\x1b]0;title\x07.npy: does not exist" in line
    (tmp_path / "x.csv").write_bytes(b"a\x1b[31m,l\xc3\xa4ngd\n1,2\n")
    assert main(["--impl=nnx", f"--input={tmp_path}/x.csv"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "längd" in out


@pytest.mark.quick(
    "layout-JAX_PLATFORMS-bogus-check JAX_PLATFORMS", "forward-JAX_DISABLE_JIT-1-unset it"
)
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("JAX_PLATFORMS", "bogus", "check JAX_PLATFORMS"), ("JAX_DISABLE_JIT", "1", "unset it")],
)
@pytest.mark.parametrize("command", ["forward", "layout"])
def test_an_environment_that_cannot_work(name, value, message, command):
    words = [command] + (["--impl=nnx"] if command == "forward" else [])
    done = subprocess.run(
        [sys.executable, "-m", "shared", *words],
        capture_output=True,
        text=True,
        env=os.environ | {name: value},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.quick("words0", "words2")
@pytest.mark.parametrize("words", [["--impl=nnx"], ["--impl=nnx", "--format=json"], ["--help"]])
def test_a_full_disk_behind_stdout(words):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "shared", *words], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 4
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_memory_that_jax_does_not_get(capsys, monkeypatch):
    def starve(*args):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.")

    monkeypatch.setattr("shared.batch.seeded_batch", starve)
    code, line = answer(capsys, "--impl=nnx")
    assert (code, "out of memory" in line) == (4, True)


def test_very_large_numbers_are_drawn(tmp_path, capsys):
    rows = "".join(f"{(-1) ** i * 3e38},{i}\n" for i in range(203))
    (tmp_path / "x.csv").write_text(rows)
    assert main(["--impl=nnx", f"--input={tmp_path}/x.csv"]) == 0
    out, err = capsys.readouterr()
    assert "?" not in out.split("via")[0]
    assert err == ""


def test_our_own_bug_is_called_one(capsys, monkeypatch):
    monkeypatch.setattr("shared.batch.seeded_batch", lambda *args: 1 / 0)
    code, line = answer(capsys, "--impl=nnx")
    assert (code, "internal error: ZeroDivisionError" in line) == (70, True)


def test_verbose_shows_the_traceback(capsys, tmp_path):
    assert main(["--impl=nnx", f"--input={tmp_path}/none.npy", "--verbose"]) == 3
    assert "Traceback" in capsys.readouterr().err


GOOD_FILES = {
    "big-endian": ("x.npy", npy_bytes(ONES.astype(">f4"))),
    "Fortran order": ("x.npy", npy_bytes(np.asfortranarray(ONES))),
    "float16": ("x.npy", npy_bytes(ONES.astype(np.float16))),
    "float64": ("x.npy", npy_bytes(ONES.astype(np.float64))),
    "npz with one array": ("x.npz", npz_bytes([("a.npy", npy_bytes(ONES))], zipfile.ZIP_DEFLATED)),
    "csv": ("x.csv", b"1,1,1\n" * 4),
    "csv of Windows with a header": ("x.csv", b"\xef\xbb\xbfa,b,c\r\n" + b"1,1.0,1e0\r\n" * 4),
    "csv without a last line end": ("x.csv", b"a,b,c\n" + b"1,1,1\n" * 3 + b"1,1,1"),
}


@pytest.mark.parametrize("name", GOOD_FILES)
def test_files_that_are_fine(name, tmp_path, capsys):
    file, content = GOOD_FILES[name]
    (tmp_path / file).write_bytes(content)
    loaded = read_array(str(tmp_path / file))
    assert np.array_equal(loaded.array.astype(np.float32), ONES)
    assert main(["--impl=linen", f"--input={tmp_path / file}"]) == 0
    converted = "computed in float32" in capsys.readouterr().err
    assert converted == (name in ("float16", "float64"))


def test_a_float64_too_large_for_float32_is_reported(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.full((1, 2), 1e300))
    assert main(["--impl=linen", f"--input={tmp_path}/x.npy"]) == 0
    assert "2 of 2 values are NaN or infinite" in capsys.readouterr().err

"""What Flax 0.8.5 to 0.12.8 wrote is read, every leaf bit for bit as it was in memory.

The checkpoints are made by `tests/golden/make.py`, which says how.
"""

import hashlib
import json
import tarfile
from pathlib import Path

import pytest

from shared.checkpoint.formats.table import open_checkpoint

GOLDEN = Path(__file__).parent / "golden"
VERSIONS = ["0.8.5", "0.10.4", "0.12.0", "0.12.8"]
EXPECTED = {
    version: json.loads((GOLDEN / f"flax_{version}.json").read_text())["checkpoints"]
    for version in VERSIONS
}
CHECKPOINTS = [(version, name) for version in VERSIONS for name in EXPECTED[version]]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """A function from a version to the folder that its checkpoints are in."""
    folders = {}

    def unpack(version):
        if version not in folders:
            folders[version] = tmp_path_factory.mktemp(version)
            with tarfile.open(GOLDEN / f"flax_{version}.tar.gz") as archive:
                archive.extractall(folders[version], filter="data")
        return folders[version]

    return unpack


@pytest.mark.parametrize(("version", "name"), CHECKPOINTS)
def test_every_leaf_is_as_it_was(version, name, unpacked):
    folder, step = name.split("/") if "/" in name else (name, None)
    reader = open_checkpoint(str(unpacked(version) / folder), step and int(step))
    received = {}
    for path, leaf in reader.leaves.items():
        if leaf.kind != "empty":
            digest = hashlib.sha256(reader.read(path).tobytes()).hexdigest()
            received["/".join(map(str, path))] = [list(leaf.shape), leaf.dtype.name, digest]
    assert received == EXPECTED[version][name]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_empty_is_there(version, unpacked):
    reader = open_checkpoint(str(unpacked(version) / "linen_standard"))
    empty = [path for path, leaf in reader.leaves.items() if leaf.kind == "empty"]
    assert ("opt_state", 0) in empty or ("opt_state", "0") in empty


@pytest.mark.parametrize("version", ["0.12.0", "0.12.8"])
def test_the_implementation_of_a_key_is_known(version, unpacked):
    leaves = open_checkpoint(str(unpacked(version) / "typed_keys")).leaves
    found = {path[-1]: (leaf.kind, leaf.key_impl) for path, leaf in leaves.items()}
    assert found == {"threefry": ("key", "threefry2x32"), "rbg": ("key", "rbg")}


def test_a_version_that_is_new_has_its_row():
    assert {f"flax_{version}.json" for version in VERSIONS} == {
        path.name for path in GOLDEN.glob("*.json")
    }

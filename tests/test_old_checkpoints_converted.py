"""What older versions of Flax wrote is converted to the other API, in any format, and back.

The way back is the identity: every leaf has its bits, its dtype, its place and its kind.
"""

import pytest
from test_old_checkpoints import CHECKPOINTS, unpacked

from shared.checkpoint.convert import Options, convert
from shared.checkpoint.formats.table import WRITERS, open_checkpoint
from shared.checkpoint.opened import open_with_manifest

__all__ = ["unpacked"]

# Params alone are known for Linen's where they are in a format of files only.
ALONE = {"linen_managed/2"}
# No model: it is not told what they are of.
NO_MODEL = {"typed_keys", "nnx_optimizer"}
ROWS = [
    (version, name, kind)
    for version, name in CHECKPOINTS
    for kind in WRITERS
    # Before Flax 0.11 an optimizer held its model.
    if name not in NO_MODEL or (name == "nnx_optimizer" and version in ("0.8.5", "0.10.4"))
]


@pytest.mark.parametrize(("version", "name", "kind"), ROWS)
@pytest.mark.quick(
    "0.8.5-nnx_optimizer-msgpack",
    "0.10.4-linen_legacy-orbax",
    "0.12.0-nnx_model-safetensors",
    "0.12.8-linen_managed/3-orbax",
)
def test_there_and_back(version, name, kind, unpacked, tmp_path):
    folder, step = name.split("/") if "/" in name else (name, None)
    source = str(unpacked(version) / folder)
    there, back = str(tmp_path / "there"), str(tmp_path / "back")
    direction = "linen_to_nnx" if name in ALONE else "auto"
    step = int(step) if step else None
    convert(source, there, Options(direction=direction, format=kind, step=step))
    convert(there, back)
    expected, (received, _) = open_checkpoint(source, step), open_with_manifest(back)
    before, after = (of_text(reader.leaves) for reader in (expected, received))
    assert {path: expected.leaves[place] for path, place in before.items()} == {
        path: received.leaves[place] for path, place in after.items()
    }
    for path, place in before.items():
        if expected.leaves[place].kind != "empty":
            assert received.read(after[path]).tobytes() == expected.read(place).tobytes(), path


def of_text(leaves):
    """The paths of leaves as text: msgpack has no numbers in them."""
    return {"/".join(map(str, path)): path for path in leaves}

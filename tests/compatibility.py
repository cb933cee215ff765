"""What old versions have written, converted to each format and back: is it the same, bit for bit?

`python tests/compatibility.py` prints the table of docs/checkpoints.md.
"""

import contextlib
import json
import tarfile
import tempfile
from pathlib import Path

from shared.checkpoint.convert import Options, convert
from shared.checkpoint.formats.table import WRITERS
from shared.checkpoint.integrity.opened import open_with_manifest
from shared.errors import InputError

GOLDEN = Path(__file__).parent / "golden"
VERSIONS = ["0.8.5", "0.10.4", "0.12.0", "0.12.8"]
EXPECTED = {
    version: json.loads((GOLDEN / f"flax_{version}.json").read_text()) for version in VERSIONS
}
# {name: (what has written it, how it is converted); the others of `make.py` hold no model.
WRITTEN_BY = {
    "linen_standard": "StandardCheckpointer, TrainState",
    "linen_managed/2": "CheckpointManager, params alone",
    "linen_managed/3": "CheckpointManager, TrainState",
    "linen_legacy": "flax.training.checkpoints, msgpack",
    "linen_legacy_orbax": "flax.training.checkpoints, Orbax",
    "linen_params.msgpack": "flax.serialization.to_bytes",
    "linen_v1": "Orbax v1, TrainState",
    "nnx_model": "StandardCheckpointer, nnx.State",
    "nnx_managed": "CheckpointManager, nnx.State",
    "nnx_optimizer": "StandardCheckpointer, nnx.Optimizer",
}
# Nothing in it says of which API its names are.
BARE = "linen_managed/2"
FORMS = sorted(WRITERS, key=list(WRITERS).index)


@contextlib.contextmanager
def unpacked(version):
    """The folder of what a version has written."""
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(GOLDEN / f"flax_{version}.tar.gz") as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder)


def leaves_of(path, step=None):
    """{path: (Leaf, bytes)} of a checkpoint."""
    reader, _ = open_with_manifest(path, step)
    return {
        name: (leaf, b"" if leaf.kind == "empty" else reader.read(name).tobytes())
        for name, leaf in reader.leaves.items()
    }


def there_and_back(folder, name, form):
    """(direction, whether it is the same again) of one checkpoint."""
    path, _, step = name.partition("/")
    options = Options(
        "linen_to_nnx" if name == BARE else "auto", format=form, step=int(step) if step else None
    )
    with tempfile.TemporaryDirectory() as targets:
        there, back = Path(targets) / "there", Path(targets) / "back"
        conversion = convert(folder / path, there, options)
        convert(there, back)
        is_same = leaves_of(back) == leaves_of(folder / path, options.step)
    return f"{conversion.roles.api} to {conversion.to}", is_same


def row(version, folder, name):
    """A line of the table."""
    versions = EXPECTED[version]["versions"]
    by = f"Flax {version}, Orbax {versions['orbax-checkpoint']} | {WRITTEN_BY[name]}"
    cells, direction = [], ""
    for form in FORMS:
        try:
            direction, is_same = there_and_back(folder, name, form)
            cells.append("same bits" if is_same else "DIFFERENT")
        except InputError as error:
            cells.append(f"refused: {str(error).split(': ', 1)[1].split(',')[0]}")
    if len(set(cells)) == 1 and not direction:
        direction = "none"
    return f"| {by} | {direction} | {' | '.join(cells)} |"


def table():
    """Its lines."""
    yield f"| written by | with | direction | {' | '.join(FORMS)} |"
    yield "|---" * (3 + len(FORMS)) + "|"
    for version in VERSIONS:
        with unpacked(version) as folder:
            for name in WRITTEN_BY:
                if name in EXPECTED[version]["checkpoints"]:
                    yield row(version, folder, name)


if __name__ == "__main__":
    for line in table():
        print(line, flush=True)

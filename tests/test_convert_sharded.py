"""What many devices have written is converted on one, and restored onto another mesh.

The devices are those of processes of their own: see `checkpoint_on_devices.py`.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoint_on_devices import OPTIMIZER
from stored_trees import LinenStack, linen_state, stored

from shared.checkpoint.convert import convert
from shared.checkpoint.integrity.opened import open_with_manifest

ROOT = Path(__file__).parent.parent


def on_devices(do, directory, num_processes=1):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, str(ROOT / "tests" / "checkpoint_on_devices.py"), do]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    workers = [
        subprocess.Popen(
            [*words, str(i), str(num_processes), str(port), str(directory)],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(num_processes)
    ]
    try:
        done = [worker.communicate(timeout=120) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0] * num_processes, done
    return done[0][0].splitlines()[-1:]


@pytest.mark.thorough
@pytest.mark.parametrize("num_processes", [1, 2])
def test_what_a_mesh_has_written_is_converted_and_restored_on_another(num_processes, tmp_path):
    on_devices("save", tmp_path / "linen", num_processes)
    numbers, leaves = stored(linen_state(LinenStack(features=8), OPTIMIZER))
    source, _ = open_with_manifest(tmp_path / "linen")
    assert set(source.leaves) >= leaves.keys() - {("batch_stats",)}
    for path, array in numbers.items():
        assert source.read(path).tobytes() == array.tobytes(), path
    convert(tmp_path / "linen", tmp_path / "nnx")
    assert on_devices("restore", tmp_path / "nnx") == ["(3, 2, 4)"]

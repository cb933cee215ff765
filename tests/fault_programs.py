"""Commands that publish a checkpoint, for fault_sweep.py."""

import dataclasses
import importlib
import os
import pkgutil
import shutil
import sys
from collections.abc import Callable

import numpy as np

import shared.checkpoint
from shared.checkpoint.formats import orbax_value_files
from shared.checkpoint.formats.table import WRITERS, open_checkpoint
from shared.checkpoint.integrity.manifest import Manifest, versions
from shared.checkpoint.integrity.verified import check
from shared.checkpoint.publishing.publish import publishing
from shared.checkpoint.stored import Leaf
from shared.cli import main
from shared.errors import InputError
from shared.files.digest import sha256_of

# What a command imports when it is run is imported before processes are forked.
for module in pkgutil.walk_packages(shared.checkpoint.__path__, "shared.checkpoint."):
    importlib.import_module(module.name)
for name in ("shared.cli.carried", "shared.cli.progress", "shared.report.conversion"):
    importlib.import_module(name)
versions()


@dataclasses.dataclass(frozen=True)
class Program:
    """What is run.

    Attributes:
      make: makes a source, of a seed, at a path.
      run: (source, target, overwrite) -> exit code.
      identity: of a whole checkpoint at a path, what tells it from others; raises of any other.
    """

    make: Callable[[str, int], object]
    run: Callable[[str, str, bool], int]
    identity: Callable[[str], str]


class Arrays:
    """Of a directory of .npy files, or of one."""

    format = "npy"

    def __init__(self, path, arrays):
        self.path, self.arrays = path, arrays
        self.leaves = {name: Leaf(array.shape, array.dtype) for name, array in arrays.items()}

    def read(self, name):
        return self.arrays[name]


def told(message):
    print(f"composed-lifts: {message}", file=sys.stderr)


def numbers(seed):
    rng = np.random.default_rng(seed)
    return {
        ("step",): np.array(seed, np.int32),
        ("params", "kernel"): rng.standard_normal((300, 40)).astype(np.float32),
        ("params", "bias"): rng.standard_normal((40,)).astype(np.float32),
    }


def make_folder(path, seed):
    for name, array in numbers(seed).items():
        file = os.path.join(path, *name) + ".npy"
        os.makedirs(os.path.dirname(file), exist_ok=True)
        np.save(file, array)


def of_folder(path):
    names = [("step",), ("params", "kernel"), ("params", "bias")]
    return Arrays(path, {name: np.load(os.path.join(path, *name) + ".npy") for name in names})


def make_file(path, seed):
    with open(path, "wb") as file:
        np.save(file, numbers(seed)[("params", "kernel")])


def of_file(path):
    with open(path, "rb") as file:
        return Arrays(path, {("kernel",): np.load(file)})


def make_orbax(path, seed):
    """Of a Linen TrainState."""
    rng = np.random.default_rng(seed)
    params = {
        ("Dense_0", "kernel"): rng.standard_normal((30, 40)).astype(np.float32),
        ("Dense_0", "bias"): rng.standard_normal((40,)).astype("bfloat16"),
    }
    arrays = {("step",): np.array(seed, np.int32)}
    for prefix in (("params",), ("opt_state", "0", "mu"), ("opt_state", "0", "nu")):
        arrays |= {(*prefix, *name): array for name, array in params.items()}
    arrays["opt_state", "0", "count"] = np.array(seed, np.int32)
    leaves = {name: Leaf(array.shape, array.dtype) for name, array in arrays.items()}
    WRITERS["orbax"](path, leaves, arrays.__getitem__)


def make_steps(path, seed):
    """A folder as CheckpointManager makes it, of one step."""
    step = os.path.join(path, "3")
    os.makedirs(step)
    make_orbax(os.path.join(step, "default"), seed)


def converted(make, *words):
    """`composed-lifts convert` of what is made."""

    def run(source, target, overwrite):
        return main(
            [
                "convert",
                f"--source_path={source}",
                f"--target_path={target}",
                *words,
                *(["--overwrite"] if overwrite else []),
            ]
        )

    def identity(path):
        reader = open_checkpoint(path)
        manifest = Manifest.load(reader.location)
        check(manifest, reader)
        return min(manifest.sha256.values())

    return Program(make, run, identity)


def file_by_file(program):
    """With a file for each leaf, so that one that was killed is gone on with."""

    def run(*words):
        orbax_value_files.FILE = 2000
        return program.run(*words)

    return dataclasses.replace(program, run=run)


def program(make, read, write):
    """One that copies a checkpoint."""

    def check_replaced(path):
        if Manifest.load(path) is None:
            raise InputError(f"{path}: has no manifest")

    def run(source, target, overwrite):
        with publishing(target, source, check_replaced if overwrite else None, told) as new:
            reader = read(source)
            write(new.path, reader)
            hashes = {name: sha256_of(array) for name, array in reader.arrays.items()}
            manifest = Manifest("npy", "linen", reader.leaves, hashes)
            check(manifest, read(new.path))
            manifest.save(new.path)
        return 0

    def identity(path):
        manifest = Manifest.load(path)
        check(manifest, read(path))
        return min(manifest.sha256.values())

    return Program(make, run, identity)


def write_folder(path, reader):
    for name, array in reader.arrays.items():
        file = os.path.join(path, *name) + ".npy"
        os.makedirs(os.path.dirname(file), exist_ok=True)
        np.save(file, array)


def write_file(path, reader):
    with open(path, "wb") as file:
        np.save(file, reader.arrays[("kernel",)])


def run_unsafe(source, target, overwrite):
    """As one that the sweep is to find fault with."""
    shutil.rmtree(target, ignore_errors=True)
    reader = of_folder(source)
    write_folder(target, reader)
    hashes = {name: sha256_of(array) for name, array in reader.arrays.items()}
    Manifest("npy", "linen", reader.leaves, hashes).save(target)
    return 0


PROGRAMS = {
    "folder": program(make_folder, of_folder, write_folder),
    "file": program(make_file, of_file, write_file),
    "convert": converted(make_orbax),
    "convert, file by file": file_by_file(converted(make_orbax)),
    "convert steps": converted(make_steps),
    "convert to msgpack": converted(make_orbax, "--format=msgpack"),
    "convert to safetensors": converted(make_orbax, "--format=safetensors"),
}
PLANTED = {"unsafe": dataclasses.replace(PROGRAMS["folder"], run=run_unsafe)}

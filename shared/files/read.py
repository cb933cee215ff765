"""Which reader a file needs."""

import dataclasses
import os

import numpy as np

from shared.errors import FileAccessError, InputError
from shared.files.csv_text import read_csv
from shared.files.npy import read_npy
from shared.files.npz import read_npz

READABLE = (".npy", ".npz", ".csv")


@dataclasses.dataclass(frozen=True)
class LoadedArray:
    """An array of any shape in a floating dtype, the file it is from, its columns' names if any."""

    array: np.ndarray
    source: str
    column_names: tuple[str, ...] | None = None


def read_array(place: str) -> LoadedArray:
    """The array at `place`: FILE.npy, FILE.csv, FILE.npz or FILE.npz:key.

    Raises:
      InputError: there is no such file, or it holds no array of real floating numbers.
      FileAccessError: the system refuses to read it.
      CorruptFileError: the file is damaged.
    """
    path, key = place, None
    head, separator, tail = place.rpartition(".npz:")
    if separator:
        path, key = head + ".npz", tail
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in READABLE:
        raise InputError(
            f"{path}: expected a file named {', '.join(READABLE)}, received {suffix!r}"
        )
    if not os.path.isfile(path):
        what = "is not a regular file" if os.path.exists(path) else "does not exist"
        raise InputError(f"{path}: {what}; name an existing {suffix} file")
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if suffix == ".npy":
                return LoadedArray(read_npy(file, size, path), path)
            if suffix == ".npz":
                array, source = read_npz(file, path, key)
                return LoadedArray(array, source)
            array, header = read_csv(path, size)
            return LoadedArray(array, path, header)
    except OSError as error:
        raise FileAccessError(f"{path}: cannot be read: {error.strerror or error}") from error

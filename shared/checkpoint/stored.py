"""What a checkpoint holds, whatever its format: leaves by path, each read by itself."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

import numpy as np

# From the root to a leaf. The names in a sequence are numbers where the format tells.
Path = tuple[str | int, ...]


@dataclasses.dataclass(frozen=True)
class Leaf:
    """What is known of a leaf before it is read.

    Attributes:
      shape: of the array; of a key that of its numbers, (..., 2) of threefry.
      dtype: of the array, NumPy's or one of ml_dtypes; of a key uint32.
      kind: "array" of JAX, "numpy" array, "scalar" of Python, "key": a typed PRNG key, "empty": no
        number is stored.
      key_impl: of a key, its implementation: "threefry2x32".
      empty: of an empty one, what is there: "None", "Dict", "List".
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    kind: str = "array"
    key_impl: str = ""
    empty: str = ""

    @property
    def nbytes(self) -> int:
        """Its size in memory, in bytes."""
        size = 0 if self.kind == "empty" else self.dtype.itemsize
        for length in self.shape:  # of Python's integers: those of a header may be of any size
            size *= length
        return size


def nothing(empty: str = "None") -> Leaf:
    """A leaf that holds no number: None, or an empty "Dict" or "List"."""
    return Leaf((), np.dtype(bool), "empty", empty=empty)


Leaves = Mapping[Path, Leaf]
# The numbers of a leaf in C's order: arrays of one axis, of its dtype.
Parts = Iterable[np.ndarray]
Read = Callable[[Path], np.ndarray | Parts]
# Where a value is: the file from the directory of the arrays on, where it begins, how long it is.
Place = tuple[str, int, int]
# A leaf as a format stores it: {key: its content, or the place of it}.
Stored = Mapping[str, bytes | Place]
OnDisk = Callable[[Path, Stored], None]


class Reader(Protocol):
    """One checkpoint that is read. Opening it takes no memory for arrays.

    Attributes:
      format: its format's name.
      path: what was named.
      leaves: all that it holds.
    """

    format: str
    path: str

    @property
    def leaves(self) -> Leaves:
        """All that it holds, in its order."""
        ...

    @property
    def location(self) -> str:
        """The file or the directory that holds the arrays; a manifest is there."""
        ...

    @property
    def form(self) -> tuple[str, ...]:
        """The directories from the path down to the location: ("300", "state") of a step's item."""
        ...

    @property
    def beside(self) -> tuple[str, ...]:
        """The names of what else is in the directory of a step; none elsewhere."""
        ...

    @property
    def items(self) -> tuple[str, ...]:
        """The names of the items that a state is in, where these are several."""
        ...

    @property
    def separator(self) -> str:
        """What stands between the names in a path where a format has flat names only."""
        ...

    def read(self, path: Path) -> np.ndarray:
        """The numbers of a leaf: contiguous in C's order, in this machine's byte order.

        Raises:
          CorruptFileError: they are not what the header says.
          FileAccessError: the system refuses to read them.
        """
        ...

    def is_in_parts(self, path: Path) -> bool:
        """Whether it can be read without being whole in memory."""
        ...

    def parts(self, path: Path) -> Parts:
        """The same numbers, of which no more are held than a part if it is in parts.

        Raises:
          CorruptFileError, FileAccessError: as `read`.
        """
        ...


class OfOneFile:
    """What the readers of one file have in common: nothing is around its arrays, each is whole."""

    path: str
    form: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    separator: str = ""

    @property
    def location(self) -> str:
        return self.path

    def read(self, path: Path) -> np.ndarray:
        raise NotImplementedError

    def is_in_parts(self, path: Path) -> bool:
        return False

    def parts(self, path: Path) -> Iterator[np.ndarray]:
        yield self.read(path).reshape(-1)


class Writer(Protocol):
    """Writes a checkpoint of one format."""

    def __call__(self, target: str, leaves: Leaves, read: Read) -> None:
        """Writes `leaves` to `target`, which is not there yet; takes no more than one at a time.

        Args:
          target: a directory or a file, as the format has it; the folder it is in is there.
          leaves: what is written.
          read: gives the numbers of a leaf, as one array or, to a format of `IN_PARTS`, in parts.
            It is called once for each that is not empty, in their order; in parts also by several
            threads, each of which uses up or closes those of one leaf before it asks for another.

        Raises:
          InputError: the format cannot hold a leaf.
          FileAccessError: the system refuses to write.
        """
        ...

"""What each leaf of a checkpoint is for: a variable, an optimizer, the step, or none of these."""

import dataclasses
import re
from collections.abc import Iterable, Mapping

from shared.checkpoint.stored import Path
from shared.errors import InputError

Names = tuple[str, ...]

LINEN, NNX = "linen", "nnx"
_NUMBER = re.compile("0|[1-9][0-9]{0,8}")
# What has no counterpart on the other side stands there, with its whole path.
AUX = {LINEN: "nnx_aux", NNX: "linen_aux"}


@dataclasses.dataclass(frozen=True)
class Roles:
    """What the leaves of one checkpoint are for, each by its names and with its path.

    Attributes:
      api: "linen" or "nnx".
      variables: of Linen {(collection, *module path)}, of NNX {module path}.
      optimizer: {names below `opt_state`}, also where nothing is stored: of a param that
        `optax.masked` leaves out. Elsewhere what is empty has no role.
      step: how many steps were made.
      others: {names}, what is beside those: keys, averages of params.
      aux: {path on the other side}: what was carried along.
      nested: whether Linen's params are {"params": ...} once more.
    """

    api: str
    variables: Mapping[Names, Path]
    optimizer: Mapping[Names, Path] = dataclasses.field(default_factory=dict)
    step: Path | None = None
    others: Mapping[Names, Path] = dataclasses.field(default_factory=dict)
    aux: Mapping[Path, Path] = dataclasses.field(default_factory=dict)
    nested: bool = False

    @property
    def is_training(self) -> bool:
        """Whether there is more than the variables of a model."""
        return bool(self.optimizer or self.step is not None or self.others)


def is_number(name: str) -> bool:
    """Whether a name is the number of a place in a list, as Python writes it."""
    return _NUMBER.fullmatch(name) is not None


def depth_of(path: Path) -> int:
    """How many names at the end of a path are numbers of a tuple in a variable."""
    return next((i for i, name in enumerate(reversed(path)) if not isinstance(name, int)), 0)


def names_of(path: Path) -> Names:
    """The names of a path, numbers of a sequence as text."""
    return tuple(map(str, path))


def moment_among(names: Iterable[Names]) -> tuple[Names, Names] | None:
    """A moment that Adam keeps, beside its count, and the variable that it is of; None without."""
    names = {*names}
    ends = {each[i:] for each in names for i in range(len(each)) if "mu" not in each[:-1]}
    for each in sorted(names):
        if "mu" in each[1:-1]:
            at = each.index("mu", 1)
            if (*each[:at], "count") in names and each[at + 1 :] in ends:
                return each, each[at + 1 :]
    return None


def check_no_moments(names: Iterable[Names], source: str, what_to_do: str) -> None:
    """Stops at an optimizer's state among variables.

    Raises:
      InputError: it names a moment, and says what to do.
    """
    found = moment_among(names)
    if found is not None:
        moment, of = map("/".join, found)
        raise InputError(f"{source}: {moment} is a moment of {of}, and {what_to_do}")

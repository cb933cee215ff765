"""What each leaf of a checkpoint is for: a variable, of an optimizer, the step, or none of these.

Linen: variables by collection, `params/dense/kernel`, or a TrainState of them with `step` and
`opt_state`. NNX: the state of a module, `dense/kernel/value`, or of one that holds a model and an
`nnx.Optimizer`; `value`, `raw_value` before flax 0.10, is there where an `nnx.State` was saved.
"""

import collections
import dataclasses
from collections.abc import Iterable, Mapping

from shared.checkpoint.naming import written
from shared.checkpoint.stored import Leaves, Path
from shared.errors import InputError

Names = tuple[str, ...]

LINEN, NNX = "linen", "nnx"
# What has no counterpart on the other side stands there, with its whole path.
AUX = {LINEN: "nnx_aux", NNX: "linen_aux"}
_WRAPPERS = ("value", "raw_value")
_ALONE = [(name,) for name in _WRAPPERS]
_COLLECTIONS = {"batch_stats", "cache", "intermediates", "losses", "perturbations"}
# Of parameters that Flax's own layers have.
_STOCK = {"kernel", "bias", "scale", "embedding"}


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


def roles_of(leaves: Leaves, source: str, api: str | None = None) -> Roles:
    """What `leaves` are for.

    Args:
      leaves: of a checkpoint.
      source: where it is, for messages.
      api: "linen" or "nnx", None to tell by the tree.

    Raises:
      InputError: there are none, or the tree may be of either.
    """
    stored = {path: leaf for path, leaf in leaves.items() if leaf.kind != "empty"}
    if not stored:
        raise InputError(f"{source}: no parameters found; name a folder that holds a state")
    found = api or _api(stored, source)
    roles, masked = (_linen if found == LINEN else _nnx)(stored, leaves.keys() - stored, source)
    return dataclasses.replace(roles, optimizer={**roles.optimizer, **masked})


def names_of(path: Path) -> Names:
    """The names of a path, numbers of a sequence as text."""
    return tuple(map(str, path))


def _api(paths: Iterable[Path], source: str) -> str:
    names = [names_of(path) for path in paths]
    if any(each[0] == "params" and each[1:] not in ((), *_ALONE) for each in names):
        return LINEN
    if _wrapper(names) or _optimizer_at(names) is not None:
        return NNX
    tops = sorted({each[0] for each in names})
    raise InputError(
        f"{source}: neither Linen's (no `params`) nor a saved nnx.State (no `value` below each "
        f"leaf): it has {', '.join(tops[:8])}; say what it is with --direction=linen_to_nnx, for "
        f"params alone, or nnx_to_linen, for a pure dict"
    )


def _wrapper(paths: Iterable[Names]) -> str:
    """The name that `nnx.State` adds to each leaf, "" where it did not.

    Told by all leaves: an attribute or a parameter may be called `value` too.
    """
    for wrapper in _WRAPPERS:
        if all(wrapper in path[1:] and _inside(path, wrapper) for path in paths):
            return wrapper
    return ""


def _inside(path: Names, wrapper: str) -> bool:
    """Whether all that follows the last `wrapper` are the numbers of a tuple in a variable."""
    last = len(path) - 1 - path[::-1].index(wrapper)
    return all(name.isdigit() for name in path[last + 1 :])


def _unwrapped(names: Names, wrapper: str) -> Names:
    if not wrapper or wrapper not in names:
        return names
    last = len(names) - 1 - names[::-1].index(wrapper)
    return (*names[:last], *names[last + 1 :])


def _optimizer_at(paths: Iterable[Names]) -> Names | None:
    """Where an `nnx.Optimizer` is: below the name that has `opt_state` and `step`.

    One that keeps no state, as SGD without momentum, has `step` alone.
    """
    paths = list(paths)
    above = {path[: path.index("opt_state")] for path in paths if "opt_state" in path[:2]}
    found = [at for at in above if any(path[: len(at) + 1] == (*at, "step") for path in paths)]
    if not above:
        counts = collections.Counter(path[0] for path in paths)
        found = [(top,) for top, *below in paths if counts[top] == 1 and below[:1] == ["step"]]
        found = found if len(counts) > 1 else []
    return found[0] if len(found) == 1 else None


_Optimizer = dict[Names, Path]


def _linen(paths: Iterable[Path], empty: Iterable[Path], source: str) -> tuple[Roles, _Optimizer]:
    by_names = {names_of(path): path for path in paths}
    tops = {names[0] for names in by_names}
    aux, variables, optimizer, others = {}, {}, {}, {}
    step = None
    bare = "params" not in tops
    nested = any(names[:2] == ("params", "params") and len(names) > 3 for names in by_names)
    params = {names[1 + nested :] for names in by_names if names[0] == "params"}
    # Beside an optimizer a single array of an unknown name is the user's, not a variable.
    first = 1 if tops & {"step", "opt_state"} else 0
    modules = {names[:i] for names in params for i in range(first, len(names))}
    for names, path in by_names.items():
        top, *below = names
        if top == AUX[LINEN]:
            aux[path[1:]] = path
        elif bare:
            variables["params", *_unboxed(names, by_names)] = path
        elif top == "params":
            rest = tuple(below) if nested else names
            variables[_unboxed(rest, by_names)] = path
        elif top == "opt_state":
            optimizer[_unboxed(tuple(below), by_names)] = path
        elif names == ("step",):
            step = path
        elif top in _COLLECTIONS or (
            below and tuple(below) not in params and tuple(below[:-1]) in modules
        ):
            variables[_unboxed(names, by_names)] = path
        else:
            others[_unboxed(names, by_names)] = path
    masked = {names_of(path[1:]): path for path in empty if path[0] == "opt_state"}
    return Roles(LINEN, variables, optimizer, step, others, aux, nested), masked


def _unboxed(names: Names, all_names: Iterable[Names]) -> Names:
    """Without the `value` of `nn.Partitioned`, which holds a parameter of a layer."""
    return names[:-1] if names[-2:-1] and names[-1] == "value" and names[-2] in _STOCK else names


def _nnx(paths: Iterable[Path], empty: Iterable[Path], source: str) -> tuple[Roles, _Optimizer]:
    stored = {names_of(path): path for path in paths}
    kept = {path[1:]: path for names, path in stored.items() if names[0] == AUX[NNX]}
    stored = {names: path for names, path in stored.items() if names[0] != AUX[NNX]}
    wrapper = _wrapper(stored)
    by_names = {_unwrapped(names, wrapper): path for names, path in stored.items()}
    at = _optimizer_at(by_names)
    if at is None:
        _check_is_model(by_names, source)
        return Roles(NNX, by_names, aux=kept), {}
    optimizer, step = {}, None
    rest: dict[Names, Path] = {}
    for names, path in by_names.items():
        below = names[len(at) :]
        if names[: len(at)] != at:
            rest[names] = path
        elif below[0] == "opt_state":
            optimizer[below[1:]] = path
        elif below == ("step",):
            step = path
        else:  # the optimizer of flax 0.10 holds the model too
            rest[below] = path
    model = _model(rest, optimizer, source)
    variables = {names[1:]: path for names, path in rest.items() if names[0] == model}
    others = {names: path for names, path in rest.items() if names[0] != model}
    above = (*at, "opt_state")
    masked = {
        _unwrapped(names_of(path), wrapper)[len(above) :]: path
        for path in empty
        if names_of(path[: len(above)]) == above
    }
    return Roles(NNX, variables, optimizer, step, others, kept), masked


def _model(rest: Iterable[Names], optimizer: Iterable[Names], source: str) -> str:
    """The name of the model beside an optimizer: `model`, or the one that it holds moments of."""
    tops = sorted({names[0] for names in rest if len(names) > 1})
    if "model" in tops:
        return "model"
    suffixes = {names[i:] for names in optimizer for i in range(len(names))}
    trained = [top for top in tops if any(n[0] == top and n[1:] in suffixes for n in rest)]
    found = trained or tops
    if len(found) != 1:
        raise InputError(
            f"{source}: which of {', '.join(found) or 'nothing'} is the model beside the optimizer "
            f"cannot be told; save it as `model`"
        )
    return found[0]


def _check_is_model(by_names: Mapping[Names, Path], source: str) -> None:
    if {names[0] for names in by_names} == {"model"}:
        path = next(iter(by_names.values()))
        raise InputError(
            f"{source}: {written(path)} may be {'/'.join(next(iter(by_names))[1:])} of a model "
            f"that was saved as `model`, or of a module with an attribute `model`; give --pair"
        )

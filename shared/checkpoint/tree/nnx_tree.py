"""What the leaves of a checkpoint of NNX are for."""

import collections
from collections.abc import Collection, Iterable, Mapping

from shared.checkpoint.naming import written
from shared.checkpoint.stored import Path
from shared.checkpoint.tree.roles import AUX, NNX, Names, Roles, check_no_moments, is_number
from shared.errors import InputError

WRAPPERS = ("value", "raw_value")
# What people call a model that they save beside something else.
_MODELS = {"model", "state"}
_NO_OPTIMIZER = (
    "no nnx.Optimizer is found beside the model; save nnx.state of a module that holds both, or "
    "what optax keeps below `optimizer/opt_state`"
)


def wrapper_of(paths: Iterable[Names]) -> str:
    """The name that `nnx.State` adds to each leaf, "" where it did not.

    Told by all leaves: an attribute or a parameter may be called `value` too. Before flax 0.10 an
    optimizer kept counts that were no variables.
    """
    told = [path for path in paths if "opt_state" not in path[:2]]
    # Beside a model an epoch or a key may be saved as it is.
    plain = {path for path in told if len(path) <= 2 and not {*WRAPPERS} & {*path}}
    if not _MODELS & ({path[0] for path in told} - {path[0] for path in plain}):
        plain = set()
    told = [path for path in told if path not in plain]
    for wrapper in WRAPPERS:
        if told and all(wrapper in path[1:] and _inside(path, wrapper) for path in told):
            return wrapper
    return ""


def _inside(path: Names, wrapper: str) -> bool:
    """Whether all that follows the last `wrapper` are the numbers of a tuple in a variable."""
    last = len(path) - 1 - path[::-1].index(wrapper)
    return all(is_number(name) for name in path[last + 1 :])


def _unwrapped(names: Names, wrapper: str) -> Names:
    if not wrapper or wrapper not in names:
        return names
    last = len(names) - 1 - names[::-1].index(wrapper)
    return (*names[:last], *names[last + 1 :])


def optimizers_in(paths: Iterable[Names], counts: Collection[Names]) -> list[Names]:
    """Where each `nnx.Optimizer` is: below the name that has `opt_state` and `step`.

    One that keeps no state, as SGD without momentum, has `step` alone; one that was made of an
    optimizer of Linen's whose steps were not saved has `opt_state` alone.

    Args:
      paths: all names.
      counts: those of single whole numbers.
    """
    paths = list(paths)
    above = {path[: path.index("opt_state")] for path in paths if "opt_state" in path}
    inner: dict[Names, set[str]] = {
        at: {path[len(at)] for path in paths if path[: len(at)] == at and len(path) > len(at)}
        for at in above
    }
    found = {at for at in above if "step" in inner[at] or (at and inner[at] == {"opt_state"})}
    tops = collections.Counter(path[0] for path in paths)
    if not above and len(tops) > 1:
        found = {path[:1] for path in counts if path[1:2] == ("step",) and tops[path[0]] == 1}
    return sorted(found)


def nnx_roles(
    stored: Mapping[Names, Path],
    empty: Mapping[Names, Path],
    known: frozenset[Names],
    source: str,
    counts: Collection[Names],
    at: Names | None = None,
) -> tuple[Roles, dict[Names, Path]]:
    """The roles of leaves, and what an optimizer has of params that it leaves out.

    Args:
      stored: the leaves that hold numbers.
      empty: those that hold none.
      known: the paths in the module of the variables that a weight map has; none without.
      source: where the checkpoint is, for messages.
      counts: the names of single whole numbers.
      at: where the model is, if that is known; the optimizer, if there is one, is beside it.

    Raises:
      InputError: it cannot be told what is the model, or there are several optimizers.
    """
    aux = {path[1:]: path for names, path in stored.items() if names[0] == AUX[NNX]}
    own = {names: path for names, path in stored.items() if names[0] != AUX[NNX]}
    wrapper = wrapper_of(own)
    by_names = {_unwrapped(names, wrapper): path for names, path in own.items()}
    found = optimizers_in(by_names, {_unwrapped(names, wrapper) for names in counts})
    if at is not None:  # elsewhere they are modules called so
        found = [each for each in found if at and each == ("optimizer",)]
    if len(found) > 1:
        raise InputError(
            f"{source}: holds {len(found)} optimizers, {', '.join(map('/'.join, found))}, and one "
            f"model with its optimizer is converted at a time; save each as a checkpoint of its own"
        )
    if found and len(found[0]) > 1:
        by_names, found = _below(found[0][:-1], by_names, source), [found[0][-1:]]
    if not found:
        if at is None and not known:
            check_no_moments(by_names, source, _NO_OPTIMIZER)
        plain = {names for names in own if wrapper and wrapper not in names}
        if at is None:
            at = _at(by_names, known, source, plain)
        variables, others = _parted(by_names, at)
        return Roles(NNX, variables, others=others, aux=aux), {}
    optimizer_at = found[0]
    optimizer, step = {}, None
    rest: dict[Names, Path] = {}
    for names, path in by_names.items():
        below = names[len(optimizer_at) :]
        if names[: len(optimizer_at)] != optimizer_at:
            rest[names] = path
        elif below[0] == "opt_state":
            optimizer[below[1:]] = path
        elif below == ("step",):
            step = path
        else:  # the optimizer of flax 0.10 holds the model too
            rest[below] = path
    if not rest:
        raise InputError(
            f"{source}: holds an optimizer alone, whose moments cannot be told from its counts "
            f"without the model; save both in one, as nnx.state of a module that holds them"
        )
    model = _model(rest, optimizer, known, source) if at is None else at
    variables, others = _parted(rest, model)
    masked = {
        _unwrapped(names, wrapper)[names.index("opt_state") + 1 :]: path
        for names, path in empty.items()
        if "opt_state" in names
    }
    return Roles(NNX, variables, optimizer, step, others, aux), masked


def _below(at: Names, by_names: Mapping[Names, Path], source: str) -> dict[Names, Path]:
    """By the names below `at`, where model and optimizer stand together; others by their own."""
    inner, others = _parted(by_names, at)
    for names in inner.keys() & others.keys():
        raise InputError(
            f"{source}: {written(inner[names])} and {written(others[names])} would both be "
            f"{'/'.join(names)}; save the model and its optimizer as a checkpoint of their own"
        )
    return {**inner, **others}


def _parted(
    by_names: Mapping[Names, Path], at: Names
) -> tuple[dict[Names, Path], dict[Names, Path]]:
    """What is below `at`, by the names there, and what is not."""
    below = {names for names in by_names if names[: len(at)] == at and len(names) > len(at)}
    inner = {names[len(at) :]: path for names, path in by_names.items() if names in below}
    return inner, {names: path for names, path in by_names.items() if names not in below}


def _at(
    by_names: Mapping[Names, Path], known: frozenset[Names], source: str, plain: Collection[Names]
) -> Names:
    """Where the model is in a state that holds no optimizer: at the root, if no map tells.

    Beside a model there may be what is `plain`, no variable.
    """
    if known:
        return _holding(by_names, known, source)
    tops = {names[0] for names in by_names}
    is_model = tops - {names[0] for names in plain} == {"model"}
    found = "params" if "params" in tops else "model" if is_model else ""
    if found:
        names, path = next((n, path) for n, path in by_names.items() if n[0] == found)
        raise InputError(
            f"{source}: {written(path)} may be {'/'.join(names[1:])} of a model that was saved as "
            f"`{found}`, or of a module with an attribute `{found}`; give --pair, or save "
            f"nnx.state(model) as it is"
        )
    return ()


def _model(
    rest: Collection[Names], optimizer: Iterable[Names], known: frozenset[Names], source: str
) -> Names:
    """Where the model is beside an optimizer: at `model`, or where that has moments of it."""
    if known:
        return _holding(rest, known, source)
    tops = sorted({names[0] for names in rest if len(names) > 1})
    if "model" in tops:
        return ("model",)
    suffixes = {names[i:] for names in optimizer for i in range(len(names))}
    trained = sorted({names[0] for names in rest if names[1:] in suffixes})
    return _one_of([(top,) for top in trained or tops], source)


def _holding(by_names: Collection[Names], known: frozenset[Names], source: str) -> Names:
    """Where most of the variables of a map are: at the root, or below one name."""
    counts: collections.Counter[Names] = collections.Counter({(): 0})
    for names in by_names:
        counts[()] += names in known
        counts[names[:1]] += names[1:] in known
    most = max(counts.values(), default=0)
    found = [at for at, count in counts.items() if count == most]
    if ("model",) in found or not most:
        return ("model",) if ("model",) in counts else ()
    return _one_of(found, source)


def _one_of(found: list[Names], source: str) -> Names:
    if len(found) != 1:
        names = ", ".join(map("/".join, found)) or "nothing"
        raise InputError(
            f"{source}: which of {names} is the model beside the optimizer cannot be told; save it "
            f"as `model`"
        )
    return found[0]

"""What the leaves of a checkpoint of Linen are for."""

from collections.abc import Collection, Iterable, Mapping

from shared.checkpoint.stored import Path
from shared.checkpoint.tree.roles import (
    AUX,
    LINEN,
    Names,
    Roles,
    check_no_moments,
    is_number,
    moment_among,
)
from shared.errors import InputError

_COLLECTIONS = {"batch_stats", "cache", "intermediates", "losses", "perturbations"}
# Of parameters that Flax's own layers have.
_STOCK = {"kernel", "bias", "scale", "embedding"}
_STATE = {"step", "opt_state"}
_ADAM = {"count", "mu"}


def state_at(names: Iterable[Names], source: str) -> Names:
    """Where the TrainState is in {"model": TrainState, "config": ...}; () at the root.

    Raises:
      InputError: there is more than one.
    """
    below: dict[str, set[str]] = {}
    for top, *rest in names:
        below.setdefault(top, set()).update(rest[:1])
    found = sorted(top for top, inner in below.items() if "params" in inner and inner & _STATE)
    if "params" in below or not found:
        return ()
    if len(found) > 1:
        raise InputError(
            f"{source}: holds {len(found)} states of training, {', '.join(found)}, and one is "
            f"converted at a time; save each as a checkpoint of its own"
        )
    return (found[0],)


def linen_roles(
    stored: Mapping[Names, Path], empty: Mapping[Names, Path], known: frozenset[Names], source: str
) -> tuple[Roles, dict[Names, Path]]:
    """The roles of leaves, and what an optimizer has of params that it leaves out.

    Args:
      stored: the leaves that hold numbers.
      empty: those that hold none.
      known: (collection, *module path) of the variables that a weight map has; none without.
      source: where the checkpoint is, for messages.

    Raises:
      InputError: there are several states, an optimizer without its model, or a param that may be
        one in a box.
    """
    at = state_at(stored, source)
    inside = {names[len(at) :]: path for names, path in stored.items() if names[: len(at)] == at}
    others = {names: path for names, path in stored.items() if names[: len(at)] != at}
    aux: dict[Path, Path] = {}
    variables: dict[Names, Path] = {}
    optimizer: dict[Names, Path] = {}
    step = None
    tops = {names[0] for names in inside}
    bare = "params" not in tops
    if bare and (all(map(is_number, tops)) or tops >= _ADAM):
        raise InputError(
            f"{source}: holds the state of an optimizer alone ({', '.join(sorted(tops))}), whose "
            f"moments cannot be told from its counts without the params; save both in one state"
        )
    if {names[:2] for names in inside} >= {("opt_state", "opt_state"), ("opt_state", "step")}:
        raise InputError(
            f"{source}: `opt_state` is an nnx.Optimizer, beside params; save nnx.state of a module "
            f"that holds the model and its optimizer"
        )
    if bare and "opt_state" in tops:
        raise InputError(
            f"{source}: holds `opt_state` and no `params` beside it: {', '.join(sorted(tops))}; "
            f"save a TrainState, or its params alone"
        )
    nested = any(names[:2] == ("params", "params") and len(names) > 3 for names in inside)
    unboxed = _Unboxed(inside, bare, known, source)
    collections = _COLLECTIONS | {names[0] for names in known} - {"params"}
    params = {names[1 + nested :] for names in inside if names[0] == "params"}
    # Beside an optimizer a single array of an unknown name is the user's, not a variable.
    first = 1 if tops & _STATE else 0
    modules = {names[:i] for names in params for i in range(first, len(names))}
    collected = _collected_at(inside, collections, modules)
    opt_state = _optimizer_at(inside, tops)
    for names, path in inside.items():
        top, *below = names
        if top == AUX[LINEN]:
            aux[path[len(at) + 1 :]] = path
        elif bare:
            variables["params", *unboxed(names)] = path
        elif top == "params":
            variables[unboxed(tuple(below) if nested else names)] = path
        elif top == collected:
            variables[unboxed(tuple(below))] = path
        elif top == opt_state:
            optimizer[unboxed(tuple(below))] = path
        elif names == ("step",):
            step = path
        elif top in collections or (
            below and tuple(below) not in params and tuple(below[:-1]) in modules
        ):
            variables[unboxed(names)] = path
        else:
            others[unboxed(names)] = path
    if bare and not known:
        what_to_do = "there is no `opt_state`; save what optax keeps as `opt_state` beside `params`"
        check_no_moments(variables, source, what_to_do)
    masked = {
        names[len(at) + 1 :]: path
        for names, path in empty.items()
        if names[: len(at) + 1] == (*at, opt_state)
    }
    return Roles(LINEN, variables, optimizer, step, others, aux, nested), masked


def _collected_at(
    inside: Iterable[Names], collections: Collection[str], modules: Collection[Names]
) -> str:
    """What holds the collections beside params, as `model_state` does; "" if none does.

    Statistics of modules that have no params are another model's.
    """
    below: dict[str, set[str]] = {}
    for top, *rest in inside:
        below.setdefault(top, set()).add(rest[0] if len(rest) > 1 else "")
    own = {each[0] for each in inside if each[1:2] == ("batch_stats",) and each[2:-1] in modules}
    held = [top for top, inner in below.items() if inner <= set(collections) and top in own]
    return held[0] if len(held) == 1 and "batch_stats" not in below else ""


def _optimizer_at(inside: Iterable[Names], tops: Collection[str]) -> str:
    """What the state of the optimizer is called: one name beside params has moments of them."""
    if "opt_state" in tops or "params" not in tops:
        return "opt_state"
    params = [each for each in inside if each[0] == "params"]
    likely = {each[0] for each in inside if "mu" in each[1:-1]} - {"params"}
    if len(likely) != 1:
        return "opt_state"
    (top,) = likely
    return top if moment_among([*params, *(e for e in inside if e[0] == top)]) else "opt_state"


class _Unboxed:
    """Takes off the `value` of `nn.Partitioned`, which holds a parameter with its axes' names."""

    def __init__(self, names: Iterable[Names], bare: bool, known: frozenset[Names], source: str):
        """Raises InputError where a param may be in a box, or a module with a param `value`."""
        params = [each for each in names if bare or each[0] == "params"]
        self.known = {each[1:] for each in known}
        inner: dict[Names, set[str]] = {}
        for each in params:
            inner.setdefault(each[:-1], set()).add(each[-1])
        parents = [each for each in inner if each and each[-1] in _STOCK]
        self.boxed = {each[-1] for each in parents}
        self.boxed -= {each[-1] for each in parents if inner[each] != {"value"}}
        weights = {"kernel", "embedding"}
        plain = weights & {each[-1] for each in params}
        if self.boxed and plain and not self.boxed & weights and not known:
            name = next(each for each in parents if each[-1] in self.boxed)
            raise InputError(
                f"{source}: {'/'.join((*name, 'value'))} may be a param {name[-1]} in a box of "
                f"nn.Partitioned, or a param `value` of a module {name[-1]}; give --pair or "
                f"--weight_map"
            )

    def __call__(self, names: Names) -> Names:
        if names[-1] != "value" or len(names) == 1:
            return names
        if self.known:
            ends = {names[i:] for i in range(len(names))}
            in_box = {names[i:-1] for i in range(len(names) - 1)}
            return names[:-1] if in_box & self.known and not ends & self.known else names
        return names[:-1] if names[-2] in self.boxed else names

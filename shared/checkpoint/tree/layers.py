"""Layers in the paths of variables: lists of them by number, and stacks along an axis.

Paths are in one form here, that of `nnx.List`: the layers of a list are `layers/0`, `layers/1`.
"""

import collections
import dataclasses
import re
from collections.abc import Iterable, Mapping

from shared.checkpoint.stored import Leaf
from shared.checkpoint.tree.roles import Names, is_number
from shared.errors import InputError

_NUMBERED = re.compile(r"(?P<name>[a-z].*?)_(?P<number>0|[1-9][0-9]{0,8})")
# What a stack is called in public models.
_STACKS = {"block", "blocks", "h", "layer", "layers", "scan", "scanned_blocks", "stack"}
_SHOWN = 6


@dataclasses.dataclass(frozen=True)
class Layout:
    """How layers are to be on the other side.

    Attributes:
      layers: "keep", "stacked" or "unstacked".
      axis: of params, along which layers are stacked, None for the first; other variables are
        stacked along their first one in any case.
      stack: the path of the layers that are meant, `decoder/layers`; "" where it can be told.
    """

    layers: str = "keep"
    axis: int | None = None
    stack: str = ""

    def axis_of(self, collection: str, num_axes: int) -> int:
        """The axis of layers of a variable that has `num_axes` with it."""
        axis = (self.axis or 0) if collection == "params" else 0
        return axis + num_axes if axis < 0 else axis


KEEP = Layout()


def numbered(modules: Iterable[Names]) -> dict[Names, Names]:
    """The paths of Linen with lists by number: `layers_0` of `layers_0`, `layers_1` is `layers/0`.

    Names that Linen gives by itself, `Dense_0`, and those that do not begin at 0 are kept.

    Raises:
      InputError: a number is missing, or 0 is alone and may be a name.
    """
    modules = list(modules)
    found: dict[tuple[Names, str], set[int]] = collections.defaultdict(set)
    for names in modules:
        for i, name in enumerate(names):
            if match := _NUMBERED.fullmatch(name):
                found[names[:i], match["name"]].add(int(match["number"]))
    lists = {key for key, numbers in found.items() if 0 in numbers}
    for above, name in sorted(lists):
        numbers = sorted(found[above, name])
        _check_list(
            "/".join((*above, name)), numbers, {names[: len(above) + 1] for names in modules}
        )
    return {names: _by_number(names, lists) for names in modules}


def _by_number(names: Names, lists: set[tuple[Names, str]]) -> Names:
    made: list[str] = []
    for i, name in enumerate(names):
        match = _NUMBERED.fullmatch(name)
        if match and (names[:i], match["name"]) in lists:
            made += [match["name"], match["number"]]
        else:
            made.append(name)
    return tuple(made)


def _check_list(path: str, numbers: list[int], siblings: set[Names]) -> None:
    missing = next((i for i, number in enumerate(numbers) if number != i), None)
    if missing is not None:
        last = f"{path}_{numbers[-1]}"
        raise InputError(
            f"{path}_{missing} is missing between {path}_0 and {last}: a list of layers has no "
            f"gap; give one another name, --rename={last}=NAME, or --pair"
        )
    if tuple(path.split("/")) in siblings:
        raise InputError(
            f"{path} and {path}_0 stand side by side: as a list {path}_0 were {path}/0, inside of "
            f"the other; give it another name, --rename={path}=NAME, or --pair"
        )
    if len(numbers) == 1:
        raise InputError(
            f"{path}_0 may be {path}/0, a list of one, or an attribute {path}_0; give "
            f"--rename={path}_0={path}/0, or another name, or --pair"
        )


def with_underscores(names: Names) -> Names:
    """A path as Linen writes it: `layers/0` is `layers_0`."""
    made: list[str] = []
    for name in names:
        if is_number(name) and made:
            made[-1] = f"{made[-1]}_{name}"
        else:
            made.append(name)
    return tuple(made)


def list_of_layers(variables: Mapping[Names, Leaf], layout: Layout) -> tuple[Names, int]:
    """The list that is to be stacked, and how many layers it has.

    Args:
      variables: {(collection, *module path)}.
      layout: how layers are to be.

    Raises:
      InputError: there is none, or more than one; a layer has other variables than the first.
    """
    found: dict[Names, set[int]] = collections.defaultdict(set)
    for _, *names in variables:
        number = next((i for i, name in enumerate(names) if is_number(name)), 0)
        if number:
            found[tuple(names[:number])].add(int(names[number]))
    stack = _one_of(found, layout, "stacked")
    length = len(found[stack])
    layers: list[dict[Names, Leaf]] = [{} for _ in range(length)]
    for (collection, *names), leaf in variables.items():
        if tuple(names[: len(stack)]) == stack:
            name, *below = names[len(stack) :]
            if not is_number(name) or int(name) >= length:
                raise InputError(f"{'/'.join((*stack, name))}: layers are not numbered 0, 1, 2")
            layers[int(name)][(collection, *below)] = leaf
    for number, layer in enumerate(layers):
        _check_alike("/".join(stack), layers[0], layer, number)
    return stack, length


def _check_alike(
    stack: str, first: Mapping[Names, Leaf], layer: Mapping[Names, Leaf], number: int
) -> None:
    for names in sorted(first.keys() ^ layer.keys()):
        has, lacks = (0, number) if names in first else (number, 0)
        raise InputError(
            f"layers of {stack} cannot be stacked: layer {has} has {'/'.join(names)}, layer "
            f"{lacks} has not"
        )
    for names, leaf in first.items():
        own = layer[names]
        if (own.shape, own.dtype, own.kind) != (leaf.shape, leaf.dtype, leaf.kind):
            raise InputError(
                f"layers of {stack} cannot be stacked: {'/'.join(names)} is {leaf.shape} "
                f"{leaf.dtype} in layer 0, {own.shape} {own.dtype} in layer {number}"
            )


def stack_of_layers(variables: Mapping[Names, Leaf], layout: Layout) -> tuple[Names, int]:
    """The module whose variables are stacks that are to be parted, and how many layers they have.

    Raises:
      InputError: it cannot be told, or its variables are not stacks of one length.
    """
    below: dict[Names, dict[Names, Leaf]] = collections.defaultdict(dict)
    for (collection, *names), leaf in variables.items():
        for i in range(1, len(names)):
            below[tuple(names[:i])][(collection, *names)] = leaf
    named = {
        stack: _length(below[stack], layout)
        for stack in below
        if (stack[-1] in _STACKS or "/".join(stack) == layout.stack)
    }
    lengths = {stack: length for stack, length in named.items() if length}
    if layout.axis is not None and len(named) == 1 and not lengths:
        _check_axis(*next((stack, below[stack]) for stack in named), layout)
    inner = {
        stack for stack in lengths for other in lengths if stack[: len(other)] == other != stack
    }
    outer = {stack: length for stack, length in lengths.items() if stack not in inner}
    if layout.stack:
        outer = lengths
    stack = _one_of(outer, layout, "unstacked")
    if layout.axis is None:
        _check_one_axis(stack, below[stack], lengths[stack])
    return stack, lengths[stack]


def _length(variables: Mapping[Names, Leaf], layout: Layout) -> int:
    """How many layers the variables of a module are stacks of, 0 if they are none."""
    lengths = set()
    for (collection, *_), leaf in variables.items():
        axis = layout.axis_of(collection, len(leaf.shape))
        lengths.add(leaf.shape[axis] if 0 <= axis < len(leaf.shape) else 0)
    return lengths.pop() if len(lengths) == 1 else 0


def _check_axis(stack: Names, variables: Mapping[Names, Leaf], layout: Layout) -> None:
    """Stops where the variables of the one module of layers are none along the axis that is given.

    Raises:
      InputError: one has no such axis, or two are not equally long along it.
    """
    along: dict[int, str] = {}
    for (collection, *names), leaf in variables.items():
        axis = layout.axis_of(collection, len(leaf.shape))
        name = "/".join((collection, *names))
        if not 0 <= axis < len(leaf.shape):
            raise InputError(
                f"--param_scan_axis={layout.axis}: {name} is {leaf.shape} and has no such axis; "
                f"give the axis of the layers of {'/'.join(stack)}"
            )
        along.setdefault(leaf.shape[axis], name)
    if len(along) > 1:
        (one, first), (other, second), *_ = along.items()
        raise InputError(
            f"--param_scan_axis={layout.axis}: along it {first} is {one} long and {second} "
            f"{other}, as layers are not; give the axis of the layers of {'/'.join(stack)}"
        )


def _check_one_axis(stack: Names, variables: Mapping[Names, Leaf], length: int) -> None:
    """Stops where layers may as well be along the second axis as along the first."""
    for axis in (1, -1):
        other = _length(variables, Layout(axis=axis))
        if other:
            raise InputError(
                f"{'/'.join(stack)}: all params are {length} long along axis 0 and {other} along "
                f"axis {axis}: which one is of layers? Say it with --param_scan_axis"
            )


def _one_of(found: Mapping[Names, object], layout: Layout, verb: str) -> Names:
    paths = {"/".join(names): names for names in found}
    if layout.stack in paths:
        return paths[layout.stack]
    if len(paths) == 1 and not layout.stack:
        return next(iter(paths.values()))
    shown = ", ".join(sorted(paths)[:_SHOWN]) or "none that can be told by name and shapes"
    what = f"--layers={layout.stack} cannot be" if layout.stack else "which layers are to be"
    raise InputError(
        f"--layer_layout={verb}: {what} {verb}: found {shown}; name one with --layers=PATH"
    )

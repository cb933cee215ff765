"""Which output of Linen is which of NNX: by place, by the weight that it updates, by what was sown.

A weight that is stacked on one side only is compared layer by layer; so is what layers sow.
"""

import collections
import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from shared.models.linen import TO_LOOK_AT
from shared.program.graph import Value, piece
from shared.program.view import View
from shared.verification.programs import Program, is_output
from shared.weights.entry import Entry
from shared.weights.weight_map import Leaves

NOT_TRAINED_ON = {"params", "batch_stats", "cache", *TO_LOOK_AT}


@dataclasses.dataclass(frozen=True)
class Outputs:
    """The outputs that both programs have.

    Attributes:
      pairs: {name: (Linen's, NNX's)}; an output of the call, or a piece of a weight or of what was
        sown, by Linen's path.
      linen_only: paths of what only Linen sows or updates; nnx_only: the same.
    """

    pairs: dict[str, tuple[View, View]]
    linen_only: tuple[str, ...]
    nnx_only: tuple[str, ...]

    @property
    def changed(self) -> tuple[str, ...]:
        """Weights that the port changes in a call, which Linen cannot."""
        return tuple(path for path in self.nnx_only if path.startswith("params/"))

    @property
    def losses(self) -> list[tuple[View, View]]:
        """What is sown to be trained on: (Linen's, NNX's) of each piece.

        That is what both return in collections of the user's own.
        """
        own = (views for views in self.pairs.values() if not is_output(views[0].leaf))
        return [views for views in own if views[0].leaf.split("/")[0] not in NOT_TRAINED_ON]

    @property
    def lost(self) -> tuple[str, ...]:
        """What the port should return and does not."""
        return tuple(path for path in self.linen_only if path.split("/")[0] not in TO_LOOK_AT)


def pair_outputs(
    linen: Program,
    nnx: Program,
    entries: Sequence[Entry],
    leaves: tuple[Leaves, Leaves],
    used_in_call: Collection[str] = (),
) -> Outputs:
    """Pairs the outputs of two programs: forward or gradient ones.

    Args:
      linen: a program of Linen's; nnx: that of NNX.
      entries: which weight is which.
      leaves: {path: shape and dtype} of Linen's weights, and of those of NNX.
      used_in_call: Linen's collections of what outputs hold: a port need not return it.
    """
    one, other = (dict(zip(p.outputs, p.shapes, strict=True)) for p in (linen, nnx))
    pairs = {path: (View(path), View(path)) for path in one if path in other and is_output(path)}
    for entry in entries:
        if entry.linen.leaf in one and entry.nnx.leaf in other:
            pairs[str(entry.linen)] = (entry.linen, entry.nnx)
    sown = [
        _sown(linen, one, leaves[0]),
        _sown(nnx, other, leaves[1]),
    ]
    left: list[list[str]] = [[], [path for path in other if path.startswith("params/")]]
    for key in sown[0].keys() | sown[1].keys():
        first, second = sown[0].get(key, []), sown[1].get(key, [])
        if len(first) == len(second):
            pairs.update({str(a): (a, b) for a, b in _by_module(entries, first, second)})
        else:
            left[0] += [v.leaf for v in first if not _is_used(linen, v.leaf, used_in_call)]
            left[1] += [view.leaf for view in second]
    return Outputs(pairs, *(tuple(sorted(set(paths))) for paths in left))


def values_of(
    program: Program, outputs: Mapping[str, tuple[View, View]], side: int
) -> dict[str, Value | None]:
    """The value of each of `outputs` in a program; None for a piece of what is computed whole."""
    by_path = dict(zip(program.outputs, program.graph.outputs, strict=True))
    found: dict[str, Value | None] = {}
    for name, views in outputs.items():
        path, value = views[side].leaf, by_path[views[side].leaf]
        if is_output(path):
            found[name] = piece(program.graph, value, views[side])
        else:
            inner = piece(program.graph, _moving(value), views[side])
            found[name] = inner and _moving(inner)
    return found


def uniform(program: Program) -> dict[str, Value]:
    """{path: the number} of outputs that are one number all over, such as gradients of zero."""
    by_path = zip(program.outputs, program.graph.outputs, strict=True)
    return {
        path: node.args[0]
        for path, (node, _) in by_path
        if node.op == "broadcast_in_dim" and not node.args[0][0].avals[node.args[0][1]].shape
    }


def _moving(value: Value) -> Value:
    """`value` without the `stop_gradient` that NNX puts around statistics: nothing follows."""
    while value[0].op == "stop_gradient":
        value = value[0].args[0]
    return value


def _sown(
    program: Program, shapes: Mapping[str, Any], leaves: Mapping[str, Any]
) -> dict[tuple[str, tuple[int, ...]], list[View]]:
    """What is sown, layer by layer, under its name and shape, in the order of the program."""
    values = dict(zip(program.outputs, program.graph.outputs, strict=True))
    found: dict[Any, list[tuple[int, int, View]]] = collections.defaultdict(list)
    for path in shapes:
        if is_output(path) or path in leaves:
            continue
        name = [word for word in path.split("/") if not word.isdigit()][-1]
        for view in _layers(path, values[path]):
            value = piece(program.graph, values[path], view)
            if value is not None:
                node, which = value
                shape = tuple(node.avals[which].shape)
                found[name, shape].append((node.number, len(found[name, shape]), view))
    return {key: [view for *_, view in sorted(views)] for key, views in found.items()}


def _by_module(
    entries: Sequence[Entry], linen: Sequence[View], nnx: Sequence[View]
) -> list[tuple[View, View]]:
    """Pairs of what modules sow that have the same weights; where none tells, in order."""
    if len(linen) < 2:
        return list(zip(linen, nnx, strict=True))
    own = [_weights_of(view, [entry.linen for entry in entries]) for view in linen]
    others = [_weights_of(view, [entry.nnx for entry in entries]) for view in nnx]
    candidates = sorted(
        (-len(one & other) / max(1, len(one | other)), abs(i - j), i, j)
        for i, one in enumerate(own)
        for j, other in enumerate(others)
    )
    found: dict[int, int] = {}
    for _, _, i, j in candidates:
        if i not in found and j not in found.values():
            found[i] = j
    return [(linen[i], nnx[j]) for i, j in found.items()]


def _weights_of(sown: View, views: Sequence[View]) -> set[int]:
    """Which of `views` are of the module, and of the layer, that sows."""
    words = sown.leaf.split("/")[1:]
    while words and words[-1].isdigit():
        words.pop()
    module = "/".join(words[:-1])
    layers = [position for _, position in sown.index]
    return {
        i
        for i, view in enumerate(views)
        if f"{view.leaf.split('/', 1)[-1]}/".startswith(f"{module}/" if module else "")
        and (not layers or [position for _, position in view.index] == layers)
    }


def _is_used(linen: Program, path: str, used_in_call: Collection[str]) -> bool:
    """Whether the outputs of a call hold what it sows at `path`."""
    if path.split("/")[0] not in used_in_call:
        return False
    values = dict(zip(linen.outputs, linen.graph.outputs, strict=True))
    needed = {node for name, (node, _) in values.items() if is_output(name)}
    for node in reversed(linen.graph.nodes):
        if node in needed:
            needed.update(arg for arg, _ in node.args)
    return values[path][0] in needed


def _layers(path: str, value: Value) -> list[View]:
    node, axis = value[0], 0
    if node.op == "transpose":
        axis = node.params["permutation"].index(0)
        node = node.args[0][0]
    if node.op not in ("stack", "collect"):
        return [View(path)]
    return [View(path, ((axis, layer),)) for layer in range(node.avals[0].shape[0])]

"""A checkpoint of either API in one form, so that two can be compared leaf by leaf.

It is that of a pure dict of NNX: lists by number, no `value`, an optimizer beside the model.
"""

import dataclasses

from shared.checkpoint.integrity.manifest import Manifest
from shared.checkpoint.planning.made import Made, Piece, Plan
from shared.checkpoint.planning.making import Making
from shared.checkpoint.planning.origin import way_back
from shared.checkpoint.planning.plan import plan_of
from shared.checkpoint.planning.rules import map_by_rule
from shared.checkpoint.stored import Leaves, Path, Reader
from shared.checkpoint.tree.layers import KEEP, Layout
from shared.checkpoint.tree.recognised import roles_of
from shared.checkpoint.tree.roles import AUX, LINEN, NNX, Roles, names_of
from shared.weights.weight_map import WeightMap

MODEL = "model"


@dataclasses.dataclass(frozen=True)
class Common:
    """The leaves of a checkpoint in a form in which another one has them too.

    Attributes:
      source: the checkpoint.
      plan: how each leaf is made; what is empty is left out.
    """

    source: Reader
    plan: Plan

    def making(self, manifest: Manifest | None) -> Making:
        """What reads its numbers."""
        return Making(self.plan, self.source, manifest)


def as_it_is(reader: Reader) -> Common:
    """A checkpoint by its own paths."""
    return Common(
        reader,
        {
            names_of(path): Made(leaf, (Piece(path),))
            for path, leaf in reader.leaves.items()
            if leaf.kind != "empty"
        },
    )


def as_it_was(reader: Reader, manifest: Manifest | None, api: str) -> Common | None:
    """A checkpoint by the paths of the one that it was made of, None if that was not of `api`."""
    back = way_back(manifest, api, reader.location) if manifest is not None else None
    if back is None:
        return None
    return Common(reader, {names_of(path): made for path, made in back.items() if made.pieces})


def common_form(
    reader: Reader, roles: Roles, weights: WeightMap | None = None, layout: Layout = KEEP
) -> Common:
    """A checkpoint in the common form.

    Args:
      reader: of it.
      roles: of its leaves.
      weights: which variable of Linen is which of NNX; None for a map by rule.
      layout: how layers are to be, by rule.

    Raises:
      InputError: it cannot be told what becomes of a leaf.
    """
    if roles.api == LINEN:
        return Common(reader, _of_linen(reader.leaves, roles, weights, layout, reader.path))
    if layout == KEEP:
        return Common(reader, _of_nnx(reader.leaves, roles))
    # By the way of Linen, whose layers are laid out anew on the way there.
    linen = _plan(reader.leaves, roles, None, layout, reader.path)
    leaves = {path: made.leaf for path, made in linen.items()}
    back = _of_linen(leaves, roles_of(leaves, reader.path, LINEN), None, KEEP, reader.path)
    plan = {
        path: dataclasses.replace(linen[made.pieces[0].source], leaf=made.leaf)
        for path, made in back.items()
    }
    return Common(reader, plan)


def _plan(
    leaves: Leaves, roles: Roles, weights: WeightMap | None, layout: Layout, path: str
) -> Plan:
    given = weights or map_by_rule(roles, leaves, layout, path)
    return plan_of(roles, leaves, given, "", path)


def _of_linen(
    leaves: Leaves, roles: Roles, weights: WeightMap | None, layout: Layout, path: str
) -> dict[Path, Made]:
    plan = _plan(leaves, roles, weights, layout, path)
    alone = not roles.is_training
    return {
        (MODEL, *name) if alone and name[0] != AUX[NNX] else name: made
        for name, made in plan.items()
        if made.pieces
    }


def _of_nnx(leaves: Leaves, roles: Roles) -> dict[Path, Made]:
    paths: dict[Path, Path] = {(MODEL, *names): path for names, path in roles.variables.items()}
    paths |= {("optimizer", "opt_state", *n): path for n, path in roles.optimizer.items()}
    paths |= {tuple(names): path for names, path in roles.others.items()}
    paths |= {(AUX[NNX], *path): stored for path, stored in roles.aux.items()}
    if roles.step is not None:
        paths["optimizer", "step"] = roles.step
    return {
        name: Made(leaves[path], (Piece(path),))
        for name, path in paths.items()
        if leaves[path].kind != "empty"
    }

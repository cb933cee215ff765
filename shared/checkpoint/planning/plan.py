"""What a conversion makes: each leaf of the target, and the pieces of the source that it is of."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping

import numpy as np

from shared.checkpoint.naming import written
from shared.checkpoint.planning.fitting import check_fits
from shared.checkpoint.planning.made import Made, Piece, Plan
from shared.checkpoint.planning.moves import Moves, moves_of
from shared.checkpoint.planning.sides import Side
from shared.checkpoint.stored import Leaf, Leaves, Path, nothing
from shared.checkpoint.tree.moments import trees_like
from shared.checkpoint.tree.roles import AUX, LINEN, Names, Roles
from shared.checkpoint.tree.sequences import like_state, with_sequences
from shared.errors import InputError
from shared.program.view import View
from shared.weights.weight_map import WeightMap


def plan_of(
    roles: Roles,
    leaves: Leaves,
    weights: WeightMap,
    wrapper: str,
    source: str,
    opt_state: Leaves | None = None,
) -> Plan:
    """The plan of a conversion to the other API.

    Args:
      roles: of the leaves.
      leaves: of the source.
      weights: which variable is which.
      wrapper: the last name of each leaf of an NNX target, "value" or "".
      source: where the checkpoint is, for messages.
      opt_state: what Linen's optimizer keeps, None if that is not known.

    Raises:
      InputError: the map does not fit the variables, a state of the optimizer depends on the
        layout of params in a way that is not known, or is none of `opt_state`.
    """
    moves = moves_of(roles, weights, wrapper)
    mapped = check_fits(roles, leaves, moves.source_leaves, moves.source, moves.names, source)
    planned = _Planned(leaves, source, moves)
    planned.tree(mapped, moves.target.variable)
    # Of two variables of one path in a module, moments are of the param.
    ordered = sorted(mapped, key=lambda name: name.split("/")[0] == "params")
    module_paths = {moves.source.module_path(name): name for name in ordered}
    moment = functools.partial(_moment, moves.target, roles.nested)
    of_optimizer = moves.target.of_optimizer
    planned.state(roles.optimizer, module_paths, moment, of_optimizer, ("opt_state",))
    planned.state(roles.others, module_paths, moves.target.average, moves.target.other)
    if roles.step is not None:
        planned.step(moves.target.step(), roles.step, moves.target.api)
    used = set(mapped.values())
    for path in roles.variables.values():
        if path not in used:
            planned.copy((AUX[moves.target.api], *path), path)
    for target, path in roles.aux.items():
        planned.copy(target, path)
    if moves.target.api == LINEN:
        is_training = bool(roles.optimizer) or roles.step is not None
        others = {names[0] for names in roles.others}
        planned.sequences(opt_state if is_training else None, others)
    return planned.done()


def _moment(target: Side, nested: bool, above: Names, name: str) -> Path:
    """The place of a moment; nested params are below `params` in the source's moments too."""
    return target.moment(above[:-1] if nested and above[-1] == "params" else above, name)


class _Planned:
    """The leaves of a target as they are found."""

    def __init__(self, leaves: Leaves, source: str, moves: Moves):
        self.leaves, self.source, self.moves = leaves, source, moves
        self.made: dict[Path, Made] = {}

    def state(
        self,
        state: Mapping[Names, Path],
        module_paths: Mapping[Names, str],
        of_tree: Callable[[Names, str], Path],
        of_leaf: Callable[[Names], Path],
        where: Names = (),
    ) -> None:
        """The state of an optimizer, or what is beside the model: trees like params, and the rest.

        Args:
          state: {names: path in the source}.
          module_paths: {of a variable: its name}.
          of_tree: the place of a variable's leaf in a tree, by the names above that.
          of_leaf: the place of another leaf.
          where: the names above it in the source, for messages.
        """
        left = dict(state)
        for above, tree in trees_like(state, module_paths).items():
            for names in tree:
                del left[*above, *names]
            stored = {module_paths[names]: path for names, path in tree.items()}
            self.tree(stored, functools.partial(of_tree, above), (*where, *above))
        left = {names: path for names, path in left.items() if self.leaves[path].kind != "empty"}
        self._check_no_moments(left, module_paths)
        for names, path in left.items():
            self.copy(of_leaf(names), path)

    def tree(
        self, stored: Mapping[str, Path], place: Callable[[str], Path], above: Names = ()
    ) -> None:
        """A tree of one leaf for each variable, or for some: the variables, or a tree of moments.

        Args:
          stored: {name on the side of the source: path} of the tree.
          place: of a name on the target's side.
          above: where the tree is in the source, for messages.
        """
        used: set[str] = set()
        for name, pieces in self.moves.pieces.items():
            sources = {here.leaf for here, _ in pieces}
            if not any(source in stored for source in sources):
                continue
            self._check_whole(sources, stored, above, name)
            used |= sources
            self._add(place(name), self._of_pieces(name, pieces, stored))

    def copy(self, target: Path, path: Path) -> None:
        """A leaf of the source as it is."""
        self._add(target, Made(self.leaves[path], (Piece(path),)))

    def step(self, target: Path, path: Path, api: str) -> None:
        """The number of steps, of the dtype that `api` counts in: int32 in Linen, uint32 in NNX."""
        dtype = np.dtype(np.int32 if api == LINEN else np.uint32)
        self._add(target, Made(Leaf(self.leaves[path].shape, dtype), (Piece(path),)))

    def sequences(self, opt_state: Leaves | None, others: Collection[str]) -> None:
        """The states of a chain become a sequence, as in `opt_state` where that is known.

        Args:
          opt_state: what Linen's optimizer keeps.
          others: the fields beside; lists in them become sequences as well.
        """
        if opt_state is not None:
            self.made = like_state(self.made, opt_state, Made, self.source)
        self.made = with_sequences(self.made, Made(nothing()), others, chains=opt_state is None)

    def done(self) -> Plan:
        """All that was found, the leaves that are of one leaf of the source one after another."""
        order = {path: i for i, path in enumerate(self.leaves)}
        first = {
            path: order[made.pieces[0].source] if made.pieces else -1
            for path, made in self.made.items()
        }
        return {path: self.made[path] for path in sorted(self.made, key=lambda path: first[path])}

    def _of_pieces(
        self,
        name: str,
        pieces: list[tuple[View, View]],
        stored: Mapping[str, Path],
    ) -> Made:
        moves = self.moves
        origin = pieces[0][0].leaf
        first = self.leaves[stored[origin]]
        kinds = {self.leaves[stored[here.leaf]].kind for here, _ in pieces}
        if kinds == {"empty"}:
            return Made(first)
        shape = tuple(moves.leaves[name].shape)
        is_whole = shape == tuple(moves.source_leaves[origin].shape)
        if is_whole and all(
            here == dataclasses.replace(there, leaf=origin) for here, there in pieces
        ):
            return Made(first, (Piece(stored[origin]),))
        for here, _ in pieces:
            leaf, expected = self.leaves[stored[here.leaf]], moves.source_leaves[here.leaf]
            if leaf.shape != tuple(expected.shape):
                raise InputError(
                    f"{self.source}: {written(stored[here.leaf])} is {leaf.shape}, its param "
                    f"{tuple(expected.shape)}: what it is where {name} is laid out otherwise is "
                    f"not known; keep the layout, or save the params alone and convert those"
                )
            if (leaf.dtype, leaf.kind) != (first.dtype, first.kind):
                raise InputError(
                    f"{self.source}: {name} would be made of {first.dtype} ({first.kind}) and of "
                    f"{leaf.dtype} ({leaf.kind}), {written(stored[here.leaf])}"
                )
        made = tuple(Piece(stored[here.leaf], _bare(here), _bare(there)) for here, there in pieces)
        return Made(dataclasses.replace(first, shape=shape), made)

    def _check_no_moments(
        self, left: Mapping[Names, Path], module_paths: Mapping[Names, str]
    ) -> None:
        """Stops at what may be of a param that changes, and is below other names than that."""
        ends = {
            names[-2:]: name
            for names, name in module_paths.items()
            if len(names) > 1 and name not in self.moves.kept
        }
        for names, path in left.items():
            name = ends.get(names[-2:])
            if name is not None:
                raise InputError(
                    f"{self.source}: {written(path)} may be of {name}, which has another name or "
                    f"layout on the other side; a model is converted with one optimizer of all of "
                    f"it: save each apart"
                )

    def _check_whole(
        self, sources: set[str], stored: Mapping[str, Path], above: Names, name: str
    ) -> None:
        missing = sorted(source for source in sources if source not in stored)
        if missing:
            raise InputError(
                f"{self.source}: {'/'.join(above)} has nothing for {missing[0]}, and has for "
                f"{min(sources.difference(missing))}: both are {name} on the other side, which an "
                f"optimizer keeps or leaves out as a whole"
            )

    def _add(self, target: Path, made: Made) -> None:
        if target in self.made:
            both = [written(each.pieces[0].source) for each in (self.made[target], made)]
            raise InputError(
                f"{self.source}: {both[0]} and {both[1]} would both be {written(target)}"
            )
        self.made[target] = made


def _bare(view: View) -> View:
    return dataclasses.replace(view, leaf="")

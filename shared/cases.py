"""CASES: the one table that drives the command line, the tests and the documents.

A new case is a constructor of the same name in both twins of a pattern file, and a row here.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One param of a single layer: its name, the same in both implementations, and its axes."""

    name: str
    axes: tuple[str, ...]


BLOCK_LEAVES = (Leaf("kernel", ("in", "out")), Leaf("bias", ("out",)))


@dataclasses.dataclass(frozen=True)
class Case:
    """One way to compose the lifts, and the sizes to run it at.

    Attributes:
      name: what `--case` takes.
      pattern: the twin file, without `.py`, that holds the constructor.
      model: the constructor's name, the same in both twins.
      lifts: the lifts from the outside in.
      lifted_axes: the axes that the lifts put in front of each leaf's own.
      lesson: what the case teaches.
      model_args: the sizes that the constructor takes.
      leaves: the params of one layer.
      draws: Linen's scope of each random draw of one layer, in the order in which NNX draws.
      num_scans: how many `nn.scan` are around a layer.
      params_of: for a case whose own init fails, the case whose params it can be applied to.
      num_layers: N. features: F. batch_size: B.
    """

    name: str
    pattern: str
    model: str
    lifts: str
    lifted_axes: tuple[str, ...]
    lesson: str
    model_args: tuple[str, ...] = ("num_layers", "features")
    leaves: tuple[Leaf, ...] = BLOCK_LEAVES
    draws: tuple[str, ...] = ("Dense_0", "Dense_0")
    num_scans: int = 1
    params_of: str | None = None
    num_layers: int = 4
    features: int = 8
    batch_size: int = 8

    @property
    def input_shape(self) -> tuple[int, int]:
        return (self.batch_size, self.features)

    @property
    def model_sizes(self) -> dict[str, int]:
        """The arguments of the constructor."""
        return {name: getattr(self, name) for name in self.model_args}

    @property
    def axis_sizes(self) -> dict[str, int]:
        """The size of each named axis of the params."""
        return {
            "layers": self.num_layers,
            "members": self.batch_size,
            "in": self.features,
            "out": self.features,
        }

    @property
    def params_case(self) -> "Case":
        """The case, at the same sizes, whose init makes the params of this one."""
        if self.params_of is None:
            return self
        sizes = {name: getattr(self, name) for name in ("num_layers", "features", "batch_size")}
        return dataclasses.replace(CASES[self.params_of], **sizes)

    def leaf_axes(self, leaf: Leaf) -> tuple[str, ...]:
        """The name of each axis of `leaf` once lifted: ("layers", "in", "out")."""
        return self.lifted_axes + leaf.axes

    def leaf_shape(self, leaf: Leaf) -> tuple[int, ...]:
        """The shape of `leaf` once lifted: (N, F, F)."""
        return tuple(self.axis_sizes[axis] for axis in self.leaf_axes(leaf))


_WITH_MEMBERS = ("num_layers", "features", "batch_size")

CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case(
            "shared",
            pattern="composed",
            model="Shared",
            lifts="vmap(scan)",
            lifted_axes=("layers",),
            lesson="One stack serves every example: scan gives params a layer axis, vmap leaves "
            "them whole.",
        ),
        Case(
            "reversed",
            pattern="composed",
            model="Reversed",
            lifts="scan(vmap)",
            lifted_axes=("layers",),
            lesson="For shared params the order of the lifts does not matter: same tree, same "
            "numbers.",
        ),
        Case(
            "ensemble",
            pattern="ensemble",
            model="Ensemble",
            lifts="vmap(scan)",
            lifted_axes=("members", "layers"),
            lesson="Mapped and split: example i goes through stack i only, and the batch size is "
            "part of the params.",
            model_args=_WITH_MEMBERS,
        ),
        Case(
            "reversed_ensemble",
            pattern="ensemble",
            model="ReversedEnsemble",
            lifts="scan(vmap)",
            lifted_axes=("layers", "members"),
            lesson="For own params the order matters: the leading axes swap, and keys are split in "
            "the other order.",
            model_args=_WITH_MEMBERS,
        ),
        Case(
            "identical_copies",
            pattern="ensemble",
            model="IdenticalCopies",
            lifts="vmap(scan)",
            lifted_axes=("members", "layers"),
            lesson="Mapped but not split: the members start as equal copies, silently, and are "
            "trained apart.",
            model_args=_WITH_MEMBERS,
        ),
        Case(
            "confused",
            pattern="ensemble",
            model="Confused",
            lifts="vmap(scan)",
            lifted_axes=("layers",),
            lesson="Split but not mapped: init fails, for B sets of params do not fit in one; "
            "apply draws nothing, so on the params of `shared` it works.",
            model_args=_WITH_MEMBERS,
            params_of="shared",
        ),
    )
}

"""CASES: the one table that drives the command line, the tests and the documents.

A new case is a constructor of the same name in both twins of a pattern file, and a row here.
"""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Input:
    """One input of a forward pass.

    Attributes:
      name: of the argument; of a key the random stream.
      axes: the name of each axis.
      dtype: "float32", or "key" for a key of `jax.random`.
      draws: of a key, Linen's scope of each draw of one layer, in the order in which NNX draws.
    """

    name: str
    axes: tuple[str, ...] = ()
    dtype: str = "float32"
    draws: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One leaf of the variables: how its path ends in both implementations, and its axes."""

    name: str
    axes: tuple[str, ...]


def dense(*lifted: str) -> tuple[Leaf, ...]:
    """The params of a dense layer behind the axes that the lifts put in front of them."""
    return Leaf("kernel", (*lifted, "in", "out")), Leaf("bias", (*lifted, "out"))


BATCH = Input("x", ("batch", "features"))


@dataclasses.dataclass(frozen=True)
class Case:
    """One way to compose the lifts, and the sizes to run it at.

    Attributes:
      name: what `--case` takes.
      pattern: the twin file, without `.py`, that holds the constructor.
      model: the constructor's name, the same in both twins.
      lifts: the lifts from the outside in.
      lesson: what the case teaches.
      leaves: the variables, with the name of each axis.
      layer: what a layer computes.
      inputs: of a forward pass, the batch first.
      model_args: the sizes that the constructor takes.
      options: its other arguments.
      call: a function of the twin file that makes the call; without, the module is called.
      in_parent: whether the Linen stack stands in a parent, which takes and returns the batch. A
        lifted class that stands alone is called as its body is: with a carry and what is scanned.
      draws: Linen's scope of each random draw of the init of one layer, in the order in which NNX
        draws.
      num_scans: how many `nn.scan` are around a layer.
      other_params: why one seed gives other params in NNX than in Linen; None: it gives the same.
      params_of: for a case whose own init fails, the case whose params it can be applied to.
      oracle: the function of `shared.oracle` that computes the same in NumPy; None: there is none.
      num_layers: N. features: F. batch_size: B.
      sizes: of further axes.
    """

    name: str
    pattern: str
    model: str
    lifts: str
    lesson: str
    leaves: tuple[Leaf, ...] = dense("layers")
    layer: str = "relu(x @ kernel + bias)"
    inputs: tuple[Input, ...] = (BATCH,)
    model_args: tuple[str, ...] = ("num_layers", "features")
    options: tuple[tuple[str, Any], ...] = ()
    call: str | None = None
    in_parent: bool = False
    draws: tuple[str, ...] = ("Dense_0", "Dense_0")
    num_scans: int = 1
    other_params: str | None = None
    params_of: str | None = None
    oracle: str | None = "relu_stack"
    num_layers: int = 4
    features: int = 8
    batch_size: int = 8
    sizes: tuple[tuple[str, int], ...] = ()

    @property
    def size_of(self) -> dict[str, int]:
        """What the constructor may take: num_layers, features, batch_size and further sizes."""
        sizes = {name: getattr(self, name) for name in ("num_layers", "features", "batch_size")}
        return sizes | dict(self.sizes)

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {name: self.size_of[name] for name in self.model_args} | dict(self.options)

    @property
    def axis_sizes(self) -> dict[str, int]:
        """The size of each named axis."""
        return {
            "layers": self.num_layers,
            "members": self.batch_size,
            "batch": self.batch_size,
            "features": self.features,
            "in": self.features,
            "out": self.features,
            **dict(self.sizes),
        }

    @property
    def params_case(self) -> "Case":
        """The case, at the same sizes, whose init makes the params of this one."""
        if self.params_of is None:
            return self
        sizes = {name: getattr(self, name) for name in ("num_layers", "features", "batch_size")}
        return dataclasses.replace(CASES[self.params_of], **sizes)

    def shape(self, named: Leaf | Input) -> tuple[int, ...]:
        """The shape of a leaf of the variables, or of an input: (N, F, F)."""
        return tuple(self.axis_sizes[axis] for axis in named.axes)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of the batch: (B, F)."""
        return self.shape(self.inputs[0])

    @property
    def lifted_axes(self) -> tuple[str, ...]:
        """The axes that the lifts put into the params."""
        return tuple(axis for axis in self.leaves[0].axes if axis in ("layers", "members"))

    def leaf(self, path: str) -> Leaf:
        """The row of the leaf at `path`: of those that it may end with the longest.

        Raises:
          KeyError: there is none.
        """
        rows = [row for row in self.leaves if f"/{path}".endswith(f"/{row.name}")]
        if not rows:
            raise KeyError(f"case {self.name!r} has no row for the leaf {path}")
        return max(rows, key=lambda row: len(row.name))


DROPOUT = Input("dropout", dtype="key", draws=("Dropout_0",))
_WITH_MEMBERS = ("num_layers", "features", "batch_size")

CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case(
            "shared",
            pattern="composed",
            model="Shared",
            lifts="vmap(scan)",
            lesson="One stack serves every example: scan gives params a layer axis, vmap leaves "
            "them whole.",
        ),
        Case(
            "reversed",
            pattern="composed",
            model="Reversed",
            lifts="scan(vmap)",
            lesson="For shared params the order of the lifts does not matter: same tree, same "
            "numbers.",
        ),
        Case(
            "ensemble",
            pattern="ensemble",
            model="Ensemble",
            lifts="vmap(scan)",
            leaves=dense("members", "layers"),
            lesson="Mapped and split: example i goes through stack i only, and the batch size is "
            "part of the params.",
            model_args=_WITH_MEMBERS,
        ),
        Case(
            "reversed_ensemble",
            pattern="ensemble",
            model="ReversedEnsemble",
            lifts="scan(vmap)",
            leaves=dense("layers", "members"),
            lesson="For own params the order matters: the leading axes swap, and keys are split in "
            "the other order.",
            model_args=_WITH_MEMBERS,
        ),
        Case(
            "identical_copies",
            pattern="ensemble",
            model="IdenticalCopies",
            lifts="vmap(scan)",
            leaves=dense("members", "layers"),
            lesson="Mapped but not split: the members start as equal copies, silently, and are "
            "trained apart.",
            model_args=_WITH_MEMBERS,
        ),
        Case(
            "confused",
            pattern="ensemble",
            model="Confused",
            lifts="vmap(scan)",
            lesson="Split but not mapped: init fails, for B sets of params do not fit in one; "
            "apply draws nothing, so on the params of `shared` it works.",
            model_args=_WITH_MEMBERS,
            params_of="shared",
        ),
        Case(
            "dropout",
            pattern="dropout",
            model="OwnMasks",
            lifts="vmap(scan)",
            lesson="A lift that splits the stream gives each of its layers or examples a mask of "
            "its own: split_rngs in Linen, `rngs.split` in NNX.",
            layer="dropout(relu(x @ kernel + bias))",
            inputs=(BATCH, DROPOUT),
            options=(("rate", 0.25),),
            oracle=None,
        ),
        Case(
            "dropout_shared_masks",
            pattern="dropout",
            model="SharedMasks",
            lifts="vmap(scan)",
            lesson="A vmap that does not split the stream drops the same units of every example, "
            "with no warning, in Linen and in NNX.",
            layer="dropout(relu(x @ kernel + bias))",
            inputs=(BATCH, DROPOUT),
            options=(("rate", 0.25),),
            oracle=None,
        ),
        Case(
            "sharding",
            pattern="sharding",
            model="Sharded",
            lifts="vmap(scan)",
            lesson="The axis that scan puts in front of the params needs a name on the mesh, the "
            "batch an axis of it: without, Linen raises and NNX says nothing.",
        ),
        Case(
            "legacy",
            pattern="legacy",
            model="Modern",
            lifts="vmap(scan)",
            lesson="StateAxes work in NNX's default mode alone: one axis for all becomes that "
            "axis, several become `nnx.prefix`.",
        ),
        Case(
            "bridge",
            pattern="bridge",
            model="HalfMigrated",
            lifts="vmap(scan)",
            lesson="A model can be migrated part by part: ToLinen and ToNNX wrap a stack with its "
            "lifts, and its params keep the names of its own API.",
            leaves=(*dense("layers"), Leaf("scale", ("features",))),
            layer="relu(x @ kernel + bias), at the end * scale",
            in_parent=True,
            draws=("stack",),
            num_scans=0,
            other_params="Of one key a stack of NNX draws by other rules than a stack of Linen.",
            oracle="scaled_relu_stack",
        ),
    )
}

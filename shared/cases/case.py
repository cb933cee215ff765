"""What a case is: one way to compose lifts, its inputs, its variables, and what it has not."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Input:
    """One input of a forward pass.

    Attributes:
      name: of the argument; of a key the random stream.
      axes: the name of each axis.
      dtype: "float32", "int32", or "key" for a key of `jax.random`.
      below: of integers, the axis whose size they are below.
      init_axes: those of the zeros to initialise with, where they are others: they make the cache.
      draws: of a key, Linen's scope of each draw of one layer, in the order in which NNX draws.
    """

    name: str
    axes: tuple[str, ...] = ()
    dtype: str = "float32"
    draws: tuple[str, ...] = ()
    below: str = ""
    init_axes: tuple[str, ...] | None = None


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
      output: the axes of the activation; None: those of the batch.
      dtypes: of variables and inputs, those that the case computes in.
      computes_in: the dtype of the arithmetic, where it is not that of the variables and inputs.
      model_args: the sizes that the constructor takes.
      options: its other arguments.
      call: a function of the twin file that makes the call; without, the module is called.
      in_parent: whether the Linen stack stands in a parent, which takes and returns the batch. A
        lifted class that stands alone is called as its body is: with a carry and what is scanned.
      draws: Linen's scope of each random draw of the init of one layer, in the order in which NNX
        draws. With `{layer}` in their names they are those of each layer in turn.
      draws_outside: the same of the draws beside the stack, outside of all lifts.
      num_scans: how many `nn.scan` are around a layer whose params are its own. Tied ones are drawn
        once, outside.
      init: a function of the Linen twin that initialises the module, where its own init does not
        draw as Linen does.
      params_of: for a case whose own init fails, the case whose params it can be applied to.
      no_gradient: what JAX says of a gradient by reverse mode, where there is none.
      other_text: why the same programs are lowered to texts that differ; None where they do not.
      oracle: the function of `shared.oracle` that computes the same in NumPy; None: there is none.
      fused: what the compiler fuses in a jitted run and then rounds otherwise than in an eager one.
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
    output: tuple[str, ...] | None = None
    dtypes: tuple[str, ...] = ("float16", "bfloat16", "float32", "float64")
    computes_in: str | None = None
    model_args: tuple[str, ...] = ("num_layers", "features")
    options: tuple[tuple[str, Any], ...] = ()
    call: str | None = None
    in_parent: bool = False
    draws: tuple[str, ...] = ("Dense_0", "Dense_0")
    draws_outside: tuple[str, ...] = ()
    num_scans: int = 1
    init: str | None = None
    params_of: str | None = None
    no_gradient: str | None = None
    other_text: str | None = None
    oracle: str | None = "relu_stack"
    fused: str | None = None
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
    def all_draws(self) -> tuple[str, ...]:
        """Linen's scope of each draw that one stream makes, in the order in which NNX draws."""
        if not any("{layer}" in scope for scope in self.draws):
            return self.draws
        layers = range(self.num_layers)
        return tuple(scope.format(layer=layer) for layer in layers for scope in self.draws)

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
        from shared.cases import CASES  # which is made of cases

        return dataclasses.replace(CASES[self.params_of], **sizes)

    def shape(self, named: Leaf | Input) -> tuple[int, ...]:
        """The shape of a leaf of the variables, or of an input: (N, F, F)."""
        return tuple(self.axis_sizes[axis] for axis in named.axes)

    def init_shape(self, row: Input) -> tuple[int, ...]:
        """The shape of an input of zeros to initialise with."""
        return tuple(self.axis_sizes[axis] for axis in row.init_axes or row.axes)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of the batch: (B, F)."""
        return self.shape(self.inputs[0])

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of the activation: (B, F)."""
        return tuple(self.axis_sizes[axis] for axis in self.output or self.inputs[0].axes)

    @property
    def has_own_layers(self) -> bool:
        """Whether each layer has params of its own: with none they are tied."""
        in_list = any("{layer}" in scope for scope in self.draws)
        return in_list or any("layers" in leaf.axes for leaf in self.leaves)

    @property
    def lifted_axes(self) -> tuple[str, ...]:
        """The axes that the lifts put into the params."""
        return tuple(axis for axis in self.leaves[0].axes if axis not in ("in", "out"))

    def leaf(self, path: str) -> Leaf:
        """The row of the leaf at `path`: of those that it may end with the longest.

        Raises:
          KeyError: there is none.
        """
        rows = [row for row in self.leaves if f"/{path}".endswith(f"/{row.name}")]
        if not rows:
            raise KeyError(f"case {self.name!r} has no row for the leaf {path}")
        return max(rows, key=lambda row: len(row.name))

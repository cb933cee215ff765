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
      other_params: why one seed gives other params in NNX than in Linen; None: it gives the same.
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
    other_params: str | None = None
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


def attention(*lifted: str) -> tuple[Leaf, ...]:
    """The params of a multi-head attention behind the axes that the lifts put in front of them."""
    return (
        *(Leaf(f"{name}/kernel", (*lifted, "in", *HEADS)) for name in ("query", "key", "value")),
        *(Leaf(f"{name}/bias", (*lifted, *HEADS)) for name in ("query", "key", "value")),
        Leaf("out/kernel", (*lifted, *HEADS, "out")),
        Leaf("out/bias", (*lifted, "out")),
    )


def cache(*lifted: str) -> tuple[Leaf, ...]:
    """The cache of a multi-head attention behind the axes that the lifts put in front of it."""
    return (
        Leaf("cached_key", (*lifted, "batch", "length", *HEADS)),
        Leaf("cached_value", (*lifted, "batch", "length", *HEADS)),
        Leaf("cache_index", lifted),
    )


HEADS = ("num_heads", "head_dim")
TEXT = Input("x", ("batch", "length", "features"))
TOKEN = Input("x", ("batch", "token", "features"), init_axes=TEXT.axes)
DROPOUT = Input("dropout", dtype="key", draws=("Dropout_0",))
NORM = (
    *dense("layers"),
    Leaf("scale", ("layers", "out")),
    Leaf("mean", ("layers", "out")),
    Leaf("var", ("layers", "out")),
)
NORM_DRAWS = ("Dense_0", "Dense_0", "BatchNorm_0", "BatchNorm_0")
_ATTENTION_DRAWS = tuple(
    f"MultiHeadDotProductAttention_0/{name}"
    for name in ("query", "key", "value", "out")
    for _ in ("kernel", "bias")
)
_BY_NAME = "the loop of NNX takes the variables by name, that of Linen by collection and use"
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
            "batch_norm",
            pattern="batch_norm",
            model="Synchronised",
            lifts="vmap(scan)",
            leaves=NORM,
            lesson="The running statistics get a layer axis as the params do; the vmap shares "
            "them, and needs axis_name for that: the means of the examples meet there.",
            layer="relu(norm(x @ kernel + bias))",
            options=(("train", True),),
            draws=NORM_DRAWS,
            dtypes=("float32",),  # nnx.BatchNorm returns float32 of half precision
            other_text=_BY_NAME,
            oracle=None,
        ),
        Case(
            "batch_norm_eval",
            pattern="batch_norm",
            model="Synchronised",
            lifts="vmap(scan)",
            leaves=NORM,
            lesson="With the running statistics examples do not meet, and nothing is updated.",
            layer="relu(norm(x @ kernel + bias))",
            options=(("train", False),),
            draws=NORM_DRAWS,
            dtypes=("float32",),  # nnx.BatchNorm returns float32 of half precision
            other_text=_BY_NAME,
            oracle="running_norm_stack",
        ),
        Case(
            "remat",
            pattern="remat",
            model="Rematerialised",
            lifts="vmap(scan(remat))",
            lesson="A layer of the stack keeps its carry alone and computes the rest once more: "
            "same values, and the same residuals on both sides.",
            options=(("policy", "nothing_saveable"),),
        ),
        Case(
            "remat_dots",
            pattern="remat",
            model="Rematerialised",
            lifts="vmap(scan(remat))",
            lesson="A policy names what is kept beside the carry: here the products.",
            options=(("policy", "dots_saveable"),),
        ),
        Case(
            "remat_scan",
            pattern="remat",
            model="NestedRemat",
            lifts="vmap(remat_scan)",
            leaves=dense("layers", "inner"),
            lesson="nn.remat_scan is two scans, the outer one over a remat of the inner: N groups "
            "of I layers keep N + I carries in the place of N * I.",
            model_args=("num_layers", "inner", "features"),
            in_parent=True,
            num_scans=2,
            sizes=(("inner", 2),),
        ),
        Case(
            "layer_inputs",
            pattern="layer_inputs",
            model="Conditioned",
            lifts="vmap(scan)",
            lesson="What is scanned beside the carry has an axis of layers: a shift of each layer "
            "in, a row of each out. What all layers take is broadcast: None in NNX.",
            layer="relu(x @ kernel + bias + shift) * gain",
            inputs=(BATCH, Input("shifts", ("layers", "features")), Input("gain", ("features",))),
            options=(("reverse", False), ("unroll", 1)),
            oracle="conditioned_stack",
        ),
        Case(
            "layer_inputs_reverse",
            pattern="layer_inputs",
            model="Conditioned",
            lifts="vmap(scan)",
            lesson="reverse=True runs layer N - 1 first, on its own shift; params and rows stay in "
            "the order of the layers. unroll changes the program and no number.",
            layer="relu(x @ kernel + bias + shift) * gain",
            inputs=(BATCH, Input("shifts", ("layers", "features")), Input("gain", ("features",))),
            options=(("reverse", True), ("unroll", 2)),
            oracle="conditioned_stack",
        ),
        Case(
            "layer_inputs_axes",
            pattern="layer_inputs",
            model="OtherAxes",
            lifts="vmap(scan)",
            lesson="The axis of layers may be any, in and out, and so may that of the batch.",
            layer="relu(x @ kernel + bias + shift) * gain",
            inputs=(BATCH, Input("shifts", ("features", "layers")), Input("gain", ("features",))),
            oracle="conditioned_stack",
        ),
        Case(
            "control_flow",
            pattern="control_flow",
            model="Choosing",
            lifts="vmap(scan)",
            lesson="A branch gets the module and returns what the other does. In Linen it can make "
            "no params under a vmap: they are made before.",
            layer="k * (relu(h @ kernel + bias) or silu(h)), h = x @ kernel + bias",
            draws=("dense", "dense"),
            other_text="NNX hands the module to a branch in another order of its params",
            oracle=None,
        ),
        Case(
            "while_loop",
            pattern="control_flow",
            model="Repeating",
            lifts="vmap(scan)",
            lesson="Linen broadcasts variables into the loop, NNX carries the module through it. "
            "Neither has a gradient by reverse mode.",
            layer="relu(x @ kernel + bias), again for each positive number",
            draws=("dense", "dense"),
            no_gradient="Reverse-mode differentiation does not work for lax.while_loop",
            other_text="NNX carries the module through the loop",
            oracle=None,
        ),
        Case(
            "custom_vjp",
            pattern="custom_gradient",
            model="Clipped",
            lifts="vmap(scan)",
            lesson="The way back is a function: of Linen's params, of NNX's module, which is the "
            "tree of its gradients too.",
            options=(("limit", 0.1),),
        ),
        Case(
            "map_variables",
            pattern="custom_gradient",
            model="Transposed",
            lifts="vmap(scan)",
            leaves=(
                Leaf("kernel", ("layers", "out", "in")),
                Leaf("bias", ("layers", "out")),
            ),
            lesson="What is kept and what is used are two forms of one module: a lift in Linen, "
            "`jax.tree.map` over the module in NNX.",
            layer="relu(x @ kernel.T + bias)",
            draws=("dense", "dense"),
        ),
        Case(
            "auxiliary",
            pattern="auxiliary",
            model="Observed",
            lifts="vmap(scan)",
            lesson="What a layer sows goes through each lift by an axis of its collection in "
            "Linen, by capturing it inside of the scan and returning it in NNX.",
            inputs=(BATCH, Input("hidden", ("batch", "layers", "features"))),
            call="observe",
            other_text="NNX captures in an order of its own",
            oracle=None,
        ),
        Case(
            "scan_axis_1",
            pattern="scan_axis",
            model="ScanAxis1",
            lifts="scan",
            lesson="The layers may lie on any axis of their params: one word in Linen, in NNX the "
            "axis of what comes out of the init and of what goes into the call.",
            leaves=(Leaf("kernel", ("in", "layers", "out")), Leaf("bias", ("out", "layers"))),
        ),
        Case(
            "layer_list",
            pattern="layer_list",
            model="LayerList",
            lifts="loop",
            lesson="A list of layers is no stack: each layer has a place of its own in the tree. "
            "`stack` and `unstack` lead from one to the other.",
            leaves=dense(),
            in_parent=True,
            draws=("layers_{layer}/Dense_0", "layers_{layer}/Dense_0"),
            num_scans=0,
        ),
        Case(
            "tied_layers",
            pattern="tied",
            model="TiedLayers",
            lifts="scan",
            lesson="variable_broadcast: one layer is run N times. In NNX it is an input of the "
            "scan with no axis.",
            leaves=dense(),
            num_scans=0,
            other_text=_BY_NAME,
        ),
        Case(
            "tied_embedding",
            pattern="tied",
            model="TiedEmbedding",
            lifts="scan",
            lesson="A module that is used twice has one place in the tree: the table gets one "
            "gradient, the sum of both uses.",
            leaves=(Leaf("embedding", ("vocab", "features")), *dense("layers")),
            inputs=(Input("tokens", ("batch",), dtype="int32", below="vocab"),),
            output=("batch", "vocab"),
            dtypes=("float32",),  # an `nnx.Embed` keeps the dtype that it was made with
            model_args=("num_layers", "features", "vocab"),
            in_parent=True,
            draws=("layers/Dense_0", "layers/Dense_0"),
            draws_outside=("Embed_0",),
            oracle="tied_embedding",
            fused="the transposed table into the dot; the scale of the initial table",
            sizes=(("vocab", 11),),
        ),
        Case(
            "nested",
            pattern="nested",
            model="NestedStack",
            lifts="scan",
            lesson="A lift puts its axis into every leaf below it, however deep: the tree under "
            "it is that of one layer.",
            layer="relu(relu(x @ up + bias) @ down + bias)",
            draws=(*("blocks_up/Dense_0",) * 2, *("blocks_down/Dense_0",) * 2),
            oracle="relu_pairs",
        ),
        Case(
            "causal",
            pattern="decode",
            model="Causal",
            lifts="scan",
            lesson="Causal attention in a stack, the whole text at once: a mask hides from each "
            "token what comes after it.",
            leaves=attention("layers"),
            layer="x + attention(x)",
            inputs=(TEXT,),
            model_args=("num_layers", "features", *HEADS),
            draws=_ATTENTION_DRAWS,
            oracle=None,
            fused="the softmax and its gradient",
            batch_size=4,
            sizes=(("num_heads", 2), ("head_dim", 3), ("length", 6)),
        ),
        Case(
            "decode",
            pattern="decode",
            model="Decode",
            lifts="scan",
            lesson="The cache is a variable with a layer axis, as params are: Linen makes it in "
            "init, as long as its input, NNX by `init_cache`, in a copy that the lift returns.",
            leaves=(*attention("layers"), *cache("layers")),
            layer="x + attention(x)",
            inputs=(TOKEN,),
            model_args=("num_layers", "features", *HEADS),
            draws=_ATTENTION_DRAWS,
            oracle=None,
            batch_size=4,
            sizes=(("num_heads", 2), ("head_dim", 3), ("length", 6), ("token", 1)),
            other_text=_BY_NAME,
        ),
        Case(
            "mixed_precision",
            pattern="mixed_precision",
            model="MixedPrecision",
            lifts="scan",
            lesson="A carry keeps its dtype: with params in float32 and layers in bfloat16 the "
            "batch is cast before the scan.",
            computes_in="bfloat16",
            in_parent=True,
            draws=("layers/Dense_0", "layers/Dense_0"),
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
            fused="the sum over the batch of the gradient by the scale",
        ),
    )
}

"""The patterns: what real models do with lifted transforms, a case or a few for each."""

from shared.cases.case import BATCH, Case, Input, Leaf, dense


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

PATTERNS = (
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
        oracle="dropout_stack",
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
        oracle="dropout_stack_of_one_mask",
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
        oracle="batch_norm_stack",
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
        oracle="choosing_stack",
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
        oracle="repeating_stack",
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
        oracle="perturbed_stack",
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
        oracle="causal_stack",
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
        oracle="decode_stack",
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
        oracle=None,  # bfloat16 rounds more than the smallest of our faults changes
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
        init="init_as_linen",
        oracle="scaled_relu_stack",
        fused="the sum over the batch of the gradient by the scale",
    ),
)

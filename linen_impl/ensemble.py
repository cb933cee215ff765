"""What else a vmap can do with params: own ones, own copies of one set, or a contradiction."""

from flax import linen as nn

from linen_impl.block import Block


def Ensemble(num_layers: int, features: int, batch_size: int) -> nn.Module:
    """vmap(scan), params mapped and split: B stacks, one for each example; params (B, N, ...)."""

    # Scan: one layer becomes N, each with its own params.
    ScanLayer = nn.scan(
        Block,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=num_layers,
    )

    # Vmap: one example becomes B, each with its own params.
    EnsembleScanLayer = nn.vmap(
        ScanLayer,
        in_axes=0,
        out_axes=0,
        axis_size=batch_size,
        variable_axes={"params": 0},
        split_rngs={"params": True},
    )

    return EnsembleScanLayer(features=features)


def ReversedEnsemble(num_layers: int, features: int, batch_size: int) -> nn.Module:
    """scan(vmap), params mapped and split: N layers, each of B members; params (N, B, ...)."""

    # Vmap: one example becomes B, each with its own params.
    EnsembleLayer = nn.vmap(
        Block,
        in_axes=0,
        out_axes=0,
        axis_size=batch_size,
        variable_axes={"params": 0},
        split_rngs={"params": True},
    )

    # Scan: one layer becomes N, each with its own params.
    ScanEnsembleLayer = nn.scan(
        EnsembleLayer,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=num_layers,
    )

    return ScanEnsembleLayer(features=features)


def IdenticalCopies(num_layers: int, features: int, batch_size: int) -> nn.Module:
    """vmap(scan), params mapped but not split: B equal copies of one stack; params (B, N, ...)."""

    # Scan: one layer becomes N, each with its own params.
    ScanLayer = nn.scan(
        Block,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=num_layers,
    )

    # Vmap: one example becomes B, each with its own copy of one set of params.
    CopiesScanLayer = nn.vmap(
        ScanLayer,
        in_axes=0,
        out_axes=0,
        axis_size=batch_size,
        variable_axes={"params": 0},
        split_rngs={"params": False},
    )

    return CopiesScanLayer(features=features)


def Confused(num_layers: int, features: int, batch_size: int) -> nn.Module:
    """vmap(scan), params split but not mapped: B stacks with room for one; init raises."""

    # Scan: one layer becomes N, each with its own params.
    ScanLayer = nn.scan(
        Block,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=num_layers,
    )

    # Vmap: one example becomes B, with B sets of params where there is room for one.
    ConfusedScanLayer = nn.vmap(
        ScanLayer,
        in_axes=0,
        out_axes=0,
        axis_size=batch_size,
        variable_axes={"params": None},
        split_rngs={"params": True},
    )

    return ConfusedScanLayer(features=features)

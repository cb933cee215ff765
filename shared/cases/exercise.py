"""The exercise: the ways to compose one scan with one vmap."""

from shared.cases.case import Case, dense

_WITH_MEMBERS = ("num_layers", "features", "batch_size")

EXERCISE = (
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
        lesson="For shared params the order of the lifts does not matter: same tree, same numbers.",
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
)

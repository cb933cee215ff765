"""Why what is not reached is not: {the beginning of a quantity: the reason}."""

REASONS: dict[str, str] = {
    "value and gradient": (
        "the program is plain JAX's, operation by operation, and plain JAX is as far from the "
        "products. The loops of a scan's gradient copy what a list of layers uses where it is: "
        "each turn copies the weights of a layer out of the stack, once on the way forward and "
        "once back, and their gradient into it (*A scan beside a list*, counted in the optimised "
        "HLO). Other ways to scan do not avoid it (*Other ways to scan*); a list of layers does, "
        "and costs a program that grows with their number."
    ),
    "start of a process": (
        "the import of `flax.nnx` alone, which loads `flax.linen` too, takes longer than that of "
        "`jax` by more than is left to the target (the second row of *From the start of a "
        "process*)."
    ),
    "host, 100 leaves: NNX, flat leaves / equinox": (
        "a tuple of leaves is the least that `jax.jit` takes: plain JAX with one is as far from "
        "Equinox (the same row)."
    ),
}


def reason_of(quantity: str) -> str:
    """The reason for a quantity that is not reached.

    Raises:
      KeyError: none is written.
    """
    for beginning, reason in REASONS.items():
        if quantity.startswith(beginning):
            return reason
    raise KeyError(f"{quantity}: not reached, and no reason is written in reasons.py")

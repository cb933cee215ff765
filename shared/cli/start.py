"""What has to be right about JAX before a command computes with it."""

from shared.errors import UsageError


def check_jax() -> None:
    """Stops where JAX has no device, or where it would draw other numbers.

    Raises:
      UsageError: one of the two.
    """
    import jax

    try:
        jax.devices()
    except RuntimeError as error:
        raise UsageError(f"JAX finds no device: {error}; check JAX_PLATFORMS") from error
    if jax.config.jax_disable_jit:  # type: ignore[attr-defined]
        raise UsageError(
            "JAX_DISABLE_JIT is set: Linen counts its draws by traces, and without them it draws "
            "other params; unset it"
        )

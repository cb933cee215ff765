"""The flag `--mesh`: on how many devices each axis lies, and what has to divide by that."""

import math
from typing import TYPE_CHECKING

from absl import flags

from shared.cli.names import did_you_mean
from shared.errors import UsageError

if TYPE_CHECKING:
    from shared.training.config import Config

# What lies over each axis.
AXES = {"data": "the windows", "model": "the heads"}


def define_mesh_flag(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "mesh",
        None,
        "On how many devices the windows and the heads lie: data:4,model:2 takes eight. Default: "
        "one device.",
        flag_values=values,
    )


def mesh_sizes(values: flags.FlagValues) -> dict[str, int] | None:
    """{axis: on how many devices}, of `--mesh`; None where it is not given.

    Raises:
      UsageError: it cannot be read, or the windows cannot be parted so.
    """
    if values.mesh is None:
        return None
    sizes: dict[str, int] = {}
    for word in values.mesh.split(","):
        axis, _, number = (part.strip() for part in word.partition(":"))
        if axis not in AXES:
            raise UsageError(
                f"--mesh={values.mesh}: unknown axis {axis!r}{did_you_mean(axis, AXES)}; expected "
                f"data:N, model:M or both, with a comma between them"
            )
        if axis in sizes:
            raise UsageError(f"--mesh={values.mesh}: axis {axis!r} twice; name it once")
        if not (number.isascii() and number.isdigit() and int(number)):
            raise UsageError(
                f"--mesh={values.mesh}: {axis}:{number} expected a number of devices, 1 or more"
            )
        sizes[axis] = int(number)
    if values.batch_size % sizes.get("data", 1):
        raise UsageError(
            f"--batch_size={values.batch_size}: expected a multiple of {sizes['data']}, for "
            f"--mesh={values.mesh} parts the windows among {sizes['data']} devices"
        )
    return sizes


def check_heads(sizes: dict[str, int], config: "Config") -> None:
    """Stops where the heads cannot be parted. With them `hidden` and the features can.

    Raises:
      UsageError: they cannot.
    """
    if config.num_heads % sizes.get("model", 1):
        raise UsageError(
            f"--mesh: model:{sizes['model']} parts {config.num_heads} heads among "
            f"{sizes['model']} devices; expected a divisor of {config.num_heads}"
        )


def check_devices(sizes: dict[str, int]) -> None:
    """Stops where JAX has not just the devices that the mesh takes.

    Raises:
      UsageError: it has more or fewer.
    """
    import jax

    needed, found = math.prod(sizes.values()), jax.device_count()
    if needed == found:
        return
    mesh = ",".join(f"{axis}:{size}" for axis, size in sizes.items())
    several = jax.process_count() > 1
    where = f" in {jax.process_count()} processes" if several else ""
    advice = "choose sizes whose product that is"
    if jax.default_backend() == "cpu" and needed % jax.process_count() == 0:
        each, of = needed // jax.process_count(), "each CPU" if several else "a CPU"
        advice += f", or set JAX_NUM_CPU_DEVICES={each}, which makes {each} of {of}"
    raise UsageError(
        f"--mesh={mesh} takes {needed} devices, JAX has {found} ({jax.default_backend()}){where}; "
        f"{advice}"
    )

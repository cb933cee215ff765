"""The machine that numbers were measured on, in words."""

import os
import platform

import jax


def machine() -> dict[str, str]:
    """What a time depends on beside the code: {part: what it is}."""
    devices = jax.devices()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory / 2**30:.0f} GiB",
        "devices": f"{len(devices)} x {devices[0].device_kind}",
    }


def machine_text() -> str:
    """The same on a line."""
    found = machine()
    return (
        f"{found['processor']}, {found['cores']} cores, {found['memory']}; JAX has "
        f"{found['devices']}"
    )


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except FileNotFoundError:  # not Linux
        pass
    return platform.processor() or platform.machine()

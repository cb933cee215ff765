"""Resident memory of this process."""

from pathlib import Path


def resident_bytes(name: str) -> int:
    """Bytes: `VmRSS` is now, `VmHWM` the most since this program was started.

    `ru_maxrss` of `getrusage` is no less than what the parent had when it started the process.

    Raises:
      ValueError: /proc/self/status has no such line.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 2**10
    raise ValueError(f"/proc/self/status has no {name}")

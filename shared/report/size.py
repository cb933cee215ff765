"""A number of bytes for people."""

import math

_UNITS = ("kB", "MB", "GB", "TB")


def size_text(num_bytes: int) -> str:
    """`num_bytes` in the unit in which it is less than a thousand."""
    if num_bytes < 1000:
        return f"{num_bytes} bytes"
    power = min(int(math.log10(num_bytes)) // 3, len(_UNITS))
    return f"{num_bytes / 1000**power:.1f} {_UNITS[power - 1]}"

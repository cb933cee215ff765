"""What is said of two operations that have other results."""

import re
from typing import Any

from shared.program.canonical import params_that_matter
from shared.program.graph import Node, constant_value
from shared.program.jax_programs import ERROR_FUNCTION
from shared.program.source import Place
from shared.report.result import Divergence
from shared.verification.locate.side import Side
from shared.verification.locate.spot import operation_of, spot
from shared.verification.locate.values import is_near_in_half_precision


def apart(
    a: Side, x: Node, b: Side, y: Node, linen: Place | None = None, nnx: Place | None = None
) -> Divergence:
    """What is said of two operations with other results, of `linen` and `nnx` if they are there."""
    near = is_near_in_half_precision(a.values[x][0], b.values[y][0])
    other = (x.op in ERROR_FUNCTION) != (y.op in ERROR_FUNCTION)
    return Divergence(reason(x, y), spot(a, x, linen), spot(b, y, nnx), near, other)


def reason(x: Node, y: Node) -> str:
    if x.op != y.op:
        return f"{operation_of(x)} in Linen, {operation_of(y)} in NNX"
    first, second = params_that_matter(x), params_that_matter(y)
    changed = [
        _compared(key, first.get(key), second.get(key))
        for key in sorted(first.keys() | second.keys())
        if str(first.get(key)) != str(second.get(key))
    ]
    constants = [
        [constant_value(arg) for arg, _ in node.args if arg.op == "constant"] for node in (x, y)
    ]
    for one, other in zip(*constants, strict=False):
        if one.size == other.size == 1 and one != other:
            changed.append(f"{one.item():g} in Linen, {other.item():g} in NNX")
    return f"{x.op}: " + ("; ".join(changed) if changed else "on other operands")


def _compared(key: str, first: Any, second: Any) -> str:
    if re.search("\n| at 0x|DimensionNumbers", f"{first}{second}"):
        return f"another {key}"  # a program within the program, a function, what each axis is
    return f"{key}={first} in Linen, {second} in NNX"

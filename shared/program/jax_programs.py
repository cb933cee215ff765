"""What of JAX's programs is not part of its documented interface.

`jax.make_jaxpr` and `jax.extend.core` are public. The names of primitives and of their parameters,
and the call stack of an equation, are not: they are all here, as found in jax 0.10.2, and
`tests/test_jax_programs.py` fails where a release changes them.
"""

import functools
import itertools
import re
import types
from typing import Any

# Primitives that only call a program, with the parameter that holds it.
CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
    "checkpoint": "jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "custom_lin": "jaxpr",
}
# Primitives that return their operands as they are.
SAME_VALUE = {"copy", "copy_p", "sharding_constraint", "optimization_barrier", "pvary"}
# Call Python with arrays of the types that they were traced with, and no others.
CALLBACKS = {"pure_callback", "io_callback"}
RANDOM = {"random_bits", "threefry2x32", "rng_bit_generator"}
COMMUTATIVE = {"add", "add_any", "mul", "max", "min", "and", "or", "xor", "eq", "ne"}
COMPARISONS = {"eq", "ne", "lt", "le", "gt", "ge"}
SAME_OPERATION = {"add_any": "add"}
# Reshapes; sums and the like are reshapes over axes of length one.
RESHAPES = {
    *("reshape", "squeeze", "broadcast_in_dim", "expand_dims"),
    *("reduce_sum", "reduce_max", "reduce_min", "reduce_prod"),
}
REDUCTIONS = {"reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or"}
# Take a part of a value; "index" is what a scan takes of a stack.
SELECTIONS = {"slice", "split", "dynamic_slice", "gather", "index"}
# Element by element: each result depends on the elements of the operands at its own place.
ELEMENTWISE = {
    *("add", "sub", "mul", "div", "rem", "max", "min", "pow", "integer_pow", "neg", "sign"),
    *("abs", "exp", "exp2", "log", "log1p", "expm1", "sin", "cos", "tan", "tanh", "logistic"),
    *("erf", "erfc", "erf_inv", "sqrt", "rsqrt", "cbrt", "square", "floor", "ceil", "round"),
    *("eq", "ne", "lt", "le", "gt", "ge", "and", "or", "xor", "not", "is_finite", "select_n"),
    *("clamp", "convert_element_type", "stop_gradient", "copy"),
}
ERROR_FUNCTION = {"erf", "erfc", "erf_inv"}
# By their names a reader knows an activation: tanh, erfc, logistic, max.
FUNCTIONS = {
    *("max", "min", "exp", "exp2", "log", "log1p", "expm1", "sin", "cos", "tan", "tanh"),
    *(*ERROR_FUNCTION, "logistic", "clamp", "select_n"),
}
# Parameters that have no say in the results.
SILENT = re.compile(r"name|.*sharding|jvp.*|bwd|fwd.*|mesh|call_info|debug.*|ctx_mesh|.*thunk")


def frames(source_info: Any) -> list[tuple[str, int, str, int]]:
    """(file, line, function, column) of the calls that an equation comes from, innermost first.

    Of an equation in a program that another equation calls, those up to that call.
    """
    if source_info.traceback is None:
        return []
    return [
        (code.co_filename, *_position(code, code.co_filename, instruction))
        for code, instruction in zip(*source_info.traceback.raw_frames(), strict=True)
    ]


@functools.cache
def _position(code: types.CodeType, file: str, instruction: int) -> tuple[int, str, int]:
    """Where an instruction is. Code of two files is equal in Python: `file` tells it apart."""
    # An instruction takes two bytes.
    line, _, column, _ = next(itertools.islice(code.co_positions(), instruction // 2, None))
    return line or code.co_firstlineno, code.co_qualname, column or 0

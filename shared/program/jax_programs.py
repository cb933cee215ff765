"""What of JAX's programs is not part of its documented interface.

`jax.make_jaxpr` and `jax.extend.core` are public. The names of primitives and of their parameters,
and the call stack of an equation, are not: they are all here, as found in jax 0.10.2, and
`tests/test_jax_programs.py` fails where a release changes them.
"""

import itertools
import re
import types
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from jax.extend import core

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
    "custom_vmap_call": "call",
    "composite": "jaxpr",
}
# Of these, what is computed once more for a gradient.
REMAT = {"checkpoint", "remat", "remat2"}
# Loops and choices, which are opened.
CONTROL_FLOW = {"scan", "while", "cond"}
# Primitives that return their operands as they are: what they ask for is asked of the compiler.
SAME_VALUE = {
    *("copy", "copy_p", "name", "optimization_barrier", "pvary", "device_put", "reduced_vary_cast"),
    *("sharding_constraint", "layout_constraint", "reshard", "mesh_cast", "stage", "pin", "unpin"),
    *("reduced_vary_cast_p", "vary_unreduced_cast_p", "with_memory_space_constraint"),
}
# Of these, what asks for a sharding; see `constraints.py`.
CONSTRAINTS = {"sharding_constraint", "reshard"}
# Written in another way; see `one_way.py`.
REWRITTEN = {"split", "stack", "unstack", "tile"}
# Call Python with arrays of the types that they were traced with, and no others.
CALLBACKS = {"pure_callback", "io_callback"}
# Draw numbers of a key; and draw them within, together with other things.
DRAWS = {"random_bits"}
DRAWS_WITHIN = {"random_gamma"}
RANDOM = {*DRAWS, *DRAWS_WITHIN, "threefry2x32", "rng_bit_generator"}
# What changes by steps, if at all: its gradient is zero.
FLAT = {"stop_gradient", "sign", "floor", "ceil", "round", "is_finite"}
COMMUTATIVE = {"add", "add_any", "mul", "max", "min", "and", "or", "xor", "eq", "ne"}
COMPARISONS = {"eq", "ne", "lt", "le", "gt", "ge"}
SAME_OPERATION = {"add_any": "add"}
# Reshapes; sums and the like are reshapes over axes of length one.
RESHAPES = {
    *("reshape", "squeeze", "broadcast_in_dim", "expand_dims"),
    *("reduce_sum", "reduce_max", "reduce_min", "reduce_prod"),
}
REDUCTIONS = {
    *("reduce_sum", "reduce_max", "reduce_min", "reduce_prod"),
    *("reduce_and", "reduce_or", "reduce_xor"),
}
# Take a part of a value; "index" is what a scan takes of a stack.
SELECTIONS = {"slice", "split", "dynamic_slice", "gather", "index"}
# Put the elements of values in other places, some of them perhaps nowhere, some more than once.
MOVES = {
    *("transpose", "rev", "concatenate", "slice", "dynamic_slice", "dynamic_update_slice"),
    *("gather", "scatter", "pad", "sort", "top_k"),
}
PRODUCTS = {"dot_general", "ragged_dot_general", "conv_general_dilated"}
# Element by element: each result depends on the elements of the operands at its own place.
ELEMENTWISE = {
    *("add", "sub", "mul", "mulhi", "div", "rem", "max", "min", "pow", "integer_pow", "neg"),
    *("sign", "abs", "exp", "exp2", "log", "log1p", "expm1", "logistic", "sqrt", "rsqrt", "cbrt"),
    *("square", "sin", "cos", "tan", "asin", "acos", "atan", "atan2"),
    *("sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
    *("erf", "erfc", "erf_inv", "lgamma", "digamma", "polygamma", "zeta", "igamma", "igammac"),
    *("igamma_grad_a", "random_gamma_grad", "regularized_incomplete_beta"),
    *("bessel_i0e", "bessel_i1e"),
    *("floor", "ceil", "round", "nextafter", "is_finite", "clamp", "select_n"),
    *("eq", "ne", "lt", "le", "gt", "ge", "eq_to", "lt_to", "le_to", "and", "or", "xor", "not"),
    *("shift_left", "shift_right_arithmetic", "shift_right_logical", "population_count", "clz"),
    *("real", "imag", "conj", "complex"),
    *("convert_element_type", "reduce_precision", "stop_gradient", "copy"),
}
# Compared by their names, parameters and operands and not looked into: {reason: primitives}.
OPAQUE = {
    "each result is made of many elements: no part of it is one of an operand": {
        *("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", "argmax", "argmin", "iota"),
        *("reduce", "reduce_window", "reduce_window_sum", "reduce_window_max", "approx_top_k"),
        *("reduce_window_min", "select_and_scatter", "select_and_scatter_add"),
        *("select_and_gather_add", "scatter-add", "scatter-sub", "scatter-mul", "scatter-min"),
        *("scatter-max",),
    },
    "a library computes it as a whole": {
        *("cholesky", "cholesky_update", "eig", "eigh", "hessenberg", "householder_product"),
        *("lu", "geqrf", "ormqr", "qr", "schur", "svd", "triangular_solve", "tridiagonal", "fft"),
        *("tridiagonal_solve", "custom_linear_solve", "lu_pivots_to_permutation"),
        *("symmetric_product", "linear_call", "ffi_call", "call_exported", "custom_partitioning"),
    },
    "a kernel of the device computes it as a whole": {
        *("scaled_dot", "scaled_matmul_wrapper", "dot_product_attention_fwd_wrapper"),
        *("dot_product_attention_bwd_wrapper", "dot_product_attention_fp8_fwd_wrapper"),
        *("dot_product_attention_fp8_bwd_wrapper",),
    },
    "it draws random numbers": {
        *("random_bits", "random_seed", "random_split", "random_fold_in", "random_gamma"),
        *("random_wrap", "random_unwrap", "random_clone", "threefry2x32", "threefry4x32"),
        *("philox2x32", "philox4x32", "rng_bit_generator", "rng_uniform", "iota_2x32_shape"),
    },
    "devices exchange values: what they have depends on the mesh": {
        *("psum", "pmax", "pmin", "ppermute", "all_gather", "all_to_all", "ragged_all_to_all"),
        *("reduce_scatter", "axis_index", "psum_invariant", "all_gather_invariant"),
        *("all_gather_reduced", "unreduced_psum", "unreduced_reduce_scatter", "pgather", "psend"),
        *("precv", "preduced", "pbroadcast", "shard_map", "all_gather_start", "all_gather_done"),
        *("all_gather_reduced_start", "all_to_all_start", "all_to_all_done", "ppermute_start"),
        *("ppermute_done", "psum_start", "psum_done", "psum_invariant_start", "pbroadcast_done"),
        *("reduce_scatter_start", "reduce_scatter_done", "unreduced_psum_start"),
        *("unreduced_reduce_scatter_start", "platform_index"),
        *("host_local_array_to_global_array", "global_array_to_host_local_array"),
    },
    "it calls Python": {
        *("pure_callback", "io_callback", "debug_callback", "debug_print", "inspect_sharding"),
    },
    "it is there for its effect, or for the order of effects": {
        *("after_all", "create_token", "dce_sink", "get", "swap", "addupdate", "empty", "empty2"),
        *("tie", "create_linear", "core_map", "run_state", "shape_assertion", "unreachable"),
    },
    "it is of shapes that are not known": {
        *("dim_as_value", "dimension_size", "broadcast_to"),
    },
    "the same bits as other numbers": {
        *("bitcast_convert_type", "to_edtype", "from_edtype"),
    },
    "a program that no transformation leaves behind": {
        *("call", "remat_opt"),
    },
}
ERROR_FUNCTION = {"erf", "erfc", "erf_inv"}
# By their names a reader knows an activation: tanh, erfc, logistic, max.
FUNCTIONS = {
    *("max", "min", "exp", "exp2", "log", "log1p", "expm1", "sin", "cos", "tan", "tanh"),
    *(*ERROR_FUNCTION, "logistic", "clamp", "select_n"),
}
# Parameters that have no say in the results.
SILENT = re.compile(r"name|.*sharding|jvp.*|bwd|fwd.*|mesh|call_info|debug.*|ctx_mesh|.*thunk")


def random_wrap(key_dtype: Any) -> tuple[Any, dict[str, Any]]:
    """The primitive that makes keys of their data, and its parameters."""

    def again(key: jax.Array) -> jax.Array:
        return jax.random.wrap_key_data(jax.random.key_data(key), impl=jax.random.key_impl(key))

    wrap = jax.make_jaxpr(again)(jax.ShapeDtypeStruct((), key_dtype)).eqns[-1]
    return wrap.primitive, wrap.params


def programs_in(params: Mapping[str, Any]) -> Iterator[core.Jaxpr]:
    """The programs among the parameters of an equation."""
    for value in jax.tree.leaves(list(params.values())):
        if isinstance(value, core.ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, core.Jaxpr):
            yield value


# File, line, function and column of a call.
Frame = tuple[str, int, str, int]


def frames(traceback: Any) -> list[Frame]:
    """(file, line, function, column) of the calls that an equation comes from, innermost first.

    Of an equation in a program that another equation calls, those up to that call.
    """
    if traceback is None:
        return []
    return [
        _frame(code, instruction) for code, instruction in zip(*traceback.raw_frames(), strict=True)
    ]


# Code of two files may be equal in Python, and takes long to hash: it is told by its identity,
# which stays its own as long as it is kept.
_FRAMES: dict[tuple[int, int], tuple[types.CodeType, Frame]] = {}


def _frame(code: types.CodeType, instruction: int) -> Frame:
    """Where an instruction is."""
    key = (id(code), instruction)
    if key not in _FRAMES:
        # An instruction takes two bytes.
        line, _, column, _ = next(itertools.islice(code.co_positions(), instruction // 2, None))
        place = (line or code.co_firstlineno, code.co_qualname, column or 0)
        _FRAMES[key] = code, (code.co_filename, *place)
    return _FRAMES[key][1]

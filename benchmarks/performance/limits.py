"""What no pass can be faster than: its products alone; and why a scan is slower than those."""

import importlib.util
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.performance.peers.column import Weights
from shared.bench.hlo_text import Instruction, Module, names, numbers, optimised_text, parse
from shared.bench.pure_jax import Forward, layer_list, stack
from shared.bench.pure_layers import Layer, Leaves, dense_relu
from shared.bench.rows import jitted, timed_row
from shared.bench.timing import Call, in_turns
from shared.models.subject import total
from shared.report.measured import Quantity

# A product of so many rows and columns is large enough for each library to reach its peak.
LARGE = 2048
# Of what is measured here, for each size.
SECONDS, FEWEST = 3.0, 7


def products(kernels: list[jax.Array], x: jax.Array) -> jax.Array:
    """N products, each of the result of the one before: (B, F) -> (B, F)."""
    for kernel in kernels:
        x = x @ kernel
    return x


def products_of_gradient(
    kernels: list[jax.Array], x: jax.Array, gradient: jax.Array
) -> tuple[jax.Array, list[jax.Array]]:
    """3N-1 products: those of the pass, of the gradient of each kernel and of each layer's input.

    Each is an argument of another or is returned, as a gradient is. `gradient` (B, F), of the
    outputs, is an argument: XLA could replace a product with ones by a sum.
    """
    inputs = [x]
    for kernel in kernels:
        inputs.append(inputs[-1] @ kernel)
    of_kernels = []
    for i in reversed(range(len(kernels))):
        of_kernels.append(inputs[i].T @ gradient)
        if i:  # by its inputs nothing is differentiated
            gradient = gradient @ kernels[i].T
    return inputs[-1], of_kernels


def scanned_products(kernels: jax.Array, x: jax.Array) -> jax.Array:
    """The same as `products` by scan: kernels (N, F, F)."""
    return jax.lax.scan(lambda x, kernel: (x @ kernel, None), x, kernels)[0]


def scanned_copies(kernels: jax.Array, _: jax.Array) -> jax.Array:
    """What such a scan does beside its products: each kernel becomes the carry."""
    return jax.lax.scan(lambda _, kernel: (kernel, None), jnp.zeros_like(kernels[0]), kernels)[0]


def plain_products(weights: Weights, x: np.ndarray) -> tuple[Call, Call]:
    """Calls of the products of the forward pass, and of its gradient, alone."""
    kernels, own = [jnp.array(kernel) for kernel in weights.kernel], jnp.array(x)
    num_layers = len(kernels)
    ones = jnp.ones_like(own)
    for function, args, count in (
        (products, (kernels, own), num_layers),
        (products_of_gradient, (kernels, own, ones), 3 * num_layers - 1),
    ):
        found = num_products(compiled(function, *args))
        assert found == count, f"expected {count} products, XLA has {found}"
    return jitted(products, kernels, own), jitted(products_of_gradient, kernels, own, ones)


def compiled(function: Callable[..., Any], *args: Any) -> Module:
    """What XLA made of a function."""
    return parse(optimised_text(jax.jit(function).lower(*args).compile()))


def num_products(program: Module) -> int:
    """How many products are in a program, however they are run. One in a loop is one."""
    lines = [line for lines in program.computations.values() for line in lines]
    return sum(line.op in ("dot", "custom-call") for line in lines)


def large_products() -> dict[str, float]:
    """{library: the GFLOP/s of its best round} of a product of matrices `LARGE` x `LARGE`."""
    a, b = np.random.default_rng(0).standard_normal((2, LARGE, LARGE), np.float32)
    out = np.empty_like(a)
    calls: dict[str, Call] = {
        "jax": jitted(jnp.matmul, jnp.array(a), jnp.array(b)),
        "numpy": lambda: np.matmul(a, b, out=out),
    }
    if importlib.util.find_spec("torch"):
        import torch

        tensors, result = (torch.tensor(a), torch.tensor(b)), torch.tensor(a)
        calls["torch"] = lambda: torch.matmul(*tensors, out=result)
    timed = in_turns(calls, SECONDS, fewest=FEWEST)
    return {name: 2 * LARGE**3 / min(times) / 1e9 for name, times in timed.items()}


def scan_rows(size: tuple[int, int, int], weights: Weights, x: np.ndarray) -> Iterator[Quantity]:
    """The time of products and of layers, in a list and in a scan; and what each layer copies."""
    kernel, bias, own = jnp.array(weights.kernel), jnp.array(weights.bias), jnp.array(x)
    leaves = [leaf for pair in zip(bias, kernel, strict=True) for leaf in pair]
    columns = {
        "list of products": (products, list(kernel)),
        "scan of products": (scanned_products, kernel),
        "list of layers": (layer_list, leaves),
        "scan of layers": (stack(dense_relu), (bias, kernel)),
    }
    calls = {name: jitted(function, held, own) for name, (function, held) in columns.items()}
    calls["scan of copies"] = jitted(scanned_copies, kernel, own)
    yield timed_row(f"forward {size}", in_turns(calls, SECONDS, fewest=FEWEST))
    for kind, of in (("forward", lambda function: function), ("value and gradient", _gradient)):
        copied = {
            name: float(copied_bytes(compiled(of(function), held, own), kernel[0].size))
            for name, (function, held) in columns.items()
        }
        yield Quantity(f"{kind} {size}: weights copied by each layer", "bytes", copied, {})


def ways_to_scan(size: tuple[int, int, int], weights: Weights, x: np.ndarray) -> Quantity:
    """Value and gradient of the layers by scans that do the same, and by a list."""
    kernel, bias, own = jnp.array(weights.kernel), jnp.array(weights.bias), jnp.array(x)
    transposed = kernel.mT.copy()

    def scanned(layer: Layer, **options: Any) -> Forward:
        def forward(leaves: Leaves, x: jax.Array) -> jax.Array:
            return jax.lax.scan(lambda x, of: (layer(x, of), None), x, leaves, **options)[0]

        return forward

    def of_transposed(x: jax.Array, leaves: Leaves) -> jax.Array:
        bias, kernel = leaves
        return dense_relu(x, (bias, kernel.T))

    leaves = [leaf for pair in zip(bias, kernel, strict=True) for leaf in pair]
    ways: dict[str, tuple] = {
        "scan": (scanned(dense_relu), (bias, kernel)),
        "unroll=2": (scanned(dense_relu, unroll=2), (bias, kernel)),
        "unroll=4": (scanned(dense_relu, unroll=4), (bias, kernel)),
        "_split_transpose": (scanned(dense_relu, _split_transpose=True), (bias, kernel)),
        "weights transposed": (scanned(of_transposed), (bias, transposed)),
        "list": (layer_list, leaves),
    }
    calls = {name: jitted(_gradient(way), held, own) for name, (way, held) in ways.items()}
    return timed_row(f"value and gradient {size}", in_turns(calls, SECONDS, fewest=FEWEST))


def _gradient(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda held, x: jax.value_and_grad(lambda held: total(function(held, x)))(held)


def copied_bytes(program: Module, size: int) -> int:
    """What one turn of the loops of a program copies from stacks of weights, and to them.

    Args:
      size: the number of elements of a layer's weights.
    """
    copied = 0
    for line in _turns(program):
        inner = [line]
        if line.op == "fusion":
            (name,) = names(line.attributes["calls"])
            inner = program.computations[name]
        shapes = {each.name: each.shape for each in inner}
        for each in inner:
            # A slice that is used where it is made is read once, as weights always are.
            is_read = each.op == "dynamic-slice" and _elements(line.shape) == size
            written = names(each.operands)[1:2] if each.op == "dynamic-update-slice" else []
            is_written = any(_elements(shapes.get(name, "")) == size for name in written)
            if is_read or is_written:
                copied += 4 * size
    return copied


def _turns(program: Module) -> Iterator[Instruction]:
    """The instructions of the bodies of all loops."""
    for lines in program.computations.values():
        for line in lines:
            if line.op == "while":
                (body,) = names(line.attributes["body"])
                yield from program.computations[body]


def _elements(shape: str) -> int:
    return math.prod(numbers(shape.partition("[")[2].partition("]")[0]))

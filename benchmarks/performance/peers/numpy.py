"""NumPy: products by BLAS into buffers that are made once, the gradient by hand."""

import numpy as np

from benchmarks.performance.peers.column import Column, Weights


def columns(weights: Weights, x: np.ndarray) -> dict[str, Column]:
    bias, kernel = (leaf.copy() for leaf in weights)
    forward, gradient = Forward(bias, kernel, x.copy()), Gradient(bias, kernel, x.copy())
    return {"numpy": Column(forward, gradient, np.copy, _read)}


class Forward:
    """() -> (B, F), in a buffer that the next call writes to."""

    def __init__(self, bias: np.ndarray, kernel: np.ndarray, x: np.ndarray):
        self.bias, self.kernel, self.x = bias, kernel, x
        # A product is not written over what it is made of.
        self.buffers = np.empty_like(x), np.empty_like(x)

    def __call__(self) -> np.ndarray:
        h, (out, other) = self.x, self.buffers
        for bias, kernel in zip(self.bias, self.kernel, strict=True):
            h = layer(h, bias, kernel, out)
            out, other = other, out
        return h


class Gradient:
    """() -> the sum and the gradient by bias (N, F) and kernel (N, F, F), in such buffers."""

    def __init__(self, bias: np.ndarray, kernel: np.ndarray, x: np.ndarray):
        self.bias, self.kernel = bias, kernel
        self.outputs = np.empty((len(bias) + 1, *x.shape), x.dtype)
        self.outputs[0] = x
        self.of_bias, self.of_kernel = np.empty_like(bias), np.empty_like(kernel)
        self.buffers = np.empty_like(x), np.empty_like(x)
        self.is_positive = np.empty(x.shape, bool)

    def __call__(self) -> tuple[np.float32, np.ndarray, np.ndarray]:
        for i, (bias, kernel) in enumerate(zip(self.bias, self.kernel, strict=True)):
            layer(self.outputs[i], bias, kernel, self.outputs[i + 1])
        of_output, out = self.buffers
        of_output.fill(1)
        for i in reversed(range(len(self.bias))):
            # The gradient of relu at 0 is 0.
            np.greater(self.outputs[i + 1], 0, out=self.is_positive)
            of_output *= self.is_positive
            np.sum(of_output, axis=0, out=self.of_bias[i])
            np.matmul(self.outputs[i].T, of_output, out=self.of_kernel[i])
            if i:
                np.matmul(of_output, self.kernel[i].T, out=out)
                of_output, out = out, of_output
        return self.outputs[-1].sum(), self.of_bias, self.of_kernel


def layer(h: np.ndarray, bias: np.ndarray, kernel: np.ndarray, out: np.ndarray) -> np.ndarray:
    """relu(h @ kernel + bias), in `out`."""
    np.matmul(h, kernel, out=out)
    out += bias
    return np.maximum(out, 0, out=out)


def _read(returned: tuple[np.float32, np.ndarray, np.ndarray]) -> tuple[float, Weights]:
    value, bias, kernel = returned
    return float(value), Weights(bias.copy(), kernel.copy())

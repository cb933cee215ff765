"""PyTorch: a loop over layers with tensors of their own, eager and compiled."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.performance.peers.column import Column, Found, Weights
from shared.errors import one_line

Tensors = list[torch.Tensor]


def columns(weights: Weights, x: np.ndarray) -> Found:
    """Eager and, where there is a C++ compiler, compiled."""
    notes = (f"PyTorch runs on {torch.get_num_threads()} threads, its default here.",)
    found = {"torch eager": column(weights, x, lambda function: function)}
    # Programs of another size would be asked for first in each call.
    torch.compiler.reset()
    try:
        found["torch compiled"] = column(weights, x, torch.compile)
    except torch._dynamo.exc.BackendCompilerFailed as error:
        return found, (*notes, f"torch.compile fails here: {one_line(error)}")
    return found, notes


def column(weights: Weights, x: np.ndarray, made: Callable[[Any], Any]) -> Column:
    """`made`: of a function, how it is called."""
    own, bias = torch.tensor(x), [torch.tensor(each) for each in weights.bias]
    # (out, in), as `torch.nn.Linear` keeps it.
    kernel = [torch.tensor(each.T.copy()) for each in weights.kernel]
    for each in (*bias, *kernel):
        each.requires_grad_()
    forward_, loss_ = made(run), made(loss)

    def forward():
        with torch.inference_mode():
            return forward_(bias, kernel, own)

    def gradient():
        value = loss_(bias, kernel, own)
        return value, torch.autograd.grad(value, (*bias, *kernel))

    forward()
    gradient()
    return Column(forward, gradient, lambda returned: returned.numpy(), _read)


def run(bias: Tensors, kernel: Tensors, x: torch.Tensor) -> torch.Tensor:
    """(B, F) -> (B, F)."""
    for b, w in zip(bias, kernel, strict=True):
        x = torch.relu(torch.nn.functional.linear(x, w, b))
    return x


def loss(bias: Tensors, kernel: Tensors, x: torch.Tensor) -> torch.Tensor:
    return run(bias, kernel, x).sum()


def _read(returned) -> tuple[float, Weights]:
    value, gradient = returned
    num_layers = len(gradient) // 2
    bias = np.stack([each.numpy() for each in gradient[:num_layers]])
    kernel = np.stack([each.numpy().T for each in gradient[num_layers:]])
    return value.item(), Weights(bias, kernel)

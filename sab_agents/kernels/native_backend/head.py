"""What a learner does between its core's forward and backward pass, in compiled C++: a linear head and its loss.

Dimensions: T steps, B rows, N numbers in one output of the core, C numbers in one of the head, n outputs with a target.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sab_agents.kernels.native_backend.extension import addresses, native, new_empty, threads
from sab_agents.kernels.native_backend.step import REAL, WHOLE, fits

LOSSES = ("cross_entropy", "binary_cross_entropy", "squared_error")


def head_gradient(
    loss: str, weight: Tensor, bias: Tensor, outputs: Tensor, place: Tensor | None, target: Tensor
) -> Tensor | None:
    """Adds the gradients of weight and bias to their `.grad`, and returns that of the outputs (T, B, N).

    None, and nothing done, where an argument is not what the compiled code takes.

    Args:
        loss: the mean of it over n outputs is what the gradient is of.
        weight: (C, N).
        bias: (C,).
        outputs: (T, B, N).
        place: (n,) int64, which of the T·B outputs have a target; None for all.
        target: (n,) int64 classes for "cross_entropy", (n, C) numbers otherwise.

    Raises:
        ValueError: a place or class is out of range.
    """
    (T, B, N), C, n = outputs.shape, weight.shape[0], len(target)
    flat = outputs.contiguous()
    shape, dtype = ((n,), WHOLE) if loss == "cross_entropy" else ((n, C), REAL)
    grads = weight.grad, bias.grad
    if not (
        fits(flat, (T, B, N), REAL)
        and fits(weight, (C, N), REAL)
        and fits(bias, (C,), REAL)
        and fits(target, shape, dtype)
        and (n == T * B if place is None else fits(place, (n,), WHOLE))
        and all(grad is None or grad.is_contiguous() for grad in grads)
    ):
        return None
    chosen = None if place is None else new_empty(n, N)
    gradient, back = new_empty(n, C), torch.empty_like(flat)
    in_range = native.head(
        *(threads(n * C * N), T * B, N, C, n, LOSSES.index(loss)),
        *addresses(flat, place, weight, bias, target, chosen, gradient, *grads, back),
    )
    if not in_range:
        raise ValueError(f"a target must lie in 0 … {C - 1}, at an output that is there.")
    return back


def norm(x: Tensor) -> float:
    """The Euclidean norm of all numbers of x, float32 on the CPU."""
    x = x.contiguous()
    found: float = native.norm(1, x.numel(), x.data_ptr())
    return found

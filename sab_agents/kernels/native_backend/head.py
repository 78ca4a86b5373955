"""What a learner does between its core's forward and backward pass, with the native kernel: a linear head and its loss.

Dimensions: T steps, B rows, N features of one output of the core, C of one of the head, n outputs with a target.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sab_agents.kernels.native_backend.extension import REAL, WHOLE, fits, native, new_empty, threads

LOSSES = ("cross_entropy", "binary_cross_entropy", "squared_error")


def head_gradient(
    loss: str, weight: Tensor, bias: Tensor, outputs: Tensor, place: Tensor | None, target: Tensor
) -> Tensor | None:
    """Adds the gradients of weight and bias to their `.grad`, and returns that of the outputs (T, B, N).

    Returns None, and does nothing, if the native kernel cannot take an argument.

    Args:
        loss: its mean over n outputs is what the gradient is of.
        weight: (C, N).
        bias: (C,).
        outputs: (T, B, N).
        place: (n,) int64, which of the T·B outputs have a target; None for all.
        target: (n,) int64 classes for "cross_entropy", (n, C) float32 otherwise.

    Raises:
        ValueError: a place or class is out of range.
    """
    (T, B, N), C, n = outputs.shape, weight.shape[0], len(target)
    flat = outputs.contiguous()
    shape, dtype = ((n,), WHOLE) if loss == "cross_entropy" else ((n, C), REAL)
    grad_weight, grad_bias = weight.grad, bias.grad
    if not (
        fits(flat, (T, B, N), REAL)
        and fits(weight, (C, N), REAL)
        and fits(bias, (C,), REAL)
        and fits(target, shape, dtype)
        and (n == T * B if place is None else fits(place, (n,), WHOLE))
        and all(grad is None or grad.is_contiguous() for grad in (grad_weight, grad_bias))
    ):
        return None
    grad_outputs = torch.empty_like(flat)
    in_range = native.Head(
        threads=threads(n * C * N),
        all=T * B,
        width=N,
        classes=C,
        count=n,
        loss=LOSSES.index(loss),
        outputs=flat,
        place=place,
        weight=weight,
        bias=bias,
        target=target,
        chosen=None if place is None else new_empty(n, N),
        gradient=new_empty(n, C),
        grad_weight=grad_weight,
        grad_bias=grad_bias,
        grad_outputs=grad_outputs,
    ).run()
    if not in_range:
        raise ValueError(f"a target must lie in 0 … {C - 1}, at an output that is there.")
    return grad_outputs


def norm(x: Tensor) -> float:
    """Returns the Euclidean norm of all elements of x, float32 on the CPU."""
    return float(native.Norm(count=x.numel(), x=x.contiguous()).run())

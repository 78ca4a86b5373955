"""The large products around a scan with the native kernel, for float32 on the CPU.

Dimensions: T steps, B rows, I input size, N output size.

torch's own product is several times slower on some processors, which would cost more than the whole scan.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sab_agents.kernels.native_backend.extension import native, new_empty, threads


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Computes x (T, B, I) · weight (N, I)ᵀ + bias (N,), as (T, B, N); gradient flows to all three."""
    result: Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return result


def outer(left: Tensor, right: Tensor) -> Tensor:
    """Σ over steps and rows of left (T, B, M) ⊗ right (T, B, N), as (M, N); no gradient."""
    left, right = left.contiguous(), right.contiguous()
    rows, columns, terms = left.shape[2], right.shape[2], left.shape[0] * left.shape[1]
    if right.shape[:2] != left.shape[:2] or {left.dtype, right.dtype} != {torch.float32}:
        raise ValueError(
            f"outer: left {left.shape} and right {right.shape} must be float32 with the same steps and rows."
        )
    if terms == 0:
        return left.new_zeros(rows, columns)
    result = new_empty(rows, columns)
    native.Outer(
        threads=threads(terms * rows * columns),
        rows=rows,
        columns=columns,
        terms=terms,
        add=False,
        skip=None,
        left=left,
        right=right,
        out=result,
    ).run()
    return result


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        x, weight = x.contiguous(), weight.contiguous()
        ctx.save_for_backward(x, weight)
        return product(x, weight.t(), bias.contiguous())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous()
        for_x, for_weight, for_bias = ctx.needs_input_grad
        return (
            product(grad, weight) if for_x else None,
            outer(grad, x) if for_weight else None,
            grad.sum(dim=(0, 1)) if for_bias else None,
        )


def product(x: Tensor, weight: Tensor, *biases: Tensor) -> Tensor:
    """Computes x (T, B, K) · weight (K, N) + the sum of at most two biases (N,); no gradient.

    x and the biases are contiguous, the weight has any strides.
    """
    (T, B, width), (k, n) = x.shape, weight.shape
    if width != k or not x.dtype is weight.dtype is torch.float32 or any(bias.shape != (n,) for bias in biases):
        raise ValueError(f"linear: x {x.shape} and weight {weight.shape} must be float32 and agree in {k}.")
    result, rows = new_empty(T, B, n), T * B
    bias, second_bias = (*biases, None, None)[:2]
    along_k, along_n = weight.stride()
    native.Linear(
        threads=threads(rows * k * n),
        rows=rows,
        k=k,
        n=n,
        along_k=along_k,
        along_n=along_n,
        x=x,
        weight=weight,
        bias=bias,
        second_bias=second_bias,
        out=result,
    ).run()
    return result

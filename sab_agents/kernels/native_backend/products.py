"""The large products around a scan with the native kernel, for float32 on the CPU.

Dimensions: T steps, B rows, I input size, N output size.

torch's own product is several times slower on some processors, which would cost more than the whole scan.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sab_agents.kernels.native_backend.extension import native, new_empty, threads


def product(x: Tensor, weight: Tensor, *biases: Tensor) -> Tensor:
    """Computes x (T, B, K) · weight (K, N) + the sum of at most two biases (N,); no gradient.

    x and the biases are contiguous, the weight has any strides.
    """
    (T, B, width), (k, n) = x.shape, weight.shape
    if width != k or not x.dtype is weight.dtype is torch.float32 or any(bias.shape != (n,) for bias in biases):
        raise ValueError(f"product: x {x.shape} and weight {weight.shape} must be float32 and agree in {k}.")
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

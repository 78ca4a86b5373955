"""Linear layers and their gradients with the native kernel, in float32 on a CPU.

Dimensions: N rows, D inputs, F outputs.
"""

from __future__ import annotations

import math

from torch import Tensor

from sab_agents.kernels.native_backend.extension import native, new_empty, threads

ACTIVATIONS = {None: 0, "tanh": 1, "relu": 2}
"""The numbers by which the native kernel knows activations."""


def linear(x: Tensor, weight: Tensor, bias: Tensor, activation: str | None) -> Tensor:
    """Returns x (N, D) · weight (F, D)ᵀ + bias (F,) and its activation, (N, F)."""
    return product(x, weight.t(), bias, activation)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None) -> Tensor:
    """Returns x (…, K) · weight (K, F) + bias (F,) and its activation, (…, F), without gradient.

    The weight may have any strides. torch's own product is several times slower on some processors, which would cost
    more than a whole scan.
    """
    (*leading, k), n = x.shape, weight.shape[1]
    rows, out, (along_k, along_n) = math.prod(leading), new_empty(*leading, n), weight.stride()
    native.Linear(
        threads=threads(rows * k * n),
        rows=rows,
        k=k,
        n=n,
        along_k=along_k,
        along_n=along_n,
        x=x.contiguous(),
        weight=weight,
        bias=None if bias is None else bias.contiguous(),
        second_bias=None,
        activation=ACTIVATIONS[activation],
        out=out,
    ).run()
    return out


def gradient_of_weight(gradient: Tensor, x: Tensor) -> Tensor:
    """Returns gradient (N, F)ᵀ · x (N, D), (F, D)."""
    (N, F), D = gradient.shape, x.shape[1]
    out = new_empty(F, D)
    native.Outer(
        threads=threads(N * F * D),
        rows=F,
        columns=D,
        terms=N,
        add=False,
        skip=None,
        left=gradient.contiguous(),
        right=x.contiguous(),
        out=out,
    ).run()
    return out

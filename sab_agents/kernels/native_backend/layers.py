"""Linear layers and their gradients with the native kernel, in float32 on a CPU.

Dimensions: N rows, D inputs, F outputs.
"""

from __future__ import annotations

from torch import Tensor

from sab_agents.kernels.native_backend.extension import native, new_empty, threads

ACTIVATIONS = {None: 0, "tanh": 1, "relu": 2}
"""The numbers by which the native kernel knows activations."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None) -> Tensor:
    """Returns x (N, D) · weight (F, D)ᵀ + bias (F,) and its activation, (N, F)."""
    (N, D), F = x.shape, len(weight)
    return _product(x, weight, bias, activation, (N, D, F), (1, D))


def gradient_of_inputs(gradient: Tensor, weight: Tensor) -> Tensor:
    """Returns gradient (N, F) · weight (F, D), (N, D)."""
    (N, F), D = gradient.shape, weight.shape[1]
    return _product(gradient, weight, None, None, (N, F, D), (D, 1))


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


def _product(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str | None,
    sizes: tuple[int, int, int],
    strides: tuple[int, int],
) -> Tensor:
    rows, k, n = sizes
    out = new_empty(rows, n)
    native.Linear(
        threads=threads(rows * k * n),
        rows=rows,
        k=k,
        n=n,
        along_k=strides[0],
        along_n=strides[1],
        x=x.contiguous(),
        weight=weight.contiguous(),
        bias=None if bias is None else bias.contiguous(),
        second_bias=None,
        activation=ACTIVATIONS[activation],
        out=out,
    ).run()
    return out

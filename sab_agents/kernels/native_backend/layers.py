"""Linear layers and their gradients with the native kernel, in float32 on a CPU.

Dimensions: N rows, D inputs, F outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

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


def layer_backward(
    x: Tensor,
    out: Tensor,
    gradient: Tensor,
    weight: Tensor,
    activation: str | None,
    wanted: Sequence[bool],
    into: Sequence[Tensor | None] | None,
) -> list[Tensor | None]:
    """Returns the gradients of weight, bias and x of a layer, None for those that are not wanted.

    Args:
        x: (N, D) inputs.
        out: (N, F) what the layer made of them.
        gradient: (N, F) of that; it is changed to the gradient before the activation, if there is one.
        weight: (F, D).
        activation: after the layer.
        wanted: (3,) which gradients are.
        into: contiguous, to which those of weight and bias are added where they are wanted; None makes new ones.
    """
    (N, D), F = x.shape, weight.shape[0]
    shapes = (F, D), (F,), (N, D)
    made: list[Tensor | None] = [
        None if not wants else new_empty(*shape) if into is None or place == 2 else into[place]
        for place, (shape, wants) in enumerate(zip(shapes, wanted, strict=True))
    ]
    native.LayerBackward(
        threads=threads(N * F * D),
        rows=N,
        inputs=D,
        outputs=F,
        activation=ACTIVATIONS[activation],
        add=into is not None,
        x=x.contiguous(),
        out=out.contiguous(),
        weight=weight.contiguous(),
        gradient=gradient.contiguous(),
        grad_weight=made[0],
        grad_bias=made[1],
        grad_x=made[2],
    ).run()
    return made

"""Linear layers with activations, one after the other, and their gradients, without a graph.

Dimensions: N rows, D inputs, F outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from sab_agents.kernels.backend import runs_native
from sab_agents.kernels.native_backend import layers as native_layers


class Layer(NamedTuple):
    """A linear layer and what follows it.

    Attributes:
        weight: (F, D).
        bias: (F,).
        activation: "tanh", "relu" or None.
    """

    weight: Tensor
    bias: Tensor
    activation: str | None


def values_of_layers(layers: Sequence[Layer], x: Tensor) -> list[Tensor]:
    """Returns x (N, D) and what each layer makes of the value before it."""
    natively = runs_native(x, *(tensor for layer in layers for tensor in layer[:2]))
    values = [x]
    for layer in layers:
        values.append((native_layers.linear if natively else _linear)(values[-1], *layer))
    return values


def gradients_of_layers(
    layers: Sequence[Layer], values: Sequence[Tensor], gradient: Tensor, wanted: Sequence[bool]
) -> list[Tensor | None]:
    """Returns the gradients of x, and of the weight and the bias of each layer.

    Args:
        layers: L of them.
        values: what `values_of_layers` returned.
        gradient: (N, F) of the last value.
        wanted: (1 + 2 · L,) of which a gradient is wanted; it is None for the others.
    """
    natively = runs_native(gradient, *values, *(layer.weight for layer in layers))
    found: list[Tensor | None] = [None] * len(wanted)
    for index in reversed(range(len(layers))):
        weight, _, activation = layers[index]
        if activation == "tanh":
            gradient = torch.ops.aten.tanh_backward(gradient, values[index + 1])
        elif activation == "relu":
            gradient = torch.ops.aten.threshold_backward(gradient, values[index + 1], 0)
        if wanted[1 + 2 * index]:
            x = values[index]
            found[1 + 2 * index] = native_layers.gradient_of_weight(gradient, x) if natively else gradient.t() @ x
        if wanted[2 + 2 * index]:
            found[2 + 2 * index] = gradient.sum(0)
        if index or wanted[0]:
            gradient = native_layers.product(gradient, weight) if natively else gradient @ weight
    found[0] = gradient if wanted[0] else None
    return found


def _linear(x: Tensor, weight: Tensor, bias: Tensor, activation: str | None) -> Tensor:
    y = functional.linear(x, weight, bias)
    if activation is None:
        return y
    return y.tanh_() if activation == "tanh" else y.relu_()

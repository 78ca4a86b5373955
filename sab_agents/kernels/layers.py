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
    layers: Sequence[Layer],
    values: Sequence[Tensor],
    gradient: Tensor,
    wanted: Sequence[bool],
    into: Sequence[Tensor | None] | None = None,
) -> list[Tensor | None]:
    """Returns the gradients of x, and of the weight and the bias of each layer.

    Args:
        layers: L of them.
        values: what `values_of_layers` returned.
        gradient: (N, F) of the last value.
        wanted: (1 + 2 · L,) of which a gradient is wanted; it is None for the others.
        into: (2 · L,) tensors to which those of weights and biases are added, and which are returned; those that are
            wanted must be there. None makes new ones.
    """
    found: list[Tensor | None] = [None] * len(wanted)
    natively = runs_native(gradient, *values, *(tensor for layer in layers for tensor in layer[:2])) and all(
        each is None or each.is_contiguous() for each in into or ()
    )
    compute = native_layers.layer_backward if natively else _layer_backward
    for index in reversed(range(len(layers))):
        x, out, (weight, _, activation) = values[index], values[index + 1], layers[index]
        parts = slice(1 + 2 * index, 3 + 2 * index)
        given = None if into is None else into[2 * index : 2 * index + 2]
        if natively and activation is not None and out is values[-1]:
            gradient = gradient.clone()  # it is the caller's
        *found[parts], of_x = compute(
            x, out, gradient, weight, activation, (*wanted[parts], bool(index or wanted[0])), given
        )
        if of_x is not None:
            gradient = of_x
    found[0] = gradient if wanted[0] else None
    return found


def _layer_backward(
    x: Tensor,
    out: Tensor,
    gradient: Tensor,
    weight: Tensor,
    activation: str | None,
    wanted: Sequence[bool],
    into: Sequence[Tensor | None] | None,
) -> list[Tensor | None]:
    """Returns the gradients of weight, bias and x, as `native_layers.layer_backward`."""
    if activation == "tanh":
        gradient = torch.ops.aten.tanh_backward(gradient, out)
    elif activation == "relu":
        gradient = torch.ops.aten.threshold_backward(gradient, out, 0)
    found = [gradient.t() @ x if wanted[0] else None, gradient.sum(0) if wanted[1] else None]
    if into is not None:
        found = [each if to is None or each is None else to.add_(each) for each, to in zip(found, into, strict=True)]
    return [*found, gradient @ weight if wanted[2] else None]


def _linear(x: Tensor, weight: Tensor, bias: Tensor, activation: str | None) -> Tensor:
    y = functional.linear(x, weight, bias)
    if activation is None:
        return y
    return y.tanh_() if activation == "tanh" else y.relu_()

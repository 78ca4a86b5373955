"""The layers behind a recurrent core, and the sparse initialisation that they start from.

Source: Elsayed, Vasan & Mahmood 2024, section 3 and algorithm 1: sparse weights, and layer normalisation without any.
Dimensions: B rows, F features of a core's output, W width, D outputs.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from sab_agents.checks import fraction
from sab_agents.core.base import leaves_of, recompute_weights
from sab_agents.kernels.agent import ReadoutKernel

SLOPE, EPSILON = 0.01, 1e-5
"""Of the leaky ReLU below 0; added to the variance by layer normalisation."""


class Readout(nn.Module):
    """A linear layer, layer normalisation, leaky ReLU and a linear layer: (B, F) -> (B, D).

    Args:
        inputs: F.
        width: W.
        outputs: D.
        sparsity: fraction of each unit's weights that start at zero.

    Raises:
        ValueError: the sparsity is not from 0 to 1.
    """

    def __init__(self, inputs: int, width: int, outputs: int, sparsity: float) -> None:
        super().__init__()
        self.first = sparse_linear(inputs, width, sparsity)
        self.second = sparse_linear(width, outputs, sparsity)
        self._kernel = ReadoutKernel(SLOPE, EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the outputs (…, D) for x (…, F), with a graph if gradient is enabled."""
        return self._kernel.forward(self._weights(graph=torch.is_grad_enabled()), x)

    def peek(self, x: Tensor) -> Tensor:
        """Returns the output (D,) for one row, without gradient; the last `step` can still be learnt from.

        Args:
            x: (F,), or (1, F).
        """
        return self._kernel.peek(self._weights(), x)

    def step(self, x: Tensor) -> Tensor:
        """Returns the output (D,) for one row as `peek` does, and saves what `backward` needs."""
        return self._kernel.step(self._weights(), x)

    def backward(self, gradient: Tensor) -> Tensor:
        """Adds to the parameters' `.grad`, given the gradient (D,) of the last `step`; returns that of its x, as x lay.

        Raises:
            RuntimeError: there was no step.
        """
        weights = self._weights(graph=True)
        if self._kernel.holds(weights):  # which are leaves then
            return self._kernel.backward_held(gradient)
        with leaves_of(weights) as leaves:
            return self._kernel.backward(leaves, gradient)

    @property
    def like(self) -> Tensor:
        """A parameter, for the dtype and device of all."""
        bias = self._modules["second"]._parameters.get("bias")  # type: ignore[union-attr]
        return self._weights()[3] if bias is None else bias

    def _weights(self, *, graph: bool = False) -> tuple[Tensor, ...]:
        """Returns the weights as they are now; `graph` is whether those that are computed from others have one."""
        modules: Any = self._modules  # `__getattr__` would take as long as the layers
        first, second = modules["first"]._parameters, modules["second"]._parameters
        try:
            return first["weight"], first["bias"], second["weight"], second["bias"]
        except KeyError:
            with torch.set_grad_enabled(graph):
                recompute_weights(self.first, self.second)
                return self.first.weight, self.first.bias, self.second.weight, self.second.bias


def sparse_linear(inputs: int, outputs: int, sparsity: float = 0.9) -> nn.Linear:
    """Returns a linear layer with zero biases, in which a fraction of each unit's weights, drawn at random, is zero.

    The others are uniform within ±1/√inputs. At least one weight of each unit is not zero, so that a layer with few
    inputs is not silent.

    Args:
        inputs: features that each unit reads.
        outputs: units.
        sparsity: the fraction, from 0 to 1; the number of weights is rounded up.

    Raises:
        ValueError: the fraction is not from 0 to 1.
    """
    fraction("sparse_linear", "sparsity", sparsity)
    layer = nn.Linear(inputs, outputs)
    zeros = min(math.ceil(sparsity * inputs), inputs - 1)
    with torch.no_grad():
        layer.weight.uniform_(-1 / math.sqrt(inputs), 1 / math.sqrt(inputs))
        layer.weight.scatter_(1, torch.rand(outputs, inputs).argsort(dim=1)[:, :zeros], 0.0)
        layer.bias.zero_()
    return layer

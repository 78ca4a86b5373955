"""The layers behind a recurrent core, with their gradient written out: autograd costs more than the layers themselves.

Source: Elsayed, Vasan & Mahmood 2024, section 3: sparse initialisation and layer normalisation without weights.
Dimensions: B rows, F numbers in a core's output, W width, D numbers that come out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from sab_agents.kernels import CompiledReadout, bind_readout
from sab_agents.online.learners import gradient_of
from sab_agents.online.sparse import sparse_linear

SLOPE, EPSILON = 0.01, 1e-5  # of leaky ReLU below 0, and of layer normalisation


class Readout(nn.Module):
    """A linear layer, layer normalisation, leaky ReLU and a linear layer: (B, F) -> (B, D).

    Args:
        inputs: F.
        width: W.
        outputs: D.
        sparsity: share of each unit's weights that start at zero.
    """

    def __init__(self, inputs: int, width: int, outputs: int, sparsity: float) -> None:
        super().__init__()
        self.first = sparse_linear(inputs, width, sparsity)
        self.second = sparse_linear(width, outputs, sparsity)
        self._kept: tuple[Tensor, ...] = ()
        self._code: CompiledReadout | None = None

    def forward(self, output: Tensor) -> Tensor:
        """Computes the layers."""
        normal = functional.layer_norm(self.first(output), (self.first.out_features,), eps=EPSILON)
        numbers: Tensor = self.second(functional.leaky_relu(normal, SLOPE))
        return numbers

    def bind(self) -> None:
        """Computes by compiled code from now on, if there is any; parameters and gradients must stay where they are."""
        parameters = (self.first.weight, self.first.bias, self.second.weight, self.second.bias)
        self._code = bind_readout(parameters, tuple(map(gradient_of, parameters)), SLOPE, EPSILON)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves the parameters, as `nn.Module.to` does: what was bound to them is no longer."""
        self._code = None
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call,no-any-return]

    def peek(self, output: Tensor) -> Tensor:
        """Computes the layers for one row (F,), without gradient, and keeps nothing; returns (D,)."""
        if self._code is not None:
            return self._code.step(output, keep=False)
        with torch.no_grad():
            return self(output)  # type: ignore[no-any-return]

    def step(self, output: Tensor) -> Tensor:
        """Computes the layers for one row (F,), and keeps what `backward` needs; returns (D,)."""
        return self._step(output) if self._code is None else self._code.step(output, keep=True)

    def backward(self, gradient: Tensor) -> Tensor:
        """Adds the parameters' gradients, given the last `step` result's (D,); returns its input's (F,)."""
        return self._backward(gradient) if self._code is None else self._code.backward(gradient)

    @torch.no_grad()
    def _step(self, output: Tensor) -> Tensor:
        raw = torch.addmv(self.first.bias, self.first.weight, output)
        variance, mean = torch.var_mean(raw, correction=0)
        scale = 1 / math.sqrt(variance.item() + EPSILON)
        normal = (raw - mean).mul_(scale)
        hidden = functional.leaky_relu(normal, SLOPE)
        self._kept = output, normal, hidden
        self._scale = scale
        return torch.addmv(self.second.bias, self.second.weight, hidden)

    @torch.no_grad()
    def _backward(self, gradient: Tensor) -> Tensor:
        output, normal, hidden = self._kept
        gradient_of(self.second.weight).addr_(gradient, hidden)
        gradient_of(self.second.bias).add_(gradient)
        into_hidden = torch.mv(self.second.weight.t(), gradient)
        into_normal = torch.where(normal > 0, into_hidden, into_hidden * SLOPE)
        along = torch.dot(into_normal, normal).div_(len(normal))
        into_raw = (into_normal - into_normal.mean()).addcmul_(normal, along, value=-1).mul_(self._scale)
        gradient_of(self.first.weight).addr_(into_raw, output)
        gradient_of(self.first.bias).add_(into_raw)
        return torch.mv(self.first.weight.t(), into_raw)

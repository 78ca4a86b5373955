"""What an agent computes beside its recurrent core: readouts, the loss of a linear head, steps along traces.

Each is computed with the native kernel for float32 on a CPU and in torch otherwise. Parameters that were moved, copied
or replaced are bound again before the next call.

Dimensions: F features of a core's output, W width, D outputs of a readout; P parameters; T steps, B rows, C outputs of
a head, n outputs that have a target.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from sab_agents.kernels.backend import NATIVE, kernel_in_use
from sab_agents.kernels.binding import Binding, gradient_of
from sab_agents.kernels.native_backend import agent as native_agent
from sab_agents.kernels.native_backend.agent import CompiledDescent, CompiledReadout
from sab_agents.kernels.torch_backend import agent as torch_agent
from sab_agents.kernels.torch_backend.agent import TorchDescent, TorchReadout

Parameters = tuple[Tensor, ...]


class ReadoutKernel:
    """A linear layer, layer normalisation, leaky ReLU and a linear layer for one row, learnt from without a graph.

    Every call takes the parameters: weight (W, F), bias (W,), weight (D, W), bias (D,). A copy of this object, made by
    `copy` or `pickle`, is bound to nothing until its first call.

    Args:
        slope: of the leaky ReLU below 0.
        epsilon: added to the variance by layer normalisation.
    """

    def __init__(self, slope: float, epsilon: float) -> None:
        self._slope, self._epsilon = slope, epsilon
        self._bound: tuple[Binding, CompiledReadout | TorchReadout] | None = None
        self._x: Tensor | None = None  # of the last step

    def __reduce__(self) -> tuple[type[ReadoutKernel], tuple[float, float]]:
        return ReadoutKernel, (self._slope, self._epsilon)

    def forward(self, parameters: Parameters, x: Tensor) -> Tensor:
        """Returns the outputs (…, D) for x (…, F), with a graph if gradient is enabled."""
        return torch_agent.readout(parameters, x, self._slope, self._epsilon)

    def peek(self, parameters: Parameters, x: Tensor) -> Tensor:
        """Returns the output (D,) for x, (F,) or (1, F), without gradient; the last `step` can still be learnt from."""
        bound = self._bound
        if bound is None or not bound[0].holds(parameters):
            bound = self._bind(parameters)
        return bound[1].step(x, keep=False)

    def step(self, parameters: Parameters, x: Tensor) -> Tensor:
        """Returns the output (D,) for x as `peek` does, and saves what `backward` needs."""
        bound = self._bound
        if bound is None or not bound[0].holds(parameters):
            bound = self._bind(parameters)
        self._x = x
        return bound[1].step(x, keep=True)

    def backward(self, parameters: Parameters, gradient: Tensor) -> Tensor:
        """Adds to the parameters' `.grad`, given the gradient (D,) of the last `step`; returns that of its x, as x lay.

        Raises:
            RuntimeError: there was no step.
        """
        if not self.holds(parameters):
            self._bind(parameters)
        return self.backward_held(gradient)

    def holds(self, parameters: Parameters) -> bool:
        """Returns whether the last call was with these parameters, and they and their `.grad` lie where they lay."""
        return self._bound is not None and self._bound[0].holds(parameters)

    def backward_held(self, gradient: Tensor) -> Tensor:
        """Does what `backward` does for parameters that it `holds`."""
        if self._bound is None or self._x is None:
            raise RuntimeError("Readout.backward: no step was taken since it was made, copied or converted. Call step.")
        return self._bound[1].backward(gradient)

    def _bind(self, parameters: Parameters) -> tuple[Binding, CompiledReadout | TorchReadout]:
        binding, first, kernel = Binding(parameters), parameters[0], None
        if kernel_in_use(first.device, first.dtype) == NATIVE:
            gradients = tuple(map(gradient_of, parameters))
            kernel = CompiledReadout.bound(parameters, gradients, self._slope, self._epsilon)
        self._bound = binding, kernel or TorchReadout(parameters, self._slope, self._epsilon)
        x, self._x = self._x, None
        if x is not None and x.dtype == first.dtype and x.device == first.device:
            self._bound[1].step(x, keep=True)  # so that it can still be learnt from
            self._x = x
        return self._bound


class Descent(Protocol):
    """Steps of ObGD on one vector of parameters, bound to it."""

    def step(self, delta: float, *, reset: bool) -> tuple[float, float]:
        """Adds the gradient to the trace, moves the vector along it and clears the gradient.

        Args:
            delta: δ, the error.
            reset: whether to clear the trace after the step.

        Returns:
            The size of the step, NaN if δ or the trace is not finite and nothing was moved; and ‖z‖₁ of the trace.
        """


def descent(
    vector: Tensor, gradient: Tensor, trace: Tensor, *, decay: float, learning_rate: float, kappa: float
) -> Descent:
    """Returns the steps of ObGD for these tensors, which must stay where they are; `ObGD` has the formula.

    Args:
        vector: (P,) parameters.
        gradient: (P,) of them.
        trace: (P,).
        decay: γ λ.
        learning_rate: α.
        kappa: κ.
    """
    settings = {"decay": decay, "learning_rate": learning_rate, "kappa": kappa}
    kernel = None
    if kernel_in_use(vector.device, vector.dtype) == NATIVE:
        kernel = CompiledDescent.bound(vector, gradient, trace, **settings)
    return kernel or TorchDescent(vector, gradient, trace, **settings)


@torch.no_grad()
def head_gradient(
    loss: str, weight: Tensor, bias: Tensor, outputs: Tensor, place: Tensor | None, target: Tensor
) -> Tensor:
    """Adds the gradient of a linear head's mean loss to `weight.grad` and `bias.grad`; returns that of its inputs.

    Gradients that are None stay None.

    Args:
        loss: "cross_entropy", "binary_cross_entropy" or "squared_error".
        weight: (C, F).
        bias: (C,).
        outputs: (T, B, F) outputs of a core, the inputs of the head.
        place: (n,) int64, which of the T·B outputs have a target; None for all.
        target: (n,) int64 classes for "cross_entropy", (n, C) labels or values otherwise.

    Returns:
        (T, B, F); zeros if no output has a target.

    Raises:
        ValueError: a place or class is out of range.
    """
    if not len(target):  # no native call: the address of an empty tensor is that of a missing one
        return torch.zeros_like(outputs)
    gradient = None
    if kernel_in_use(outputs.device, outputs.dtype) == NATIVE:
        gradient = native_agent.head_gradient(loss, weight, bias, outputs, place, target)
    if gradient is None:
        gradient = torch_agent.head_gradient(loss, weight, bias, outputs, place, target)
    return gradient

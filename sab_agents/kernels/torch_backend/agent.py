"""What an agent computes beside its recurrent core, in plain torch: readouts, the loss of a head, steps along traces.

Dimensions: F features of a core's output, W width, D outputs of a readout; P parameters; T steps, B rows, C outputs of
a head, n outputs that have a target.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from sab_agents.kernels.binding import gradient_of


def readout(parameters: tuple[Tensor, ...], x: Tensor, slope: float, epsilon: float) -> Tensor:
    """Returns linear(leaky_relu(layer_norm(linear(x)))), (…, D) for x (…, F)."""
    weight, bias, second_weight, second_bias = parameters
    normal = functional.layer_norm(functional.linear(x, weight, bias), bias.shape, eps=epsilon)
    return functional.linear(functional.leaky_relu(normal, slope), second_weight, second_bias)


class TorchReadout:
    """The layers of `readout` for one row, with their gradient written out: autograd costs more than they do.

    Args:
        parameters: weight (W, F), bias (W,), weight (D, W), bias (D,).
        slope: of the leaky ReLU below 0.
        epsilon: added to the variance by layer normalisation.
    """

    def __init__(self, parameters: tuple[Tensor, ...], slope: float, epsilon: float) -> None:
        self._parameters, self._slope, self._epsilon = parameters, slope, epsilon
        self._saved: tuple[Tensor, Tensor, Tensor] | None = None  # input, normalised and activated features

    @torch.no_grad()
    def step(self, x: Tensor, *, keep: bool) -> Tensor:
        """Returns the output (D,) for x, (F,) or (1, F); `keep` saves what `backward` needs."""
        form, x = x.shape, x.flatten()
        if not keep:
            return readout(self._parameters, x, self._slope, self._epsilon)
        weight, bias, second_weight, second_bias = self._parameters
        raw = torch.addmv(bias, weight, x)
        variance, mean = torch.var_mean(raw, correction=0)
        self._scale = 1 / math.sqrt(variance.item() + self._epsilon)
        normal = (raw - mean).mul_(self._scale)
        hidden = functional.leaky_relu(normal, self._slope)
        self._saved, self._form = (x, normal, hidden), form
        return torch.addmv(second_bias, second_weight, hidden)

    @torch.no_grad()
    def backward(self, gradient: Tensor) -> Tensor:
        """Adds to the parameters' `.grad`, given the gradient (D,) of the last saved output; returns that of its x."""
        assert self._saved is not None, "backward before the first step"
        x, normal, hidden = self._saved
        weight, bias, second_weight, second_bias = self._parameters
        gradient_of(second_weight).addr_(gradient, hidden)
        gradient_of(second_bias).add_(gradient)
        into_hidden = torch.mv(second_weight.t(), gradient)
        into_normal = torch.where(normal > 0, into_hidden, into_hidden * self._slope)
        along = torch.dot(into_normal, normal).div_(len(normal))
        into_raw = (into_normal - into_normal.mean()).addcmul_(normal, along, value=-1).mul_(self._scale)
        gradient_of(weight).addr_(into_raw, x)
        gradient_of(bias).add_(into_raw)
        return torch.mv(weight.t(), into_raw).view(self._form)


class TorchDescent:
    """Steps of ObGD on one vector of parameters; see `sab_agents.kernels.agent.descent` for the arguments."""

    def __init__(
        self, vector: Tensor, gradient: Tensor, trace: Tensor, *, decay: float, learning_rate: float, kappa: float
    ) -> None:
        self._vector, self._gradient, self._trace = vector, gradient, trace
        self._decay, self._learning_rate, self._kappa = decay, learning_rate, kappa

    def step(self, delta: float, *, reset: bool) -> tuple[float, float]:
        """Takes one step; see `sab_agents.kernels.agent.Descent.step`."""
        trace = self._trace
        trace.mul_(self._decay).add_(self._gradient)
        norm = float(torch.linalg.vector_norm(trace, 1))
        if not math.isfinite(norm * delta):
            return math.nan, norm
        bound = self._learning_rate * self._kappa * max(abs(delta), 1.0) * norm
        size = self._learning_rate / max(bound, 1.0)
        self._vector.add_(trace, alpha=size * delta)
        self._gradient.zero_()
        if reset:
            trace.zero_()
        return size, norm


def loss_gradient(loss: str, output: Tensor, target: Tensor) -> Tensor:
    """Returns the gradient (n, C) of the mean loss of n outputs (n, C) with respect to them.

    Args:
        loss: "cross_entropy", "binary_cross_entropy" or "squared_error".
        output: (n, C).
        target: (n,) int64 classes for "cross_entropy", (n, C) labels or values otherwise.
    """
    if loss == "cross_entropy":
        difference = torch.softmax(output, dim=1)
        difference.scatter_(1, target.unsqueeze(1), -1, reduce="add")
        return difference.div_(len(output))
    scale = 2 if loss == "squared_error" else 1
    prediction = output if loss == "squared_error" else torch.sigmoid(output)
    return (prediction - target) * (scale / output.numel())


def head_gradient(
    loss: str, weight: Tensor, bias: Tensor, outputs: Tensor, place: Tensor | None, target: Tensor
) -> Tensor:
    """Computes what `sab_agents.kernels.agent.head_gradient` describes."""
    flat = outputs.flatten(0, 1)
    if place is not None:
        place = place.to(outputs.device)
    selected = flat if place is None else flat[place]
    gradient = loss_gradient(loss, functional.linear(selected, weight, bias), target.to(outputs.device))
    if weight.grad is not None:
        weight.grad.addmm_(gradient.t(), selected)
    if bias.grad is not None:
        bias.grad += gradient.sum(dim=0)
    into_selected = gradient @ weight
    if place is None:
        return into_selected.view(outputs.shape)
    return torch.zeros_like(flat).index_copy_(0, place, into_selected).view(outputs.shape)

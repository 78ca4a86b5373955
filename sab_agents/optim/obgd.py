"""ObGD: gradient steps along eligibility traces, as long as they can be without overshooting the error that they mend.

Source: Elsayed, Vasan & Mahmood 2024, "Streaming Deep Reinforcement Learning Finally Works", algorithm 3.
Dimensions: P numbers in all parameters together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sab_agents.checks import above_zero, fraction
from sab_agents.kernels import bind_descent


class ObGD:
    """Overshooting-bounded gradient descent on one flat vector of parameters.

    With the trace z ← γ λ z + g, where g is what `backward` left in the parameters' `.grad`, and the error δ, a step is
    w ← w + min(α, α / M) δ z with M = α κ max(|δ|, 1) ‖z‖₁. So g points the way that a positive δ should go.

    The parameters become views of one vector, and so do their gradients: a step is a handful of operations whatever the
    number of parameters. Neither may be replaced afterwards (as `nn.Module.to` does); they are filled in place.

    Args:
        parameters: of one dtype on one device.
        learning_rate: α, above 0.
        gamma: γ, the discount, from 0 to 1.
        trace_decay: λ, from 0 to 1.
        kappa: κ, above 0; the larger, the shorter the steps.

    Raises:
        ValueError: there are no parameters, or a setting is out of its range.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        learning_rate: float = 1.0,
        gamma: float = 0.99,
        trace_decay: float = 0.8,
        kappa: float = 2.0,
    ) -> None:
        above_zero("ObGD", "learning_rate", learning_rate)
        above_zero("ObGD", "kappa", kappa)
        fraction("ObGD", "gamma", gamma)
        fraction("ObGD", "trace_decay", trace_decay)
        self.learning_rate = learning_rate
        self.kappa = kappa
        self.decay = gamma * trace_decay
        self.vector, self.gradient = _flattened(list(parameters))
        self.trace = torch.zeros_like(self.vector)
        self._code = bind_descent(
            self.vector,
            self.gradient,
            self.trace,
            decay=self.decay,
            learning_rate=learning_rate,
            kappa=kappa,
        )

    def step(self, delta: float, *, reset: bool = False) -> float:
        """Adds the gradient to the trace, moves the parameters along it and clears the gradient.

        Args:
            delta: δ, the temporal-difference error.
            reset: whether an episode ended, so that the trace starts anew.

        Returns:
            The step size min(α, α / M) that was taken.

        Raises:
            FloatingPointError: δ or the trace is not finite; the parameters are as they were.
        """
        size, norm = self._moved(delta, reset) if self._code is None else self._code.step(delta, reset=reset)
        if math.isnan(size):
            raise FloatingPointError(
                f"ObGD.step: the error and the trace must be finite, but are {delta} and of norm {norm}. "
                f"Look for NaN or infinity in rewards and observations."
            )
        return size

    def _moved(self, delta: float, reset: bool) -> tuple[float, float]:
        """Takes the step; returns its size, NaN where it is not taken, and the norm of the trace."""
        self.trace.mul_(self.decay).add_(self.gradient)
        norm = float(torch.linalg.vector_norm(self.trace, 1))
        if not math.isfinite(norm * delta):
            return math.nan, norm
        bound = self.learning_rate * self.kappa * max(abs(delta), 1.0) * norm
        size = self.learning_rate / max(bound, 1.0)
        self.vector.add_(self.trace, alpha=size * delta)
        self.gradient.zero_()
        if reset:
            self.trace.zero_()
        return size, norm


def _flattened(parameters: list[nn.Parameter]) -> tuple[Tensor, Tensor]:
    """Two vectors (P,), of which the parameters and their gradients are made views."""
    if not parameters:
        raise ValueError("ObGD: needs at least one parameter, but got none. Pass module.parameters().")
    vector = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    gradient = torch.zeros_like(vector)
    first = 0
    for parameter in parameters:
        end = first + parameter.numel()
        parameter.data = vector[first:end].view_as(parameter)
        parameter.grad = gradient[first:end].view_as(parameter)
        first = end
    return vector, gradient

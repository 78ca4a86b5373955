"""ObGD: gradient steps along eligibility traces, as long as they can be without overshooting the error that they mend.

Source: Elsayed, Vasan & Mahmood 2024, "Streaming Deep Reinforcement Learning Finally Works", algorithm 3.
Dimensions: P features in all parameters together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from sab_agents.checks import above_zero, fraction
from sab_agents.kernels.agent import Descent, descent
from sab_agents.kernels.binding import Binding
from sab_agents.optim.flat import Parameters, Successors


class ObGD:
    """Overshooting-bounded gradient descent on one flat vector of parameters.

    With the trace z ← γ λ z + g, where g is what `backward` left in the parameters' `.grad`, and the error δ, a step is
    w ← w + min(α, α / M) δ z with M = α κ max(|δ|, 1) ‖z‖₁. So g points the way that a positive δ should go.

    The parameters become views of one vector, and so do their gradients: a step is a handful of operations whatever the
    number of parameters. If either is replaced later, as by `copy`, `pickle`, `nn.Module.to`, `load_state_dict` or
    `parametrize`, the next step makes them views of new vectors with their present values, and the trace continues;
    that of a parameter that is new, or requires no gradient, is zero.

    Args:
        owners: parameters, or modules whose parameters are meant, of one dtype on one device.
        learning_rate: α, above 0.
        gamma: γ, the discount, from 0 to 1.
        trace_decay: λ, from 0 to 1.
        kappa: κ, above 0; the larger, the shorter the steps.

    Attributes:
        vector: (P,) the parameters.
        gradient: (P,) their gradients.
        trace: (P,) z.

    Raises:
        ValueError: there are no parameters, or a setting is out of its range.
    """

    def __init__(
        self,
        owners: Iterable[nn.Module | nn.Parameter],
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
        self._owned = Parameters(owners)
        if not self._owned.now():
            raise ValueError("ObGD: needs at least one parameter, but got none. Pass module.parameters().")
        self.trace = torch.zeros(0)
        self._laid: dict[str, slice] = {}  # where each parameter's part of the vectors lies
        self._known: dict[str, nn.Parameter] = {}
        self._settings = {"decay": gamma * trace_decay, "learning_rate": learning_rate, "kappa": kappa}
        self._bind()

    def __getstate__(self) -> dict[str, Any]:
        laid = {"trace": self.trace, "_laid": self._laid, "_known": self._known}
        return {"_owned": self._owned, "_settings": self._settings, **laid}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._bind()

    def step(self, delta: float, *, reset: bool = False) -> float:
        """Adds the gradient to the trace, moves the parameters along it and clears the gradient.

        Args:
            delta: δ, the temporal-difference error.
            reset: whether an episode ended, so that the trace is cleared after the step.

        Returns:
            The step size min(α, α / M) that was taken.

        Raises:
            FloatingPointError: δ or the trace is not finite; the parameters are as they were, the gradient is cleared,
                and so is a trace that is not finite, which would stay so for ever.
        """
        self._require_bound()
        size, norm = self._descent.step(delta, reset=reset)
        if math.isnan(size):
            self.gradient.zero_()
            if reset or not math.isfinite(norm):
                self.trace.zero_()
            raise FloatingPointError(
                f"ObGD.step: the error and the trace must be finite, but are {delta} and of norm {norm}. "
                f"Look for NaN or infinity in rewards and observations."
            )
        return size

    def state_dict(self) -> dict[str, Tensor]:
        """Returns the trace (P,), which is all that it carries beside the parameters."""
        self._require_bound()
        return {"trace": self.trace}

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Copies a trace (P,) that `state_dict` returned."""
        self._require_bound()
        self.trace.copy_(state_dict["trace"])

    def _require_bound(self) -> None:
        named = self._owned.now()
        if named is not self._known or not self._binding.holds(self._members):
            self._bind()

    def _bind(self) -> None:
        """Makes the parameters and their gradients views of two vectors, with the values that they have."""
        named = self._owned.now()
        parameters = list(named.values())
        gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in parameters]
        self.vector = torch.cat([each.detach().reshape(-1) for each in parameters])
        self.gradient = torch.cat([each.reshape(-1) for each in gradients]).to(self.vector)
        trace, laid, successors = self.trace, self._laid, Successors(self._known)
        self.trace = torch.zeros_like(self.vector)
        self._known, self._laid = named, {}
        first = 0
        for name, parameter in named.items():
            part = slice(first, first + parameter.numel())
            first = part.stop
            self._laid[name] = part
            parameter.data = self.vector[part].view_as(parameter)
            old = successors.name_before(name, parameter)
            if not parameter.requires_grad:
                parameter.grad = None
                self.gradient[part] = 0
                continue
            parameter.grad = self.gradient[part].view_as(parameter)
            if old is not None and len(trace[laid[old]]) == parameter.numel():
                self.trace[part] = trace[laid[old]]
        self._members = tuple(parameters)
        self._binding = Binding(parameters)
        self._descent: Descent = descent(self.vector, self.gradient, self.trace, **self._settings)

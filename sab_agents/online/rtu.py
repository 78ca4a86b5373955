"""Recurrent trace units, trained by exact real-time recurrent learning at a cost linear in the number of weights.

Source: Elelimy, White, Bowling & White 2024, "Real-Time Recurrent Learning using Trace Units in Reinforcement
Learning": the units with a linear recurrence and a nonlinear output.
Dimensions: B rows, O numbers in an observation, n units.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from sab_agents.checks import at_least, fraction
from sab_agents.kernels import CompiledUnits, bind_units
from sab_agents.online.learners import RecurrentLearner, Tensors, gradient_of


class RTULearner(RecurrentLearner):
    """A diagonal complex recurrence that carries the derivative of its state with respect to every weight.

    A unit computes c_t = λ c_{t-1} + γ (w₁ + i w₂)·x_t with λ = r e^{iθ}, r = exp(-exp(ν)), θ = exp(ω), γ = √(1 - r²),
    and puts out relu(Re c), relu(Im c). Since units do not feed each other, each weight moves one unit alone, and
    ∂c_t/∂weight follows a recurrence of the same λ: no past is kept and none is left out.

    Args:
        input_size: O.
        hidden_size: n; an output has 2 n numbers.
        min_radius: least r at the start.
        max_radius: greatest r at the start. r² is uniform between them.
        max_angle: greatest θ at the start; θ is uniform from 0.

    Raises:
        TypeError: a size is not an int.
        ValueError: a size is below 1, or the radii or the angle are out of range.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        min_radius: float = 0.0,
        max_radius: float = 1.0,
        max_angle: float = 2 * math.pi,
    ) -> None:
        at_least("RTULearner", "input_size", input_size, 1)
        super().__init__(2 * at_least("RTULearner", "hidden_size", hidden_size, 1))
        _check_ring(min_radius, max_radius, max_angle)
        self.units = hidden_size
        # Kept off both ends of (0, 1), where the logarithms are infinite.
        uniform = torch.rand(2, hidden_size).clamp(1e-6, 1 - 1e-6)
        squared_radius = uniform[0] * (max_radius**2 - min_radius**2) + min_radius**2
        self.nu = nn.Parameter((-0.5 * squared_radius.log()).log())
        self.omega = nn.Parameter((max_angle * uniform[1]).log())
        bound = 1 / math.sqrt(input_size)
        self.weight = nn.Parameter(torch.empty(2, hidden_size, input_size).uniform_(-bound, bound))
        self._state = self.initial_state(1)[0]
        self._sensitivity = self._no_sensitivity()
        self._code: CompiledUnits | None = None

    def initial_state(self, batch_size: int) -> Tensors:
        """Zeros for c, as pairs of numbers: (B, n, 2)."""
        return (self.nu.new_zeros(batch_size, self.units, 2),)

    def _no_sensitivity(self) -> Tensor:
        """∂c/∂ν, ∂c/∂ω and ∂c/∂w₁ (whose i-fold is ∂c/∂w₂) side by side: (n, 2 + O) complex zeros."""
        return torch.view_as_complex(self.nu.new_zeros(self.units, 2 + self.weight.shape[2], 2))

    def _recurrence(self) -> tuple[Tensor, Tensor]:
        """λ (n,) complex and γ (n,)."""
        negative_log_radius = self.nu.exp()
        radius = (-negative_log_radius).exp()
        # 1 - r² by expm1: it stays above 0 where r rounds to 1.
        return torch.polar(radius, self.omega.exp()), (-torch.expm1(-2 * negative_log_radius)).sqrt()

    def _driven(self, observation: Tensor) -> Tensor:
        """(w₁ + i w₂)·x for observations (B, O): (B, n) complex."""
        first, second = observation @ self.weight[0].t(), observation @ self.weight[1].t()
        return torch.complex(first, second)

    @torch.no_grad()
    def forward(self, observation: Tensor, state: Tensors) -> tuple[Tensor, Tensors]:
        """One step of independent rows; see `RecurrentLearner.forward`."""
        turn, scale = self._recurrence()
        unit = turn * torch.view_as_complex(state[0]) + scale * self._driven(observation)
        return _output(unit), (torch.view_as_real(unit),)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves the parameters, as `nn.Module.to` does: what was bound to them is no longer."""
        self._code = None
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call,no-any-return]

    def bind(self) -> None:
        """See `RecurrentLearner.bind`."""
        parameters = (self.nu, self.omega, self.weight)
        self._code = bind_units(parameters, tuple(map(gradient_of, parameters)))

    def step(self, observation: Tensor, episode_start: bool) -> Tensor:
        """Takes the stream's next observation; see `RecurrentLearner.step`."""
        if episode_start:
            self._state = self.initial_state(1)[0]
            self._sensitivity = self._no_sensitivity()
        if self._code is None:
            return self._step(observation)
        output, self._state = self._code.step(observation, self._state, self._sensitivity)
        return output

    @torch.no_grad()
    def _step(self, observation: Tensor) -> Tensor:
        turn, scale = self._recurrence()
        before, driven = torch.view_as_complex(self._state)[0], self._driven(observation)[0]
        # With p = exp(ν): ∂λ/∂ν = -p λ, ∂γ/∂ν = p r² / γ = p (1 - γ²) / γ, ∂λ/∂ω = i θ λ.
        turned, rate = turn * before, self.nu.exp()
        injected = torch.empty_like(self._sensitivity)
        injected[:, 0] = driven * (rate * (1 / scale - scale)) - rate * turned
        injected[:, 1] = turned * torch.complex(torch.zeros_like(rate), self.omega.exp())
        injected[:, 2:] = scale.unsqueeze(1) * observation
        self._sensitivity = torch.addcmul(injected, turn.unsqueeze(1), self._sensitivity)
        unit = (turned + scale * driven).unsqueeze(0)
        self._state = torch.view_as_real(unit)
        return _output(unit)

    def peek(self, observation: Tensor) -> Tensor:
        """The output for a next observation; see `RecurrentLearner.peek`."""
        if self._code is not None:
            return self._code.step(observation, self._state, None)[0]
        return self.forward(observation, (self._state,))[0]

    def backward(self, gradient: Tensor) -> None:
        """Multiplies with the carried derivatives; see `RecurrentLearner.backward`."""
        if self._code is None:
            self._backward(gradient)
        else:
            self._code.backward(gradient, self._state, self._sensitivity)

    @torch.no_grad()
    def _backward(self, gradient: Tensor) -> None:
        into_parts = gradient.view(2, self.units) * (self._state[0].t() > 0)
        # For real f, df = Re(conj(g) dc) with g = ∂f/∂Re c + i ∂f/∂Im c.
        along = torch.complex(into_parts[0], -into_parts[1]).unsqueeze(1) * self._sensitivity
        gradient_of(self.nu).add_(along[:, 0].real)
        gradient_of(self.omega).add_(along[:, 1].real)
        gradient_of(self.weight).add_(torch.stack([along[:, 2:].real, -along[:, 2:].imag]))

    def carried(self) -> dict[str, Tensor]:
        """The units' state and its derivatives."""
        return {"state": self._state, "sensitivity": torch.view_as_real(self._sensitivity).clone()}

    def restore(self, carried: dict[str, Tensor]) -> None:
        """Takes back what `carried` gave."""
        self._state = carried["state"]
        self._sensitivity = torch.view_as_complex(carried["sensitivity"].clone())


def _output(unit: Tensor) -> Tensor:
    """The relu of the real and of the imaginary parts: (B, n) complex -> (B, 2 n)."""
    return torch.cat([unit.real, unit.imag], dim=1).relu_()


def _check_ring(min_radius: float, max_radius: float, max_angle: float) -> None:
    fraction("RTULearner", "min_radius", min_radius)
    fraction("RTULearner", "max_radius", max_radius)
    if min_radius >= max_radius:
        raise ValueError(
            f"RTULearner: min_radius must be below max_radius, but they are {min_radius} and {max_radius}."
        )
    if not 0 < max_angle <= 2 * math.pi:
        raise ValueError(f"RTULearner: max_angle must be above 0 and at most 2π, but is {max_angle}.")

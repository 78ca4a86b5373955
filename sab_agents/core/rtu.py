"""Recurrent trace units: a diagonal complex recurrence whose whole past is credited exactly.

Source: Elelimy, White, Bowling & White 2024, "Real-Time Recurrent Learning using Trace Units in Reinforcement
Learning": the units with a linear recurrence and a nonlinear output.
Dimensions: T steps, B rows, I input size, n units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sab_agents.checks import at_least, fraction
from sab_agents.core.real_time import RealTimeCore, Sensitivity, add_gradient
from sab_agents.core.registry import register_core
from sab_agents.core.state import State
from sab_agents.kernels import CompiledUnits, all_finite, bind_units, forced_way
from sab_agents.kernels.binding import Binding


@dataclass(frozen=True)
class RTUState(State):
    """What `RTU` carries.

    Attributes:
        c: (B, n, 2) real and imaginary part of each unit after the last step.
    """

    c: Tensor


@register_core("rtu", "recurrent trace units", policy="Rtu")
class RTU(RealTimeCore[RTUState]):
    """Recurrent trace units.

    A unit computes c_t = λ c_{t-1} + γ (w₁ + i w₂)·x_t with λ = r e^{iθ}, r = exp(-exp(ν)), θ = exp(ω), γ = √(1 - r²),
    and outputs relu(Re c), relu(Im c). Since units do not feed each other, each weight moves one unit alone, and
    ∂c_t/∂weight follows a recurrence of the same λ.

    Args:
        input_size: I.
        hidden_size: n; an output has 2 n features.
        min_radius: least r at the start.
        max_radius: greatest r at the start. r² is uniform between them.
        max_angle: greatest θ at the start; θ is uniform from 0.
        batch_first: sequences are (B, T, …) instead of (T, B, …).
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        TypeError: a size is not an int.
        ValueError: a size is below 1, or the radii or the angle are out of range.
    """

    state_class = RTUState

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        min_radius: float = 0.0,
        max_radius: float = 1.0,
        max_angle: float = 2 * math.pi,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        at_least("RTU", "hidden_size", hidden_size, 1)
        super().__init__(input_size, hidden_size, 2 * hidden_size, batch_first=batch_first)
        _check_ring(min_radius, max_radius, max_angle)
        # Kept off both ends of (0, 1), where the logarithms are infinite.
        uniform = torch.rand(2, hidden_size, device=device, dtype=dtype).clamp(1e-6, 1 - 1e-6)
        squared_radius = uniform[0] * (max_radius**2 - min_radius**2) + min_radius**2
        self.nu = nn.Parameter((-0.5 * squared_radius.log()).log())
        self.omega = nn.Parameter((max_angle * uniform[1]).log())
        bound = 1 / math.sqrt(input_size)
        weight = torch.empty(2, hidden_size, input_size, device=device, dtype=dtype)
        self.weight = nn.Parameter(weight.uniform_(-bound, bound))
        self._bound: tuple[str, Binding, CompiledUnits | None] | None = None

    def initial_state(self, batch_size: int) -> RTUState:
        """Returns the state of `batch_size` rows at the start of an episode: zeros.

        Raises:
            TypeError: `batch_size` is not an int.
            ValueError: `batch_size` is below 1.
        """
        at_least("RTU.initial_state", "batch_size", batch_size, 1)
        return RTUState(self.nu.new_zeros(batch_size, self.hidden_size, 2))

    def initial_sensitivity(self, batch_size: int) -> Sensitivity:
        """Returns zeros: ∂c/∂ν, ∂c/∂ω and ∂c/∂w₁, whose i-fold is ∂c/∂w₂, side by side, (B, n, 2 + I) complex."""
        return (torch.view_as_complex(self.nu.new_zeros(batch_size, self.hidden_size, 2 + self.input_size, 2)),)

    def _recurrence(self) -> tuple[Tensor, Tensor]:
        """Returns λ (n,) complex and γ (n,)."""
        negative_log_radius = self.nu.exp()
        radius = (-negative_log_radius).exp()
        # 1 - r² by expm1: it stays above 0 where r rounds to 1.
        return torch.polar(radius, self.omega.exp()), (-torch.expm1(-2 * negative_log_radius)).sqrt()

    def _driven(self, x: Tensor) -> Tensor:
        """Returns (w₁ + i w₂)·x for inputs (…, I): (…, n) complex."""
        return torch.complex(x @ self.weight[0].t(), x @ self.weight[1].t())

    def _run(self, x: Tensor, state: RTUState, episode_start: Tensor | None) -> tuple[Tensor, RTUState]:
        turn, scale = self._recurrence()
        driven = scale * self._driven(x)
        unit, units = torch.view_as_complex(state.c.contiguous()), []
        for t, each in enumerate(driven):
            if episode_start is not None:
                unit = unit.masked_fill(episode_start[t].unsqueeze(1), 0)
            unit = turn * unit + each
            units.append(unit)
        whole = torch.stack(units)
        return torch.cat([whole.real, whole.imag], dim=2).relu(), RTUState(torch.view_as_real(unit))

    def step(
        self, x: Tensor, state: RTUState | None = None, episode_start: Tensor | None = None
    ) -> tuple[Tensor, RTUState]:
        """Runs one step; see `Core.step`. Once it is bound, the native kernel computes one row without gradient."""
        if torch.is_grad_enabled() or state is None or episode_start is not None or not self._fits(x, state):
            return super().step(x, state, episode_start)
        compiled = self._compiled(x)
        if compiled is None:
            return super().step(x, state)
        output, c = compiled.step(x, state.c, None)
        return output, RTUState(c)

    def _fits(self, x: Tensor, state: RTUState) -> bool:
        """Returns whether the native kernel takes one step of one row with these arguments."""
        right = (1, self.input_size), (1, self.hidden_size, 2)
        return (x.shape, state.c.shape) == right and x.is_contiguous() and state.c.is_contiguous() and all_finite(x)

    def plain_step(self, x: Tensor, state: RTUState) -> tuple[Tensor, RTUState]:
        """Runs one step in operations on real numbers, which can be exported; see `Core.plain_step`."""
        negative_log_radius = self.nu.exp()
        radius, scale = (-negative_log_radius).exp(), (-torch.expm1(-2 * negative_log_radius)).sqrt()
        turn_real, turn_imaginary = radius * self.omega.exp().cos(), radius * self.omega.exp().sin()
        real, imaginary = state.c.unbind(dim=2)
        c = torch.stack(
            [
                turn_real * real - turn_imaginary * imaginary + scale * (x @ self.weight[0].t()),
                turn_real * imaginary + turn_imaginary * real + scale * (x @ self.weight[1].t()),
            ],
            dim=1,
        )
        return c.flatten(1).relu(), RTUState(c.transpose(1, 2))

    @torch.no_grad()
    def advance_sensitivity(
        self, x: Tensor, state: RTUState, episode_start: Tensor, sensitivity: Sensitivity
    ) -> Sensitivity:
        """Takes the sensitivity over T steps; see `RealTimeCore.advance_sensitivity`."""
        unit, (sensitive,) = torch.view_as_complex(state.c.contiguous()), sensitivity
        for inputs, start in zip(x, episode_start, strict=True):
            unit = unit.masked_fill(start.unsqueeze(1), 0)
            sensitive = sensitive.masked_fill(start.view(-1, 1, 1), 0)
            unit, sensitive = self._stepped(inputs, unit, sensitive)
        return (sensitive,)

    def _stepped(self, x: Tensor, unit: Tensor, sensitive: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the units (B, n) and their sensitivity after one step."""
        turn, scale = self._recurrence()
        driven = self._driven(x)
        # With p = exp(ν): ∂λ/∂ν = -p λ, ∂γ/∂ν = p r² / γ = p (1 - γ²) / γ, ∂λ/∂ω = i θ λ.
        turned, rate = turn * unit, self.nu.exp()
        injected = torch.empty_like(sensitive)
        injected[:, :, 0] = driven * (rate * (1 / scale - scale)) - rate * turned
        injected[:, :, 1] = turned * torch.complex(torch.zeros_like(rate), self.omega.exp())
        injected[:, :, 2:] = scale.unsqueeze(1) * x.unsqueeze(1)
        return turned + scale * driven, torch.addcmul(injected, turn.unsqueeze(1), sensitive)

    def step_sensitivity(
        self, x: Tensor, state: RTUState, sensitivity: Sensitivity
    ) -> tuple[Tensor, RTUState, Sensitivity]:
        """Takes one step of state and sensitivity together; see `RealTimeCore.step_sensitivity`."""
        compiled = self._compiled(x)
        if compiled is None:
            for parameter in self.parameters():
                if parameter.grad is None and parameter.requires_grad:
                    parameter.grad = torch.zeros_like(parameter)
            compiled = self._compiled(x)
        if compiled is not None:
            output, c = compiled.step(x.contiguous(), state.c, sensitivity[0][0])
            return output, RTUState(c), sensitivity
        with torch.no_grad():
            unit, sensitive = self._stepped(x, torch.view_as_complex(state.c.contiguous()), sensitivity[0])
            output = torch.cat([unit.real, unit.imag], dim=1).relu_()
        return output, RTUState(torch.view_as_real(unit)), (sensitive,)

    @torch.no_grad()
    def backward_output(self, gradient: Tensor, state: RTUState) -> tuple[Tensor, ...]:
        """Returns the gradient (B, n, 2) with respect to c; see `RealTimeCore.backward_output`."""
        return (gradient.view(-1, 2, self.hidden_size).transpose(1, 2) * (state.c > 0),)

    @torch.no_grad()
    def backward_sensitivity(self, gradient: tuple[Tensor, ...], sensitivity: Sensitivity) -> None:
        """Adds to the parameters' `.grad`; see `RealTimeCore.backward_sensitivity`."""
        # For real f, df = Re(conj(g) dc) with g = ∂f/∂Re c + i ∂f/∂Im c.
        (into,), (sensitive,) = gradient, sensitivity
        along = (torch.complex(into[..., 0], -into[..., 1]).unsqueeze(2) * sensitive).sum(dim=0)
        add_gradient(self.nu, along[:, 0].real)
        add_gradient(self.omega, along[:, 1].real)
        add_gradient(self.weight, torch.stack([along[:, 2:].real, -along[:, 2:].imag]))

    def backward_step(self, gradient: Tensor, state: RTUState, sensitivity: Sensitivity) -> None:
        """Adds to the parameters' `.grad`; see `RealTimeCore.backward_step`."""
        compiled = self._compiled(gradient)
        if compiled is None:
            super().backward_step(gradient, state, sensitivity)
        else:
            compiled.backward(gradient, state.c, sensitivity[0][0])

    def _compiled(self, x: Tensor) -> CompiledUnits | None:
        """Returns the native kernel for one row, bound to the parameters and gradients as they lie now.

        None if the kernel does not take these tensors, or if a parameter has no `.grad` to be added to.
        """
        if x.shape[0] != 1 or not x.is_cpu or x.dtype is not torch.float32:
            return None
        parameters: Any = tuple(self._parameters.values())  # nu, omega, weight
        bound, way = self._bound, forced_way()
        if bound is None or bound[0] != way or not bound[1].holds(parameters):
            if any(parameter.grad is None for parameter in parameters):
                return None
            gradients = tuple(parameter.grad for parameter in parameters)
            bound = self._bound = way, Binding(parameters), bind_units(parameters, gradients)
        return bound[2]

    def _check_state(self, name: str, state: RTUState) -> None:
        super()._check_state(name, state)
        state.check_shapes(name, {"c": (state.batch_size, self.hidden_size, 2)})


def _check_ring(min_radius: float, max_radius: float, max_angle: float) -> None:
    fraction("RTU", "min_radius", min_radius)
    fraction("RTU", "max_radius", max_radius)
    if min_radius >= max_radius:
        raise ValueError(f"RTU: min_radius must be below max_radius, but they are {min_radius} and {max_radius}.")
    if not 0 < max_angle <= 2 * math.pi:
        raise ValueError(f"RTU: max_angle must be above 0 and at most 2π, but is {max_angle}.")

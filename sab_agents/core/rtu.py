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
from sab_agents.core.base import leaves_of, recompute_weights
from sab_agents.core.real_time import RealTimeCore, Sensitivity
from sab_agents.core.registry import register_core
from sab_agents.core.state import State
from sab_agents.kernels import (
    UnitsKernel,
    add_gradient,
    advance_sensitivity,
    all_finite,
    gradient_of_parameters,
    gradient_of_units,
    run_units,
)


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

    Examples:
        >>> import torch
        >>> from sab_agents.core import RTU
        >>> output, state = RTU(input_size=10, hidden_size=32)(torch.randn(20, 4, 10))  # (T, B, I)
        >>> output.shape
        torch.Size([20, 4, 64])

    Source: Elelimy et al. 2024, "Real-Time Recurrent Learning using Trace Units in Reinforcement Learning".
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
        hidden_size = at_least("RTU", "hidden_size", hidden_size, 1)
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
        self._kernel = UnitsKernel()

    def initial_state(self, batch_size: int) -> RTUState:
        """Returns the state of `batch_size` rows at the start of an episode: zeros.

        Raises:
            TypeError: `batch_size` is not an int.
            ValueError: `batch_size` is below 1.
        """
        batch_size = self._checked_rows(batch_size)
        return RTUState(self.nu.new_zeros(batch_size, self.hidden_size, 2))

    def initial_sensitivity(self, batch_size: int) -> Sensitivity:
        """Returns zeros: ∂c/∂ν, ∂c/∂ω and ∂c/∂w₁, whose i-fold is ∂c/∂w₂, side by side, (B, n, 2 + I) complex."""
        return (torch.view_as_complex(self.nu.new_zeros(batch_size, self.hidden_size, 2 + self.input_size, 2)),)

    def _unit_parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        """Returns ν (n,), ω (n,) and the weights (2, n, I)."""
        own: Any = self._parameters  # at every step three times: a third of the time of the attributes
        try:
            return own["nu"], own["omega"], own["weight"]
        except KeyError:
            recompute_weights(self)
            return self.nu, self.omega, self.weight

    def _run(self, x: Tensor, state: RTUState, episode_start: Tensor | None) -> tuple[Tensor, RTUState]:
        if x.dtype not in {torch.float32, torch.float64}:
            raise TypeError(
                f"RTU: the units are complex numbers, which torch has of torch.float32 and torch.float64, but the "
                f"parameters are {x.dtype}. Use rtu.float(), or run under autocast."
            )
        outputs, c = run_units(self._unit_parameters(), x, state.c, episode_start)
        return outputs, RTUState(c)

    def step(
        self, x: Tensor, state: RTUState | None = None, episode_start: Tensor | None = None
    ) -> tuple[Tensor, RTUState]:
        """Runs one step; see `Core.step`. Without gradient and episode starts it builds no sequence."""
        if torch.is_grad_enabled() or state is None or episode_start is not None or not self._fits(x, state):
            return super().step(x, state, episode_start)
        return self.unchecked_step(x, state)

    def _fits(self, x: Tensor, state: RTUState) -> bool:
        """Returns whether x and the state are what `Core.step` accepts, if they are ordinary arguments for one row."""
        if not self._have_types(x, state, None):
            return False
        like, c = self.nu, state.c
        return (
            (x.shape, c.shape) == ((1, self.input_size), (1, self.hidden_size, 2))
            and x.dtype is like.dtype is c.dtype
            and x.device == like.device == c.device
            and all_finite(x)
        )

    def unchecked_step(self, x: Tensor, state: RTUState) -> tuple[Tensor, RTUState]:
        """Runs one step without gradient; see `RealTimeCore.unchecked_step`."""
        output, c = self._kernel.peek(self._unit_parameters(), x, state.c)
        return output, RTUState(c)

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

    def advance_sensitivity(
        self, x: Tensor, state: RTUState, episode_start: Tensor, sensitivity: Sensitivity
    ) -> Sensitivity:
        """Takes the sensitivity over T steps; see `RealTimeCore.advance_sensitivity`."""
        return (advance_sensitivity(self._unit_parameters(), x, state.c, episode_start, sensitivity[0]),)

    def step_sensitivity(
        self, x: Tensor, state: RTUState, sensitivity: Sensitivity
    ) -> tuple[Tensor, RTUState, Sensitivity]:
        """Takes one step of state and sensitivity together; see `RealTimeCore.step_sensitivity`."""
        output, c, after = self._kernel.step(self._unit_parameters(), x, state.c, sensitivity[0])
        return output, RTUState(c), (after,)

    def backward_output(self, gradient: Tensor, state: RTUState) -> tuple[Tensor, ...]:
        """Returns the gradient (B, n, 2) with respect to c; see `RealTimeCore.backward_output`."""
        return (gradient_of_units(gradient, state.c),)

    def backward_sensitivity(self, gradient: tuple[Tensor, ...], sensitivity: Sensitivity) -> None:
        """Adds to the parameters' `.grad`; see `RealTimeCore.backward_sensitivity`."""
        gradients = gradient_of_parameters(gradient[0], sensitivity[0])
        with torch.enable_grad(), leaves_of(self._unit_parameters()) as parameters:
            for parameter, each in zip(parameters, gradients, strict=True):
                add_gradient(parameter, each)

    def backward_step(self, gradient: Tensor, state: RTUState, sensitivity: Sensitivity) -> None:
        """Adds to the parameters' `.grad`; see `RealTimeCore.backward_step`."""
        with leaves_of(self._unit_parameters()) as (nu, omega, weight):
            self._kernel.backward((nu, omega, weight), gradient, state.c, sensitivity[0])

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

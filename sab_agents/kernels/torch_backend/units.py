"""Recurrent trace units and their sensitivity, in plain torch; see `sab_agents.core.rtu.RTU` for the mathematics.

Dimensions: T steps, B rows, I input size, n units. `parameters` are ν (n,), ω (n,) and the weights w₁, w₂ (2, n, I).
"""

from __future__ import annotations

import torch
from torch import Tensor

Parameters = tuple[Tensor, Tensor, Tensor]


def run_units(parameters: Parameters, x: Tensor, c: Tensor, episode_start: Tensor | None) -> tuple[Tensor, Tensor]:
    """Runs a whole sequence; gradient flows to the parameters, x and c.

    Args:
        parameters: see the module.
        x: (T, B, I) inputs, T ≥ 1.
        c: (B, n, 2) real and imaginary parts before the first step.
        episode_start: (T, B) bool, where c is zero before the step; None for none.

    Returns:
        (T, B, 2n) outputs, and c (B, n, 2) after the last step.
    """
    turn, scale = _recurrence(parameters)
    driven = scale * _driven(parameters, x)
    unit, after = torch.view_as_complex(c.contiguous()), []
    for t, each in enumerate(driven):
        if episode_start is not None:
            unit = unit.masked_fill(episode_start[t].unsqueeze(1), 0)
        unit = turn * unit + each
        after.append(unit)
    whole = torch.stack(after)
    return torch.cat([whole.real, whole.imag], dim=2).relu(), torch.view_as_real(unit)


@torch.no_grad()
def advance_sensitivity(
    parameters: Parameters, x: Tensor, c: Tensor, episode_start: Tensor, sensitivity: Tensor
) -> Tensor:
    """Takes the sensitivity over T steps, without gradient.

    Args:
        parameters: see the module.
        x: (T, B, I) inputs.
        c: (B, n, 2) before the first step.
        episode_start: (T, B) bool, where c and the sensitivity are zero before the step.
        sensitivity: (B, n, 2 + I) complex, ∂c/∂ν, ∂c/∂ω and ∂c/∂w₁; it is left as it was.

    Returns:
        (B, n, 2 + I) complex.
    """
    unit = torch.view_as_complex(c.contiguous())
    for inputs, start in zip(x, episode_start, strict=True):
        unit = unit.masked_fill(start.unsqueeze(1), 0)
        sensitivity = sensitivity.masked_fill(start.view(-1, 1, 1), 0)
        unit, sensitivity = _stepped(parameters, inputs, unit, sensitivity)
    return sensitivity


@torch.no_grad()
def step_units(parameters: Parameters, x: Tensor, c: Tensor, sensitivity: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Takes one step of units and sensitivity, without gradient.

    Args:
        parameters: see the module.
        x: (B, I) inputs.
        c: (B, n, 2) before the step.
        sensitivity: (B, n, 2 + I) complex, of c.

    Returns:
        (B, 2n) outputs, and c and the sensitivity after the step.
    """
    unit, sensitivity = _stepped(parameters, x, torch.view_as_complex(c.contiguous()), sensitivity)
    return torch.cat([unit.real, unit.imag], dim=1).relu_(), torch.view_as_real(unit), sensitivity


@torch.no_grad()
def gradient_of_units(gradient: Tensor, c: Tensor) -> Tensor:
    """Returns the gradient (B, n, 2) with respect to c, given that (B, 2n) of the output that c determines."""
    return gradient.view(-1, 2, c.shape[1]).transpose(1, 2) * (c > 0)


@torch.no_grad()
def gradient_of_parameters(gradient: Tensor, sensitivity: Tensor) -> Parameters:
    """Returns the gradients of ν, ω and the weights, given that (B, n, 2) of c and the sensitivity of c."""
    # For real f, df = Re(conj(g) dc) with g = ∂f/∂Re c + i ∂f/∂Im c.
    along = (torch.complex(gradient[..., 0], -gradient[..., 1]).unsqueeze(2) * sensitivity).sum(dim=0)
    return along[:, 0].real, along[:, 1].real, torch.stack([along[:, 2:].real, -along[:, 2:].imag])


def _recurrence(parameters: Parameters) -> tuple[Tensor, Tensor]:
    """Returns λ (n,) complex and γ (n,)."""
    nu, omega, _ = parameters
    negative_log_radius = nu.exp()
    radius = (-negative_log_radius).exp()
    # 1 - r² by expm1: it stays above 0 where r rounds to 1.
    return torch.polar(radius, omega.exp()), (-torch.expm1(-2 * negative_log_radius)).sqrt()


def _driven(parameters: Parameters, x: Tensor) -> Tensor:
    """Returns (w₁ + i w₂)·x for inputs (…, I): (…, n) complex."""
    weight = parameters[2]
    return torch.complex(x @ weight[0].t(), x @ weight[1].t())


def _stepped(parameters: Parameters, x: Tensor, unit: Tensor, sensitivity: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the units (B, n) complex and their sensitivity after one step."""
    nu, omega, _ = parameters
    turn, scale = _recurrence(parameters)
    driven = _driven(parameters, x)
    # With p = exp(ν): ∂λ/∂ν = -p λ, ∂γ/∂ν = p r² / γ = p (1 - γ²) / γ, ∂λ/∂ω = i θ λ.
    turned, rate = turn * unit, nu.exp()
    injected = torch.empty_like(sensitivity)
    injected[:, :, 0] = driven * (rate * (1 / scale - scale)) - rate * turned
    injected[:, :, 1] = turned * torch.complex(torch.zeros_like(rate), omega.exp())
    injected[:, :, 2:] = scale.unsqueeze(1) * x.unsqueeze(1)
    return turned + scale * driven, torch.addcmul(injected, turn.unsqueeze(1), sensitivity)

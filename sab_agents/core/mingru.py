"""A minimal gated recurrent unit, whose exact gradient can be carried through an endless stream.

Dimensions: T steps, B rows, I input size, H hidden size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from sab_agents.core.base import leaves_of, recompute_weights
from sab_agents.core.real_time import RealTimeCore, Sensitivity
from sab_agents.core.registry import register_core
from sab_agents.core.state import State
from sab_agents.kernels import add_gradient


@dataclass(frozen=True)
class MinGRUState(State):
    """What `MinGRU` carries.

    Attributes:
        h: (B, H) hidden state after the last step.
    """

    h: Tensor


@register_core("mingru", "minimal GRU", policy="MinGru")
class MinGRU(RealTimeCore[MinGRUState]):
    """A GRU whose gate and candidate depend on the input alone: h_t = (1 - z_t) ⊙ h_{t-1} + z_t ⊙ v_t.

    The gate is z_t = σ(W_z x_t + b_z), the candidate v_t = W_v x_t + b_v. The recurrence is linear and its units do not
    feed each other, so that a sequence takes about log₂ T passes, and real-time recurrent learning is exact at a cost
    that is linear in the number of weights.

    Args:
        input_size: I.
        hidden_size: H, also the size of an output.
        max_timescale: the units' time constants 1 / z begin between 2 and this number of steps, uniform in their
            logarithm; 2 starts all gates at one half.
        batch_first: sequences are (B, T, …) instead of (T, B, …).
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        TypeError: a size is not an int.
        ValueError: a size is below 1, or `max_timescale` is below 2 or not finite.

    Examples:
        >>> import torch
        >>> from sab_agents.core import MinGRU
        >>> output, state = MinGRU(input_size=10, hidden_size=32)(torch.randn(20, 4, 10))  # (T, B, I)
        >>> output.shape
        torch.Size([20, 4, 32])

    Source: Feng et al. 2024, "Were RNNs All We Needed?"; time constants as in Tallec & Ollivier 2018, "Can Recurrent
    Neural Networks Warp Time?".
    """

    state_class = MinGRUState

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        max_timescale: float = 1000.0,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, hidden_size, batch_first=batch_first)
        input_size, hidden_size = self.input_size, self.hidden_size
        if not 2 <= max_timescale < math.inf:
            raise ValueError(f"MinGRU: max_timescale must be at least 2 and finite, but is {max_timescale!r}.")
        self.max_timescale = max_timescale
        self.gate = nn.Linear(input_size, hidden_size, device=device, dtype=dtype)
        self.candidate = nn.Linear(input_size, hidden_size, device=device, dtype=dtype)
        with torch.no_grad():
            timescale = torch.empty_like(self.gate.bias).uniform_(math.log(2), math.log(max_timescale)).exp()
            self.gate.bias.copy_(-(timescale - 1).log())  # 1 / σ(-log(τ - 1)) = τ

    def extra_repr(self) -> str:
        """Shows the setting that no submodule shows."""
        return f"max_timescale={self.max_timescale}"

    def initial_state(self, batch_size: int) -> MinGRUState:
        """Returns the state of `batch_size` rows at the start of an episode: zeros."""
        batch_size = self._checked_rows(batch_size)
        return MinGRUState(self.gate.weight.new_zeros(batch_size, self.hidden_size))

    def _run(self, x: Tensor, state: MinGRUState, episode_start: Tensor | None) -> tuple[Tensor, MinGRUState]:
        keep, write = self._recurrence(x, episode_start)
        h = linear_recurrence(keep, write * self.candidate(x), state.h)
        return h, MinGRUState(h[-1].clone())

    def _recurrence(self, x: Tensor, episode_start: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns what multiplies the state before each step, 0 where an episode starts, and the gate z, (T, B, H)."""
        write = torch.sigmoid(self.gate(x))
        keep = 1 - write
        return (keep if episode_start is None else keep.masked_fill(episode_start.unsqueeze(2), 0)), write

    def initial_sensitivity(self, batch_size: int) -> Sensitivity:
        """Returns zeros: ∂h/∂W_z and ∂h/∂b_z side by side, ∂h/∂W_v and ∂h/∂b_v side by side, (B, H, I + 1) each."""
        zeros = self.gate.weight.new_zeros(2, batch_size, self.hidden_size, self.input_size + 1)
        return zeros[0], zeros[1]

    @torch.no_grad()
    def advance_sensitivity(
        self, x: Tensor, state: MinGRUState, episode_start: Tensor, sensitivity: Sensitivity
    ) -> Sensitivity:
        """Takes the sensitivity over T steps; see `RealTimeCore.advance_sensitivity`."""
        keep, write = self._recurrence(x, episode_start)
        candidate = self.candidate(x)
        h = linear_recurrence(keep, write * candidate, state.h)
        before = torch.cat([state.h.unsqueeze(0), h[:-1]]).masked_fill(episode_start.unsqueeze(2), 0)
        # What a step adds to ∂h is kept by all later steps: their product, from the back.
        later = torch.cat([keep[1:], torch.ones_like(keep[:1])]).flip(0).cumprod(dim=0).flip(0)
        into_gate = later * write * (1 - write) * (candidate - before)  # ∂z/∂(W_z x + b_z) = z (1 - z)
        extended = torch.cat([x, torch.ones_like(x[..., :1])], dim=2)
        kept = (later[0] * keep[0]).unsqueeze(2)
        return tuple(
            torch.einsum("tbh,tbi->bhi", into, extended).addcmul_(kept, each)
            for into, each in zip((into_gate, later * write), sensitivity, strict=True)
        )

    @torch.no_grad()
    def step_sensitivity(
        self, x: Tensor, state: MinGRUState, sensitivity: Sensitivity
    ) -> tuple[Tensor, MinGRUState, Sensitivity]:
        """Takes one step of state and sensitivity together; see `RealTimeCore.step_sensitivity`."""
        write, candidate = torch.sigmoid(self.gate(x)), self.candidate(x)
        keep = 1 - write
        extended = functional.pad(x, (0, 1), value=1.0).unsqueeze(1)
        into_gate = write * keep * (candidate - state.h)
        for into, each in zip((into_gate, write), sensitivity, strict=True):
            each.mul_(keep.unsqueeze(2)).addcmul_(into.unsqueeze(2), extended)
        h = torch.addcmul(write * candidate, keep, state.h)
        return h, MinGRUState(h), sensitivity

    @torch.no_grad()
    def backward_output(self, gradient: Tensor, state: MinGRUState) -> tuple[Tensor, ...]:  # noqa: ARG002
        """Returns the gradient with respect to h, which is the output; see `RealTimeCore.backward_output`."""
        return (gradient,)

    @torch.no_grad()
    def backward_sensitivity(self, gradient: tuple[Tensor, ...], sensitivity: Sensitivity) -> None:
        """Adds to the parameters' `.grad`; see `RealTimeCore.backward_sensitivity`."""
        for layer, each in zip((self.gate, self.candidate), sensitivity, strict=True):
            into = (gradient[0].unsqueeze(2) * each).sum(dim=0)
            with torch.enable_grad():
                recompute_weights(layer)
                weights = layer.weight, layer.bias
            with leaves_of(weights) as (weight, bias):
                add_gradient(weight, into[:, :-1])
                add_gradient(bias, into[:, -1])

    def _check_state(self, name: str, state: MinGRUState) -> None:
        super()._check_state(name, state)
        state.check_shapes(name, {"h": (state.batch_size, self.hidden_size)})


def linear_recurrence(factor: Tensor, term: Tensor, start: Tensor) -> Tensor:
    """Returns h (T, B, H) with h_t = factor_t ⊙ h_{t-1} + term_t, in about log₂ T passes.

    Args:
        factor: (T, B, H).
        term: (T, B, H).
        start: (B, H) h before the first step.
    """
    h = torch.cat([(factor[0] * start + term[0]).unsqueeze(0), term[1:]])
    span = 1
    while span < len(h):  # h holds each step's terms of the last `span` steps, factor their product
        h = torch.cat([h[:span], torch.addcmul(h[span:], factor[span:], h[:-span])])
        factor = torch.cat([factor[:span], factor[span:] * factor[:-span]])
        span *= 2
    return h

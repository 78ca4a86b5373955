"""A gated recurrent unit with full or truncated backpropagation through time.

Dimensions: T steps, B rows, I input size, L layers, H hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sab_agents.checks import at_least
from sab_agents.core.base import Core
from sab_agents.core.registry import register_core
from sab_agents.core.state import State
from sab_agents.kernels import steps_in_episode


@dataclass(frozen=True)
class GRUState(State):
    """What `GRU` carries.

    Attributes:
        h: (B, L, H) hidden state of each layer after the last step.
        step: (B,) int64, steps taken since the episode's start.
    """

    h: Tensor
    step: Tensor


@register_core("gru", "GRU, full or truncated BPTT", policy="Gru")
class GRU(Core[GRUState]):
    """A GRU (Cho et al., 2014), computed by `nn.GRU`, which starts from zeros at each episode.

    With `bptt_steps` = n, backpropagation is truncated: h enters step t = 1, 2, … of an episode without gradient where
    (t - 1) mod n = 0, whatever the calls that the sequence is split into.

    Args:
        input_size: I.
        hidden_size: H, also the size of an output.
        bptt_steps: n, at least 1; None backpropagates through the whole episode.
        layers: L, each of which reads the hidden states of the one before.
        dropout: fraction of the features between layers that are zeroed in training.
        batch_first: sequences are (B, T, …) instead of (T, B, …).
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        TypeError: a size is not an int.
        ValueError: a size is below 1, or `dropout` is not a fraction.
    """

    state_class = GRUState

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bptt_steps: int | None = None,
        layers: int = 1,
        dropout: float = 0.0,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, hidden_size, batch_first=batch_first)
        input_size, hidden_size = self.input_size, self.hidden_size
        self.bptt_steps = None if bptt_steps is None else at_least("GRU", "bptt_steps", bptt_steps, 1)
        self.layers = at_least("GRU", "layers", layers, 1)
        if not 0 <= dropout <= 1:
            raise ValueError(f"GRU: dropout must be a fraction between 0 and 1, but is {dropout!r}.")
        between = dropout if layers > 1 else 0.0  # one layer has nothing between
        self.gru = nn.GRU(input_size, hidden_size, layers, dropout=between, device=device, dtype=dtype)

    def extra_repr(self) -> str:
        """Shows the truncation, which no submodule shows."""
        return f"bptt_steps={self.bptt_steps}"

    def initial_state(self, batch_size: int) -> GRUState:
        """Returns the state of `batch_size` rows at the start of an episode: all zeros."""
        batch_size = at_least("GRU.initial_state", "batch_size", batch_size, 1)
        h = next(self.parameters()).new_zeros(batch_size, self.layers, self.hidden_size)
        return GRUState(h, torch.zeros(batch_size, dtype=torch.int64, device=h.device))

    def _run(self, x: Tensor, state: GRUState, episode_start: Tensor | None) -> tuple[Tensor, GRUState]:
        step = steps_in_episode(state.step, episode_start, x.shape[0])
        cut = None if self.bptt_steps is None else (step - 1) % self.bptt_steps == 0
        h, outputs = state.h.transpose(0, 1), []
        for first, end in _stretches(x.shape[0], episode_start, cut):
            if episode_start is not None:
                h = h.masked_fill(episode_start[first].unsqueeze(1), 0)
            if cut is not None:
                h = torch.where(cut[first].unsqueeze(1), h.detach(), h)
            output, h = self.gru(x[first:end], h.contiguous())
            outputs.append(output)
        return torch.cat(outputs), GRUState(h.transpose(0, 1), step[-1])

    def _check_state(self, name: str, state: GRUState) -> None:
        super()._check_state(name, state)
        rows = state.batch_size
        state.check_shapes(name, {"h": (rows, self.layers, self.hidden_size), "step": (rows,)})


def _stretches(length: int, *events: Tensor | None) -> list[tuple[int, int]]:
    """Returns first step and end of each stretch without an event, (T, B) bool, after its first step."""
    happens = [event.any(dim=1) for event in events if event is not None]
    flags = torch.stack(happens).any(dim=0).tolist() if happens else [False] * length
    firsts = [t for t in range(length) if t == 0 or flags[t]]
    return list(zip(firsts, [*firsts[1:], length], strict=True))

"""A gated recurrent unit with full or truncated backpropagation through time.

Dimensions: T steps, B rows, I input size, L layers, H hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sab_agents.checks import at_least
from sab_agents.core.base import Core, draw_input_weights, recompute_weights
from sab_agents.core.lstm import WEIGHTS
from sab_agents.core.registry import register_core
from sab_agents.core.state import State
from sab_agents.kernels import (
    GRUWeights,
    Replay,
    graph_replay,
    is_known,
    packed,
    replay_gru,
    replays_gru,
    steps_in_episode,
    stretch_firsts,
    transforms_active,
)


@dataclass(frozen=True, repr=False)
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
    """A GRU (Cho et al., 2014) with the parameters and numbers of `nn.GRU`, which starts from zeros at each episode.

    With `bptt_steps` = n, backpropagation is truncated: h enters step t = 1, 2, … of an episode without gradient where
    (t - 1) mod n = 0, whatever the calls that the sequence is split into.

    Args:
        input_size: I.
        hidden_size: H, also the size of an output.
        bptt_steps: n, at least 1; None backpropagates through the whole episode.
        layers: L, each of which reads the hidden states of the one before.
        dropout: fraction of the features between layers that are zeroed in training.
        input_gain: g of the weights by which inputs enter, which begin uniform in ±g√(3/I); None is PyTorch's, ±1/√H.
        batch_first: sequences are (B, T, …) instead of (T, B, …).
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        TypeError: a size is not an int.
        ValueError: a size is below 1, or `dropout` is not a fraction.

    Examples:
        >>> import torch
        >>> from sab_agents.core import GRU
        >>> output, state = GRU(input_size=10, hidden_size=32)(torch.randn(20, 4, 10))  # (T, B, I)
        >>> output.shape
        torch.Size([20, 4, 32])
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
        input_gain: float | None = None,
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
        draw_input_weights(self, input_gain)

    def extra_repr(self) -> str:
        """Shows the truncation, which no submodule shows."""
        return f"bptt_steps={self.bptt_steps}"

    def initial_state(self, batch_size: int) -> GRUState:
        """Returns the state of `batch_size` rows at the start of an episode: all zeros."""
        batch_size = self._checked_rows(batch_size)
        h = next(self.parameters()).new_zeros(batch_size, self.layers, self.hidden_size)
        return GRUState(h, torch.zeros(batch_size, dtype=torch.int64, device=h.device))

    def _run(self, x: Tensor, state: GRUState, episode_start: Tensor | None) -> tuple[Tensor, GRUState]:
        step = steps_in_episode(state.step, episode_start, x.shape[0])
        cut = None if self.bptt_steps is None else (step - 1) % self.bptt_steps == 0
        h, outputs = state.h.transpose(0, 1), []
        firsts = stretch_firsts(x.shape[0], episode_start, cut)
        if len(firsts) > 1 and cut is None and episode_start is not None and is_known(x, episode_start):
            return self._run_pieces(x, state, episode_start, step[-1])
        for first, end in zip(firsts, [*firsts[1:], x.shape[0]], strict=True):
            if episode_start is not None:
                h = h.masked_fill(episode_start[first].unsqueeze(1), 0)
            if cut is not None:
                h = torch.where(cut[first].unsqueeze(1), h.detach(), h)
            output, h = self._stretch(x[first:end], h.contiguous())
            outputs.append(output)
        return torch.cat(outputs), GRUState(h.transpose(0, 1), step[-1])

    def _run_pieces(self, x: Tensor, state: GRUState, start: Tensor, step: Tensor) -> tuple[Tensor, GRUState]:
        """Runs rows cut at episode starts: no piece depends on another, so that one call computes all of them."""
        pieces, torch_gru = packed(start), cast(Any, torch.gru)
        h = pieces.begun(state.h).transpose(0, 1).contiguous()
        output, h = torch_gru(pieces.laid(x), pieces.batch_sizes, h, *self._arguments(), bidirectional=False)
        return pieces.given(output), GRUState(h.index_select(1, pieces.ends).transpose(0, 1), step)

    def replay(self, x: Tensor, state: GRUState, episode_start: Tensor) -> Replay:
        """Runs a sequence again for its gradient alone, which `Replay.backward` adds to each leaf's `.grad`.

        Args:
            x: (T, B, I) inputs.
            state: before the first step; no gradient flows into it.
            episode_start: (T, B) bool.

        Returns:
            Outputs (T, B, H), without a graph, and the function that takes their gradient.
        """
        first = GRUWeights(*self._weights()[0])
        if self.layers == 1 and self.bptt_steps is None and replays_gru(x, first, episode_start):
            return replay_gru(x, first, state.h[:, 0], episode_start)
        with torch.enable_grad():
            return graph_replay(self._run(x, state, episode_start)[0])

    def _weights(self) -> list[list[Tensor]]:
        """The weights of each layer as they are now; one that is computed from others is computed."""
        recompute_weights(self.gru)
        return [[getattr(self.gru, f"{name}_l{layer}") for name in WEIGHTS] for layer in range(self.layers)]

    def _stretch(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Runs steps without an event, from x (T, B, I) and h (L, B, H) to outputs (T, B, H) and the new h."""
        if transforms_active():  # for which torch's own has no rule
            return _plain_gru(x, h, self._weights(), self._dropout)
        torch_gru = cast(Any, torch.gru)
        found: tuple[Tensor, Tensor] = torch_gru(x, h, *self._arguments(), bidirectional=False, batch_first=False)
        return found

    @property
    def _dropout(self) -> float:
        return self.gru.dropout if self.training else 0.0

    def _arguments(self) -> tuple[list[Tensor], bool, int, float, bool]:
        """The arguments of torch's own that are always the same: weights, whether biased, L, dropout, and its mode."""
        flat = [weight for layer in self._weights() for weight in layer]
        # In training mode, for without it cuDNN does not backpropagate: dropout says how much is dropped.
        return flat, True, self.layers, self._dropout, True

    def _check_state(self, name: str, state: GRUState) -> None:
        super()._check_state(name, state)
        rows = state.batch_size
        state.check_shapes(name, {"h": (rows, self.layers, self.hidden_size), "step": (rows,)})


def _plain_gru(x: Tensor, h: Tensor, weights: list[list[Tensor]], dropout: float) -> tuple[Tensor, Tensor]:
    """What torch's GRU computes, in operations that every transform knows."""
    ends = []
    for layer, (weight_ih, weight_hh, bias_ih, bias_hh) in enumerate(weights):
        x = functional.dropout(x, dropout) if layer and dropout else x
        outputs = [h[layer]]
        for gates in functional.linear(x, weight_ih, bias_ih):
            r, z, n = gates.chunk(3, dim=1)
            r_h, z_h, n_h = functional.linear(outputs[-1], weight_hh, bias_hh).chunk(3, dim=1)
            candidate = torch.tanh(n + torch.sigmoid(r + r_h) * n_h)
            outputs.append(torch.lerp(candidate, outputs[-1], torch.sigmoid(z + z_h)))
        x = torch.stack(outputs[1:])
        ends.append(outputs[-1])
    return x, torch.stack(ends)

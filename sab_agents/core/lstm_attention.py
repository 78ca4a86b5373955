"""An LSTM with dense attention over all its past hidden states, and full backpropagation through both.

Dimensions: T steps, B rows, I input size, H hidden size, A attention size, n columns carried in the memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sab_agents.checks import at_least
from sab_agents.core.base import Core, draw_input_weights, recompute_weights
from sab_agents.core.lstm import LSTM, LSTMState
from sab_agents.core.registry import register_core
from sab_agents.core.state import State
from sab_agents.core.timeline import first_used, fixed_columns, same_episode
from sab_agents.kernels import steps_in_episode


@dataclass(frozen=True, repr=False)
class LSTMAttentionState(State):
    """What `LSTMAttention` carries; n is the length of the longest episode under way.

    Attributes:
        h: (B, H) hidden state after the last step.
        c: (B, H) cell state after the last step.
        memory: (B, n, H) hidden states of the episode so far; empty columns hold zeros.
        filled: (B, n) bool, which columns hold a hidden state.
        step: (B,) int64, steps taken since the episode's start.
    """

    h: Tensor
    c: Tensor
    memory: Tensor
    filled: Tensor
    step: Tensor


@register_core("lstm_attention", "LSTM with dense self-attention, full BPTT", policy="AttentionLstm", endless=False)
class LSTMAttention(Core[LSTMAttentionState]):
    """An LSTM whose output is joined by a softmax-weighted sum of its past hidden states.

    At step t the query from h_t meets the keys from h_1 … h_{t-1} of the same episode in scaled dot products (Vaswani
    et al., 2017); the summary s_t is the sum of these hidden states with the softmax of the products as weights, and
    zeros at an episode's first step. The summary is read, not fed back into the LSTM. This is the dense counterpart of
    Sparse Attentive Backtracking (Ke et al., 2018): the memory grows with the episode.

    Args:
        input_size: I.
        hidden_size: H; an output [h_t, s_t] has 2H numbers.
        attention_size: A, size of queries and keys; None takes H.
        input_gain: g of the weights by which inputs enter, which begin uniform in ±g√(3/I); None is PyTorch's, ±1/√H.
        batch_first: sequences are (B, T, …) instead of (T, B, …).
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        TypeError: a size is not an int.
        ValueError: a size is below 1.

    Examples:
        >>> import torch
        >>> from sab_agents import LSTMAttention
        >>> lstm = LSTMAttention(input_size=10, hidden_size=32)
        >>> output, state = lstm(torch.randn(20, 4, 10))  # (T, B, I)
        >>> output.shape
        torch.Size([20, 4, 64])
    """

    state_class = LSTMAttentionState

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        attention_size: int | None = None,
        input_gain: float | None = None,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, 2 * hidden_size, batch_first=batch_first)
        input_size, hidden_size = self.input_size, self.hidden_size
        size = hidden_size if attention_size is None else attention_size
        self.attention_size = at_least("LSTMAttention", "attention_size", size, 1)
        self.lstm = LSTM(input_size, hidden_size, device=device, dtype=dtype)
        self.query = nn.Linear(hidden_size, size, device=device, dtype=dtype)
        # A bias would add the same number to all scores of a query, which softmax ignores.
        self.key = nn.Linear(hidden_size, size, bias=False, device=device, dtype=dtype)
        draw_input_weights(self, input_gain)

    def initial_state(self, batch_size: int) -> LSTMAttentionState:
        """The state of `batch_size` rows at the start of an episode: all zeros, with n = 0 columns of memory.

        Raises:
            TypeError: `batch_size` is not an int.
            ValueError: `batch_size` is below 1.
        """
        batch_size = self._checked_rows(batch_size)
        lstm = self.lstm.initial_state(batch_size)
        h, c = lstm.h.squeeze(1), lstm.c.squeeze(1)
        memory = h.new_zeros(batch_size, 0, self.hidden_size)
        filled = torch.zeros(batch_size, 0, dtype=torch.bool, device=memory.device)
        return LSTMAttentionState(h, c, memory, filled, lstm.step)

    def _check_state(self, name: str, state: LSTMAttentionState) -> None:
        super()._check_state(name, state)
        rows, row = (state.batch_size,), (state.batch_size, self.hidden_size)
        columns = (state.batch_size, *state.filled.shape[1:])
        state.check_shapes(
            name, {"h": row, "c": row, "filled": columns, "memory": (*columns, self.hidden_size), "step": rows}
        )

    def _run(
        self, x: Tensor, state: LSTMAttentionState, episode_start: Tensor | None
    ) -> tuple[Tensor, LSTMAttentionState]:
        hidden: Tensor
        lstm: LSTMState
        before = LSTMState(state.h.unsqueeze(1), state.c.unsqueeze(1), state.step)
        hidden, lstm = self.lstm(x, before, episode_start)
        rows = hidden.transpose(0, 1)
        memory = torch.cat([state.memory, rows], dim=1)
        step = steps_in_episode(state.step, episode_start, x.shape[0])
        seen = same_episode(state.filled, step)
        past = seen.tril(state.memory.shape[1] - 1)  # without the present step
        summary = self.attend(rows, memory, past)
        filled = seen[:, -1]
        first = first_used(filled)
        memory = memory[:, first:].masked_fill(~filled[:, first:].unsqueeze(-1), 0)
        output = torch.cat([hidden, summary.transpose(0, 1)], dim=-1)
        return output, LSTMAttentionState(lstm.h.squeeze(1), lstm.c.squeeze(1), memory, filled[:, first:], lstm.step)

    def attend(self, hidden: Tensor, memory: Tensor, past: Tensor) -> Tensor:
        """Summaries (B, T, H) of memory (B, n + T, H) for hidden (B, T, H), where past (B, T, n + T) is True."""
        recompute_weights(self.key)
        # (W_k m)·q = m·(W_kᵀ q): moving the queries to the memory's space leaves no keys to store or recompute.
        queries: Tensor = self.query(hidden) @ self.key.weight
        scores = queries @ memory.mT / math.sqrt(self.attention_size)
        # A finite floor keeps a row without a past free of NaN; the second mask makes its weights zero.
        floor = torch.finfo(scores.dtype).min
        weights = scores.masked_fill(~past, floor).softmax(dim=-1).masked_fill(~past, 0)
        return weights @ memory

    def fixed_state(self, batch_size: int, max_steps: int | None = None) -> LSTMAttentionState:
        """Returns zeros with a column for each step but the present one; see `Core.fixed_state`."""
        state = self.initial_state(batch_size)
        columns = fixed_columns("LSTMAttention", max_steps)
        memory = state.memory.new_zeros(batch_size, columns, self.hidden_size)
        filled = state.filled.new_zeros(batch_size, columns)
        return LSTMAttentionState(state.h, state.c, memory, filled, state.step)

    def plain_step(self, x: Tensor, state: LSTMAttentionState) -> tuple[Tensor, LSTMAttentionState]:
        """Runs one step in operations that can be exported; the newest column is the last. See `Core.plain_step`."""
        before = LSTMState(state.h.unsqueeze(1), state.c.unsqueeze(1), state.step)
        h, lstm = self.lstm.plain_step(x, before)
        summary = self.attend(h.unsqueeze(1), state.memory, state.filled.unsqueeze(1)).squeeze(1)
        memory = torch.cat([state.memory[:, 1:], h.unsqueeze(1)], dim=1)
        filled = torch.cat([state.filled[:, 1:], torch.ones_like(state.filled[:, :1])], dim=1)
        output = torch.cat([h, summary], dim=1)
        return output, LSTMAttentionState(lstm.h.squeeze(1), lstm.c.squeeze(1), memory, filled, lstm.step)

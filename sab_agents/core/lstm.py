"""An LSTM with full or truncated backpropagation through time.

Dimensions: T steps, B rows, I input size, L layers, H hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sab_agents.checks import at_least
from sab_agents.core.base import Core, draw_input_weights, recompute_weights
from sab_agents.core.registry import register_core
from sab_agents.core.state import State
from sab_agents.kernels import Layout, LSTMWeights, Replay, lstm, lstm_step, replay_lstm, steps_in_episode

WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@dataclass(frozen=True, repr=False)
class LSTMState(State):
    """What `LSTM` carries.

    Attributes:
        h: (B, L, H) hidden state of each layer after the last step.
        c: (B, L, H) cell state of each layer after the last step.
        step: (B,) int64, steps taken since the episode's start.
    """

    h: Tensor
    c: Tensor
    step: Tensor


@register_core("lstm_tbptt", "LSTM, truncated BPTT", policy="Lstm")
@register_core("lstm", "LSTM, full BPTT", omit=("bptt_steps",))
class LSTM(Core[LSTMState]):
    """An LSTM (Hochreiter & Schmidhuber, 1997) that starts again at each episode.

    With `bptt_steps` = n, backpropagation is truncated (Williams & Peng, 1990): h and c enter step t = 1, 2, … of an
    episode without gradient where (t - 1) mod n = 0. The values are those of the full LSTM. The rule counts from the
    episode's start, so that it does not depend on how the sequence is cut into calls.

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
        ValueError: a size is below 1, or `dropout` is not between 0 and 1.

    Examples:
        >>> import torch
        >>> from sab_agents import LSTM
        >>> lstm = LSTM(input_size=10, hidden_size=32, bptt_steps=5)
        >>> output, state = lstm(torch.randn(20, 4, 10))  # (T, B, I)
        >>> output.shape, state.h.shape  # (T, B, H), (B, L, H)
        (torch.Size([20, 4, 32]), torch.Size([4, 1, 32]))
    """

    state_class = LSTMState

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
        self.bptt_steps = None if bptt_steps is None else at_least("LSTM", "bptt_steps", bptt_steps, 1)
        self.layers = at_least("LSTM", "layers", layers, 1)
        if not 0 <= dropout <= 1:
            raise ValueError(f"LSTM: dropout must be a fraction between 0 and 1, but is {dropout!r}.")
        self.dropout = dropout if layers > 1 else 0.0  # there is nothing between the layers of one
        self._names = [tuple(f"{name}_l{layer}" for name in WEIGHTS) for layer in range(layers)]
        self.lstm = nn.LSTM(input_size, hidden_size, layers, dropout=self.dropout, device=device, dtype=dtype)
        draw_input_weights(self, input_gain)

    def extra_repr(self) -> str:
        """Shows the truncation, which no submodule does."""
        return f"bptt_steps={self.bptt_steps}"

    def initial_state(self, batch_size: int) -> LSTMState:
        """The state of `batch_size` rows at the start of an episode: h and c (B, L, H) and step (B,), all zeros.

        Raises:
            TypeError: `batch_size` is not an int.
            ValueError: `batch_size` is below 1.
        """
        batch_size = self._checked_rows(batch_size)
        zeros = self.like.new_zeros(batch_size, self.layers, self.hidden_size)
        return LSTMState(zeros, zeros.clone(), torch.zeros(batch_size, dtype=torch.int64, device=zeros.device))

    def step(
        self, x: Tensor, state: LSTMState | None = None, episode_start: Tensor | None = None
    ) -> tuple[Tensor, LSTMState]:
        """One step: x (B, I), episode_start (B,) bool; returns h (B, H) and the new state.

        Equals `forward` on a sequence of length 1, and raises as it does. In float32 on a CPU and without gradient it
        is one call of the native kernel.
        """
        if self.layers > 1 or state is None or not self._have_types(x, state, episode_start):
            return super().step(x, state, episode_start)
        if state.h.shape[1:2] != (1,) or state.step.shape != x.shape[:1]:
            return super().step(x, state, episode_start)
        by_scan: list[LSTMState] = []

        def otherwise() -> tuple[Tensor, Tensor]:
            output, after = super(LSTM, self).step(x, state, episode_start)
            by_scan.append(after)
            return output, after.c[:, 0]

        h, c = state.h.select(1, 0), state.c.select(1, 0)
        h, c = lstm_step(self.weights()[0], x, h, c, episode_start, otherwise=otherwise)
        if by_scan:
            return h, by_scan[0]
        before = state.step if episode_start is None else state.step.masked_fill(episode_start, 0)
        return h, LSTMState(h.unsqueeze(1), c.unsqueeze(1), before + 1)

    def replay(self, x: Tensor, state: LSTMState, episode_start: Tensor, laid: Layout | None = None) -> Replay:
        """Runs a sequence again for its gradient alone, which `Replay.backward` adds to the parameters' `.grad`.

        Args:
            x: (T, B, I) inputs.
            state: before the first step; no gradient flows into it.
            episode_start: (T, B) bool.
            laid: how the steps were laid out again, for outputs and gradient as they were given; None if not.

        Returns:
            Outputs (T, B, H), without a graph, and the function that takes their gradient.
        """
        cut, dropout = self._cut(x, state, episode_start), self._dropout()
        h, c = state.h.detach(), state.c.detach()
        return replay_lstm(x, self.weights(), h, c, episode_start, cut, dropout=dropout, laid=laid)

    def _cut(self, x: Tensor, state: LSTMState, episode_start: Tensor | None) -> Tensor | None:
        """Steps (T, B) that h and c enter without gradient; None for none."""
        if self.bptt_steps is None:
            return None
        return (steps_in_episode(state.step, episode_start, x.shape[0]) - 1) % self.bptt_steps == 0

    def _dropout(self) -> float:
        return self.dropout if self.training else 0.0

    def weights(self) -> list[LSTMWeights]:
        """Returns the weights of each layer as they are now; one that is computed from others is computed."""
        own: Any = self._modules["lstm"]._parameters  # type: ignore[union-attr]  # `__getattr__` takes as long
        try:
            return [tuple([own[name] for name in names]) for names in self._names]
        except KeyError:
            recompute_weights(self.lstm)
            return [tuple(getattr(self.lstm, name) for name in names) for names in self._names]

    def _check_state(self, name: str, state: LSTMState) -> None:
        super()._check_state(name, state)
        rows = (state.batch_size,)
        layers = (*rows, self.layers, self.hidden_size)
        state.check_shapes(name, {"h": layers, "c": layers, "step": rows})

    def _run(self, x: Tensor, state: LSTMState, episode_start: Tensor | None) -> tuple[Tensor, LSTMState]:
        step = steps_in_episode(state.step, episode_start, x.shape[0])
        cut = self._cut(x, state, episode_start)
        output, h, c = lstm(x, self.weights(), state.h, state.c, episode_start, cut, dropout=self._dropout())
        return output, LSTMState(h, c, step[-1])

    def plain_step(self, x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """Runs one step in operations that can be exported; see `Core.plain_step`."""
        hidden, cells = [], []
        for layer, weights in enumerate(self.weights()):
            x, c = torch.lstm_cell(x, (state.h[:, layer], state.c[:, layer]), *weights)
            hidden.append(x)
            cells.append(c)
        return x, LSTMState(torch.stack(hidden, dim=1), torch.stack(cells, dim=1), state.step + 1)

"""An LSTM with full or truncated backpropagation through time.

Dimensions: T steps, B rows, I input size, L layers, H hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from sab_agents.checks import at_least
from sab_agents.core.base import Core
from sab_agents.core.episodes import check_shapes, steps_in_episode
from sab_agents.core.recut import layout
from sab_agents.core.registry import register_core
from sab_agents.core.state import State
from sab_agents.kernels import Run, ScanInputs, ScanPlan, kernel_in_use, linear, lstm_run, lstm_step, scan


@dataclass(frozen=True)
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
    """An LSTM (Hochreiter & Schmidhuber, 1997) that starts anew at each episode.

    With `bptt_steps` = n, backpropagation is truncated (Williams & Peng, 1990): h and c enter step t = 1, 2, … of an
    episode without gradient where (t - 1) mod n = 0. The values are those of the full LSTM. The rule counts from the
    episode's start, so that it does not depend on how the sequence is cut into calls.

    Args:
        input_size: I.
        hidden_size: H, also the size of an output.
        bptt_steps: n, at least 1; None backpropagates through the whole episode.
        layers: L, each of which reads the hidden states of the one before.
        dropout: share of the numbers between layers that are zeroed in training.
        batch_first: sequences are (B, T, …) instead of (T, B, …).
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        TypeError: a size is not an int.
        ValueError: a size is below 1, or `dropout` is no share.
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
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, hidden_size, batch_first=batch_first)
        self.bptt_steps = None if bptt_steps is None else at_least("LSTM", "bptt_steps", bptt_steps, 1)
        self.layers = at_least("LSTM", "layers", layers, 1)
        if not 0 <= dropout <= 1:
            raise ValueError(f"LSTM: dropout must be a share between 0 and 1, but is {dropout!r}.")
        self.dropout = dropout if layers > 1 else 0.0  # there is nothing between the layers of one
        self.lstm = nn.LSTM(input_size, hidden_size, layers, dropout=self.dropout, device=device, dtype=dtype)

    def extra_repr(self) -> str:
        """Shows the truncation, which no submodule does."""
        return f"bptt_steps={self.bptt_steps}"

    def train(self, mode: bool = True) -> Self:
        """Sets the mode as `nn.Module.train` does; without dropout it has no effect on what is computed."""
        super().train(mode)
        self.lstm.train()  # cuDNN refuses to backpropagate in evaluation mode
        self.lstm.dropout = self.dropout if mode else 0.0
        return self

    def initial_state(self, batch_size: int) -> LSTMState:
        """The state of `batch_size` rows at the start of an episode: h and c (B, L, H) and step (B,), all zeros.

        Raises:
            TypeError: `batch_size` is not an int.
            ValueError: `batch_size` is below 1.
        """
        at_least("LSTM.initial_state", "batch_size", batch_size, 1)
        zeros = next(self.parameters()).new_zeros(batch_size, self.layers, self.hidden_size)
        return LSTMState(zeros, zeros, torch.zeros(batch_size, dtype=torch.int64, device=zeros.device))

    def step(
        self, x: Tensor, state: LSTMState | None = None, episode_start: Tensor | None = None
    ) -> tuple[Tensor, LSTMState]:
        """One step: x (B, I), episode_start (B,) bool; returns h (B, H) and the new state.

        Equals `forward` on a sequence of length 1, and raises as it does. In float32 on a CPU and without gradient it
        is one call of compiled code.
        """
        found = self._step_at_once(x, state, episode_start)
        return super().step(x, state, episode_start) if found is None else found

    def _step_at_once(self, x: Any, state: Any, episode_start: Any) -> tuple[Tensor, LSTMState] | None:
        """The step by compiled code; None where that does not take these arguments, right or wrong."""
        known = self.layers == 1 and isinstance(x, Tensor) and isinstance(state, LSTMState)
        if not known or state.h.shape[1:2] != (1,) or not (episode_start is None or isinstance(episode_start, Tensor)):
            return None
        found = lstm_step(self._weights(), x, state.h[:, 0], state.c[:, 0], episode_start)
        if found is None or state.step.shape != x.shape[:1]:
            return None
        before = state.step if episode_start is None else state.step.masked_fill(episode_start, 0)
        h, c = (each.unsqueeze(1) for each in found)
        return found[0], LSTMState(h, c, before + 1)

    def run(self, x: Tensor, state: LSTMState, episode_start: Tensor) -> tuple[Run, Tensor] | None:
        """A sequence without a graph by compiled code; None where that does not take these arguments, right or wrong.

        Returns:
            The run, whose `backward` adds to the parameters' `.grad`, and (T, B, 2H), the outputs and zeros.
        """
        if self.layers > 1:
            return None
        cut = episode_start
        if self.bptt_steps is not None:
            cut = (steps_in_episode(state.step, episode_start, x.shape[0]) - 1) % self.bptt_steps == 0
        return lstm_run(self._weights(), x, state.h[:, 0], state.c[:, 0], episode_start, cut)

    def _weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        lstm: Any = self.lstm
        return lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0, lstm.bias_hh_l0

    def _check_state(self, name: str, state: LSTMState) -> None:
        super()._check_state(name, state)
        rows = (state.batch_size,)
        layers = (*rows, self.layers, self.hidden_size)
        check_shapes(name, state, {"h": layers, "c": layers, "step": rows})

    def _run(self, x: Tensor, state: LSTMState, episode_start: Tensor | None) -> tuple[Tensor, LSTMState]:
        step = steps_in_episode(state.step, episode_start, x.shape[0])
        cut = None if self.bptt_steps is None else (step - 1) % self.bptt_steps == 0
        if x.shape[0] > 1 and kernel_in_use(x.device, x.dtype) == "native":
            output, h, c = self._scanned(x, state, episode_start, cut)
        else:
            output, h, c = self._in_stretches(x, state, episode_start, cut)
        return output, LSTMState(h, c, step[-1])

    def _in_stretches(
        self, x: Tensor, state: LSTMState, episode_start: Tensor | None, cut: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A call of `nn.LSTM` from each event to the next: the output, and h and c (B, L, H) after it."""
        firsts = _stretch_firsts(x.shape[0], episode_start, cut)
        h, c = state.h.transpose(0, 1), state.c.transpose(0, 1)
        outputs = []
        for first, end in zip(firsts, [*firsts[1:], x.shape[0]], strict=True):
            if episode_start is not None:
                starts = episode_start[first].unsqueeze(1)
                h, c = h.masked_fill(starts, 0), c.masked_fill(starts, 0)
            if cut is not None:
                cuts = cut[first].unsqueeze(1)
                h, c = torch.where(cuts, h.detach(), h), torch.where(cuts, c.detach(), c)
            output, (h, c) = self.lstm(x[first:end], (h.contiguous(), c.contiguous()))
            outputs.append(output)
        return torch.cat(outputs), h.transpose(0, 1), c.transpose(0, 1)

    def _scanned(
        self, x: Tensor, state: LSTMState, episode_start: Tensor | None, cut: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same by a SAB scan without slots for each layer, which knows of events at any step of any row."""
        start = x.new_zeros(*x.shape[:2], dtype=torch.bool) if episode_start is None else episode_start
        cut = start if cut is None else start | cut
        h, c, laid = state.h, state.c, layout(start)
        if laid is not None:
            x, cut, start = laid.laid(x), laid.laid(cut) | laid.start, laid.start
            h, c = laid.begun(h), laid.begun(c)
        plan = ScanPlan(
            start=start,
            cut=cut,
            write_slot=torch.full(start.shape, -1),
            filled=start.new_zeros(start.shape[1], 0),
            slots=0,
            top_k=1,
        )
        unused, no_memory = x.new_zeros(1, self.hidden_size), x.new_zeros(x.shape[1], 0, self.hidden_size)
        ends = []
        for layer, (weight_ih, weight_hh, bias_ih, bias_hh) in enumerate(self.lstm.all_weights):
            if layer:
                x = functional.dropout(x, self.dropout, self.training)
            found = scan(
                ScanInputs(
                    gates=linear(x, weight_ih, bias_ih + bias_hh),
                    weight_hh=weight_hh,
                    key_weight=unused,
                    query_weight=unused,
                    query_bias=unused[:, 0],
                    score_weight=None,
                    h=h[:, layer],
                    c=c[:, layer],
                    memory=no_memory,
                ),
                plan,
                own_gates=True,
            )
            x = found.h
            ends.append((x[-1], found.c))
        h, c = (torch.stack(each, dim=1) for each in zip(*ends, strict=True))
        return (x, h, c) if laid is None else (laid.given(x), laid.ended(h), laid.ended(c))

    def plain_step(self, x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """Runs one step in operations that can be exported; see `Core.plain_step`."""
        hidden, cells = [], []
        for layer, weights in enumerate(self.lstm.all_weights):
            x, c = torch.lstm_cell(x, (state.h[:, layer], state.c[:, layer]), *weights)
            hidden.append(x)
            cells.append(c)
        return x, LSTMState(torch.stack(hidden, dim=1), torch.stack(cells, dim=1), state.step + 1)


def _stretch_firsts(length: int, *events: Tensor | None) -> list[int]:
    """First steps of the stretches that can run in one call: 0, and each step at which a row of a (T, B) event is."""
    happens = [event.any(dim=1) for event in events if event is not None]
    if not happens:
        return [0]
    flags: list[bool] = torch.stack(happens).any(dim=0).tolist()
    return [t for t in range(length) if t == 0 or flags[t]]

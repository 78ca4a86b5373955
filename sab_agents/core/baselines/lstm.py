"""An LSTM with full or truncated backpropagation through time.

Dimensions: T steps, B rows, I input size, L layers, H hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from sab_agents.core.base import Core, at_least
from sab_agents.core.baselines.recut import Layout, layout
from sab_agents.core.episodes import check_shapes, steps_in_episode
from sab_agents.core.state import State
from sab_agents.kernels import Run, ScanInputs, ScanPlan, Start, StepWeights, kernel_in_use, linear, scan


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

    def _check_state(self, name: str, state: LSTMState) -> None:
        super()._check_state(name, state)
        rows = (state.batch_size,)
        layers = (*rows, self.layers, self.hidden_size)
        check_shapes(name, state, {"h": layers, "c": layers, "step": rows})

    def _run(self, x: Tensor, state: LSTMState, episode_start: Tensor | None) -> tuple[Tensor, LSTMState]:
        step = steps_in_episode(state.step, episode_start, x.shape[0])
        cut = self._cut(step)
        if x.shape[0] > 1 and kernel_in_use(x.device, x.dtype) == "native":
            output, h, c = self._scanned(x, state, episode_start, cut)
        else:
            output, h, c = self._in_stretches(x, state, episode_start, cut)
        return output, LSTMState(h, c, step[-1])

    def _cut(self, step: Tensor) -> Tensor | None:
        """(T, B) bool, which of the steps of an episode are cut; None for none."""
        return None if self.bptt_steps is None else (step - 1) % self.bptt_steps == 0

    def rerun(self, x: Tensor, state: LSTMState, episode_start: Tensor, laid: Layout | None) -> LSTMRun | None:
        """Runs a sequence whose gradient needs no graph, where compiled code can: one layer, float32 on a CPU.

        Args:
            x: (T, B, I) inputs that want no gradient.
            state: before the first step, which wants none.
            episode_start: (T, B) bool.
            laid: how `layout` lays these starts.
        """
        if self.layers > 1 or x.requires_grad or kernel_in_use(x.device, x.dtype) != "native":
            return None
        return LSTMRun(self, x, state, episode_start, laid)

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
        laid = None if episode_start is None else layout(episode_start)
        first, start = (state.h, state.c), _starts(x, episode_start)
        if laid is not None:
            x, start, cut = laid.laid(x), laid.start, None if cut is None else laid.laid(cut)
            first = laid.begun(state.h), laid.begun(state.c)
        plan = _plan(start, cut)
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
                    h=first[0][:, layer],
                    c=first[1][:, layer],
                    memory=no_memory,
                ),
                plan,
                own_gates=True,
            )
            x = found.h
            ends.append((x[-1], found.c))
        h, c = (torch.stack(each, dim=1) for each in zip(*ends, strict=True))
        return (x, h, c) if laid is None else (laid.given(x), laid.ended(h), laid.ended(c))


class LSTMRun:
    """A run of `LSTM.rerun`; see there.

    Attributes:
        outputs: (T, B, H).
    """

    def __init__(
        self, core: LSTM, x: Tensor, state: LSTMState, episode_start: Tensor, laid: Layout | None
    ) -> None:
        cut = None
        if core.bptt_steps is not None:
            cut = core._cut(steps_in_episode(state.step, episode_start, x.shape[0]))
        self._laid = laid
        h, c, start = state.h[:, 0], state.c[:, 0], episode_start
        if laid is not None:
            x, start, cut = laid.laid(x), laid.start, None if cut is None else laid.laid(cut)
            h, c = laid.begun(h), laid.begun(c)
        unused = x.new_zeros(1, core.hidden_size)
        weights = StepWeights(*core.lstm.all_weights[0], unused, unused, unused[:, 0], None)
        self._run = Run(weights, x, Start(h, c, x.new_zeros(x.shape[1], 0, core.hidden_size)), _plan(start, cut))
        hidden = self._run.hidden()
        self.outputs = hidden if laid is None else laid.given(hidden)

    def backward(self, gradient: Tensor) -> None:
        """Adds to each weight's `.grad` what the gradient (T, B, H) of the outputs owes it, once; calls no hooks."""
        self._run.backward(gradient if self._laid is None else self._laid.laid(gradient), None, memory=False)


def _starts(x: Tensor, episode_start: Tensor | None) -> Tensor:
    return x.new_zeros(*x.shape[:2], dtype=torch.bool) if episode_start is None else episode_start


def _plan(start: Tensor, cut: Tensor | None) -> ScanPlan:
    """Of a scan without slots that is cut at episode starts, and where `cut` says."""
    return ScanPlan(
        start=start,
        cut=start if cut is None else start | cut,
        write_slot=torch.full(start.shape, -1, device=start.device),
        filled=start.new_zeros(start.shape[1], 0),
        slots=0,
        top_k=1,
    )


def _stretch_firsts(length: int, *events: Tensor | None) -> list[int]:
    """First steps of the stretches that can run in one call: 0, and each step at which a row of a (T, B) event is."""
    happens = [event.any(dim=1) for event in events if event is not None]
    if not happens:
        return [0]
    flags: list[bool] = torch.stack(happens).any(dim=0).tolist()
    return [t for t in range(length) if t == 0 or flags[t]]

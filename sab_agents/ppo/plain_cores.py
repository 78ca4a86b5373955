"""Cores without slots as a policy uses them: LSTM, LSTM with self-attention, Transformer.

Dimensions: n environments, T steps of a segment, R rows of a rollout, b rows of a minibatch, H hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from sab_agents.core import LSTM, LSTMAttention, Transformer
from sab_agents.core.base import Core
from sab_agents.core.lstm import LSTMState
from sab_agents.core.state import State
from sab_agents.kernels import Layout, Replay, graph_replay, relaid
from sab_agents.ppo.rollout_cores import Array, RolloutCore


class PlainSegments:
    """Segments of a core without slots; see `Segments`.

    Args:
        core: the network.
        before: its state before each row, R rows.
        start: (T, R) bool, episode starts.
    """

    def __init__(self, core: Core[Any], before: State, start: Tensor) -> None:
        self.core, self.before, self.start = core, before, start

    def run(self, rows: Tensor, x: Tensor) -> Replay:
        """See `Segments.run`."""
        with torch.enable_grad():
            output: Tensor = self.core(x, self.before.chosen(rows), self.start[:, rows])[0]
        return graph_replay(output)

    def credit(self) -> None:
        """Nothing is known of the past but the state, through which no gradient is sent."""


class _Chosen(NamedTuple):
    """Rows as they are run: what they begin with, their episode starts, and where they lie if they are laid anew."""

    before: LSTMState
    start: Tensor
    laid: Layout | None


class LstmSegments(PlainSegments):
    """Segments of an LSTM, replayed without a graph if that is possible."""

    core: LSTM
    before: LSTMState

    def __init__(self, core: Core[Any], before: State, start: Tensor) -> None:
        super().__init__(core, before, start)
        self._chosen: dict[tuple[int, ...], _Chosen] = {}  # by rows, which come in every epoch

    def run(self, rows: Tensor, x: Tensor) -> Replay:
        """See `Segments.run`."""
        if x.requires_grad or self.core.layers > 1:
            return super().run(rows, x)
        before, start, laid = self._of(rows, x)
        if laid is None:
            return self.core.replay(x, before, start)
        found = self.core.replay(laid.laid(x), before, start)
        return Replay(laid.given(found.outputs), lambda gradient: found.backward(laid.laid(gradient)))

    def _of(self, rows: Tensor, x: Tensor) -> _Chosen:
        chosen = tuple(rows.tolist())
        if chosen not in self._chosen:
            before, start = self.before.chosen(rows), self.start.index_select(1, rows)
            laid = relaid(start, x)
            if laid is not None:
                before, start = LSTMState(*(laid.begun(part) for part in before.tensors())), laid.start
            self._chosen[chosen] = _Chosen(before, start, laid)
        return self._chosen[chosen]


class PlainRolloutCore(RolloutCore):
    """An LSTM, an LSTM with self-attention, or a Transformer: gradient reaches to a segment's start and no farther.

    Args:
        core: the network.
    """

    segments: ClassVar[type[PlainSegments]] = PlainSegments

    def __init__(self, core: LSTM | LSTMAttention | Transformer) -> None:
        super().__init__(core)
        self._begin(1)

    def _begin(self, rows: int) -> None:
        self._state: State = self.core.initial_state(rows)
        self._before, self._starts = self._state, list[Tensor]()

    def initial_state(self, rows: int) -> State:
        """The core's own."""
        state: State = self.core.initial_state(rows)
        return state

    @torch.no_grad()
    def act(self, x: Tensor, state: Any) -> tuple[Tensor, State]:
        """See `RolloutCore.act`."""
        found: tuple[Tensor, State] = self.core.step(x, state)
        return found

    def begin(self, rows: int, encoder: nn.Module | None, observation_size: int) -> None:  # noqa: ARG002
        """See `RolloutCore.begin`; without slots there is nothing to encode again."""
        self._begin(rows)

    @torch.no_grad()
    def step(self, observation: Tensor, x: Tensor, start: Tensor) -> Tensor:  # noqa: ARG002
        """See `RolloutCore.step`."""
        output: Tensor
        output, self._state = self.core.step(x, self._state, start)
        self._starts.append(start)
        return output

    @torch.no_grad()
    def peek(self, observation: Tensor, x: Tensor, start: Tensor) -> Tensor:  # noqa: ARG002
        """See `RolloutCore.peek`."""
        output: Tensor = self.core.step(x, self._state, start)[0]
        return output

    def close(self) -> PlainSegments:
        """See `RolloutCore.close`."""
        closed = self.segments(self.core, self._before, torch.stack(self._starts))
        self.discard()
        return closed

    def discard(self) -> None:
        """See `RolloutCore.discard`."""
        self._before, self._starts = self._state, []

    def joined(self, segments: Sequence[PlainSegments]) -> PlainSegments:
        """See `RolloutCore.joined`."""
        before = State.joined([segment.before for segment in segments])
        return self.segments(self.core, before, torch.cat([segment.start for segment in segments], dim=1))

    def carried(self) -> dict[str, Tensor]:
        """The state."""
        return {str(index): tensor for index, tensor in enumerate(self._state.tensors())}

    def restore(self, carried: dict[str, Tensor]) -> None:
        """Takes back what `carried` gave."""
        self._state = type(self._state)(*(carried[str(index)].clone() for index in range(len(carried))))
        self.discard()


class LstmRolloutCore(PlainRolloutCore):
    """An LSTM whose state, as arrays, is sb3-contrib's: h and c, (layers, n, H) each."""

    segments = LstmSegments

    @property
    def draws(self) -> bool:
        """See `RolloutCore.draws`."""
        return bool(self.core.dropout)

    def to_numpy(self, state: State) -> tuple[Array, ...]:
        """See `RolloutCore.to_numpy`."""
        h, c, _ = state.to_numpy()
        return h.swapaxes(0, 1), c.swapaxes(0, 1)

    def from_numpy(self, arrays: tuple[Array, ...], device: torch.device) -> State:
        """See `RolloutCore.from_numpy`. Where in its episode a row stands does not matter without gradient.

        Raises:
            ValueError: these are not two arrays.
        """
        if len(arrays) != 2:
            raise ValueError(f"predict: the state of an LSTM must be h and c, but has {len(arrays)} arrays.")
        like = next(self.parameters())
        h, c = (torch.as_tensor(array, dtype=like.dtype, device=device).transpose(0, 1) for array in arrays)
        return LSTMState(h, c, torch.zeros(len(h), dtype=torch.int64, device=device))

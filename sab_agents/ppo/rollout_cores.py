"""Recurrent cores as a policy uses them: they act, keep what a rollout leaves behind, and learn whole rows of it.

Dimensions: n environments, T steps of a segment, R rows of a rollout (one for each environment and segment), b rows of
a minibatch, F numbers in an output, I numbers in an input.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Protocol

import numpy.typing as npt
import torch
from torch import Tensor, nn

from sab_agents.core import LSTM, SAB, LSTMAttention, Transformer
from sab_agents.core.base import Core
from sab_agents.core.baselines import LSTMState
from sab_agents.core.baselines.recut import Layout, layout
from sab_agents.core.state import State
from sab_agents.core.streaming import ClosedWindow, Credit, Eviction, SABStream, Write
from sab_agents.core.streaming.acting import ActingState, act
from sab_agents.core.streaming.window import WindowRun, graph_run
from sab_agents.core.streaming.writing import SlotWriter
from sab_agents.kernels import Run, kernel_in_use

Array = npt.NDArray[Any]


class Segments(Protocol):
    """Segments of a rollout that are over: what a core left of them to learn from."""

    def run(self, rows: Tensor, x: Tensor) -> WindowRun:
        """Runs rows (b,) again with today's weights, from their inputs x (T, b, I).

        Returns:
            Outputs (T, b, F), and what takes their gradient; it adds to `x.grad` where x requires it.
        """

    def credit(self) -> Credit | None:
        """Sends on what reached the past before the segments; None where nothing can."""


class RolloutCore(nn.Module, ABC):
    """A recurrent core of n environments.

    Acting by itself: `initial_state`, `act`. Collecting: `begin` once, `step` at each step, `close` at a segment's end.

    Args:
        core: the network.
    """

    def __init__(self, core: Core[Any]) -> None:
        super().__init__()
        self.core = core

    @property
    def output_size(self) -> int:
        """F."""
        return self.core.output_size

    @abstractmethod
    def initial_state(self, rows: int) -> State:
        """The state at the start of an episode, for `act`."""

    def to_numpy(self, state: State) -> tuple[Array, ...]:
        """A state as arrays whose second axis is the row, as sb3-contrib's are."""
        return tuple(array[None] for array in state.to_numpy())

    def from_numpy(self, arrays: tuple[Array, ...], device: torch.device) -> State:
        """The state that `to_numpy` gave.

        Raises:
            ValueError: the number of arrays is another.
        """
        return type(self.initial_state(1)).from_numpy(tuple(array[0] for array in arrays), device)

    @abstractmethod
    def act(self, x: Tensor, state: Any) -> tuple[Tensor, State]:
        """One step of independent rows from inputs (B, I), without effect on what is collected: outputs, next state."""

    @abstractmethod
    def begin(self, rows: int, encoder: nn.Module | None, observation_size: int) -> None:
        """Starts to collect from `rows` environments.

        Args:
            rows: n.
            encoder: makes inputs (N, I) of observations (N, P), and is to be credited; None where they are the same.
            observation_size: P.
        """

    @abstractmethod
    def step(self, observation: Tensor, x: Tensor, start: Tensor) -> Tensor:
        """Takes a step.

        Args:
            observation: (n, P).
            x: (n, I) what the encoder makes of it.
            start: (n,) bool, episode starts.

        Returns:
            (n, F) outputs.
        """

    @abstractmethod
    def peek(self, observation: Tensor, x: Tensor, start: Tensor) -> Tensor:
        """The outputs that `step` would give; nothing changes."""

    @abstractmethod
    def close(self) -> Any:
        """Ends the segment that was stepped through, and returns it."""

    @abstractmethod
    def discard(self) -> None:
        """Forgets the steps of an open segment, which nobody will learn from; the state stays."""

    @abstractmethod
    def joined(self, segments: Sequence[Any]) -> Segments:
        """Segments of equal length as one, whose rows are those of the first, the second, …."""

    @abstractmethod
    def carried(self) -> dict[str, Tensor]:
        """What is needed to go on collecting to the bit, between segments."""

    @abstractmethod
    def restore(self, carried: dict[str, Tensor]) -> None:
        """Takes back what `carried` gave."""


class SabRolloutCore(RolloutCore):
    """Sparse Attentive Backtracking whose credit crosses rollouts: a stream for each environment.

    The memory lives on from one rollout to the next. Gradient that reaches it in an update is pushed on, by running
    again the steps that wrote it, however long ago. Memories that are held are as they were written, by the weights of
    then.

    Args:
        input_size: I.
        hidden_size: H; an output [h, s] has 2H numbers.
        top_k: slots that take part in one read.
        write_every: steps between two writes.
        bptt_steps: length of a segment that plain backpropagation does not leave.
        capacity: slots of the memory.
        attention: "dot" or "mlp".
        attention_size: A; None is H.
        eviction: which slot a write takes when all are filled; see `SABStream`.
        write: "novel" or "every"; see `SABStream`.
        novelty: see `SABStream`. Smaller than there: what an agent must remember, such as its own first action, may be
            a small part of what it sees.
        credit_depth: links that credit follows from slot to slot: 0 for none, None for all.
        seed: of the reservoir.

    Raises:
        TypeError: a size is not an int.
        ValueError: a setting is out of range, or `eviction` is "least_credited", whose credit comes too late here.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        top_k: int = 4,
        write_every: int = 1,
        bptt_steps: int = 8,
        capacity: int = 64,
        attention: Literal["mlp", "dot"] = "dot",
        attention_size: int | None = 32,
        eviction: Eviction = "least_used",
        write: Write = "novel",
        novelty: float = 0.3,
        credit_depth: int | None = 1,
        seed: int = 0,
    ) -> None:
        if eviction == "least_credited":
            raise ValueError(
                "SabRolloutCore: eviction must go by what is known while a rollout is collected, but is "
                '"least_credited": credit comes after it. Use "least_used".'
            )
        super().__init__(
            SAB(
                input_size,
                hidden_size,
                top_k=top_k,
                write_every=write_every,
                bptt_steps=bptt_steps,
                capacity=capacity,
                attention=attention,
                attention_size=attention_size,
            )
        )
        self.core: SAB
        self.rules: dict[str, Any] = {"eviction": eviction, "write": write, "novelty": novelty, "seed": seed}
        self.credit_depth = credit_depth
        self._writer = SlotWriter(eviction, write, novelty, write_every, seed)
        self._generator = torch.Generator().manual_seed(seed)
        self._stream = SABStream(self.core, credit_depth=credit_depth, **self.rules)

    @property
    def stream(self) -> SABStream:
        """The streams that are collected from."""
        return self._stream

    def initial_state(self, rows: int) -> ActingState:
        """Empty memories."""
        return ActingState.initial(self.core, rows)

    def act(self, x: Tensor, state: ActingState) -> tuple[Tensor, ActingState]:
        """See `RolloutCore.act`."""
        return act(self.core, self._writer, self._stream.decay, x, state, self._generator)

    def begin(self, rows: int, encoder: nn.Module | None, observation_size: int) -> None:
        """See `RolloutCore.begin`."""
        self._stream = SABStream(
            self.core,
            rows,
            encoder=encoder,
            observation_shape=(observation_size,),
            credit_depth=self.credit_depth,
            **self.rules,
        )

    def step(self, observation: Tensor, x: Tensor, start: Tensor) -> Tensor:
        """See `RolloutCore.step`."""
        return self._stream.step(observation, start, x)

    def peek(self, observation: Tensor, x: Tensor, start: Tensor) -> Tensor:
        """See `RolloutCore.peek`."""
        return self._stream.propose(observation, start, x).output

    def close(self) -> ClosedWindow:
        """See `RolloutCore.close`."""
        return self._stream.close()

    def discard(self) -> None:
        """See `RolloutCore.discard`: the steps still become contexts of the slots that they wrote."""
        self._stream.advance()

    def joined(self, segments: Sequence[ClosedWindow]) -> ClosedWindow:
        """See `RolloutCore.joined`."""
        return ClosedWindow.joined(segments)

    def carried(self) -> dict[str, Tensor]:
        """The streams."""
        return {**self._stream.state_dict(), "acting": self._generator.get_state()}

    def restore(self, carried: dict[str, Tensor]) -> None:
        """Takes back what `carried` gave."""
        self._generator.set_state(carried["acting"].cpu())
        self._stream.load_state_dict({name: value for name, value in carried.items() if name != "acting"})


class PlainSegments:
    """Segments of a core without slots; see `Segments`.

    Args:
        core: the network.
        before: its state before each row, R rows.
        start: (T, R) bool, episode starts.
    """

    def __init__(self, core: Core[Any], before: State, start: Tensor) -> None:
        self.core, self.before, self.start = core, before, start

    def run(self, rows: Tensor, x: Tensor) -> WindowRun:
        """See `Segments.run`."""
        with torch.enable_grad():
            output: Tensor = self.core(x, self.before.chosen(rows), self.start[:, rows])[0]
        return graph_run(output)

    def credit(self) -> None:
        """Nothing is known of the past but the state, through which no gradient is sent."""


class LstmSegments(PlainSegments):
    """Segments of an LSTM, run again without a graph where compiled code can."""

    core: LSTM
    before: LSTMState

    def __init__(self, core: Core[Any], before: State, start: Tensor) -> None:
        super().__init__(core, before, start)
        self._layouts: dict[tuple[int, ...], Layout | None] = {}  # by rows, which come in every epoch

    def run(self, rows: Tensor, x: Tensor) -> WindowRun:
        """See `Segments.run`."""
        if x.requires_grad or kernel_in_use(x.device, x.dtype) != "native":
            return super().run(rows, x)
        start, before, inputs = self.start.index_select(1, rows), self.before.chosen(rows), x.contiguous()
        laid = self._layout_of(rows, start)
        if laid is not None:
            inputs, start = laid.laid(x), laid.start
            before = LSTMState(*(laid.begun(part) for part in before.tensors()))
        found = self.core.run(inputs, before, start)
        return super().run(rows, x) if found is None else _laid_run(*found, laid)

    def _layout_of(self, rows: Tensor, start: Tensor) -> Layout | None:
        chosen = tuple(rows.tolist())
        if chosen not in self._layouts:
            self._layouts[chosen] = layout(start)
        return self._layouts[chosen]


def _laid_run(run: Run, output: Tensor, laid: Layout | None) -> WindowRun:
    """The run with its outputs and their gradient as they were before they were laid anew."""

    def backward(gradient: Tensor) -> None:
        lying = gradient.contiguous() if laid is None else laid.laid(gradient)
        run.backward(lying.data_ptr(), 0, lying.shape[2], None)

    output = output[..., : output.shape[2] // 2]
    return WindowRun(output if laid is None else laid.given(output), backward)


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

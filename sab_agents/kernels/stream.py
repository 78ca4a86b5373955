"""The steps and windows of streams through a SAB: the contract, and the kernels that fulfil it.

A kernel holds what B rows carry and remember, in tensors that its steps change in place.

Dimensions: T steps of a window, B rows, I input size, H hidden size, S slots, R = K + 1 slots that a step touches, M
pieces that are replayed, U memories that a piece reads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor

from sab_agents.kernels.backend import NATIVE, all_finite, forced_way, kernel_in_use
from sab_agents.kernels.binding import Binding, are_leaves
from sab_agents.kernels.native_backend import extension
from sab_agents.kernels.native_backend.pieces import Pieces as NativePieces
from sab_agents.kernels.native_backend.segment import CompiledSegment
from sab_agents.kernels.native_backend.stream import CompiledStream
from sab_agents.kernels.scan import Replay, native_replay, replay, scan
from sab_agents.kernels.stream_types import Contexts, PieceInputs, StreamRules, StreamState, StreamStep, WindowRecord
from sab_agents.kernels.torch_backend import stream as plain
from sab_agents.kernels.torch_backend.contexts import remember
from sab_agents.kernels.types import ScanPlan, StepWeights


class Pieces(Protocol):
    """The pieces that a gradient of the memory leads to, with the rows (M,) and places (M,) where they lie."""

    @property
    def count(self) -> int:
        """M."""

    @property
    def row(self) -> Tensor:
        """(M,) int64."""

    @property
    def place(self) -> Tensor:
        """(M,) int64."""

    def gather(self, gradient: Tensor) -> PieceInputs:
        """Returns what the pieces are replayed with; what it takes of `gradient` (B, S, H) is zeroed."""


class StreamKernel(ABC):
    """What B rows carry and remember.

    Args:
        rules: of the stream.
        state: what is carried.
        contexts: of its memory.
        kept: (B, S) bool, slots that hold what they held before the window.
    """

    def __init__(self, rules: StreamRules, state: StreamState, contexts: Contexts, kept: Tensor) -> None:
        self.rules, self.state, self.contexts, self.kept = rules, state, contexts, kept
        self._last: Replay | None = None
        self._last_memory = state.memory
        self._way = forced_way()

    @property
    def current(self) -> bool:
        """Whether `SAB_KERNEL` is what it was when this kernel was made."""
        return self._way == forced_way()

    @abstractmethod
    def peek(self, weights: StepWeights, x: Tensor, start: Tensor | None) -> StreamStep:
        """Computes the next step and changes nothing.

        Args:
            weights: of the network.
            x: (B, I) inputs.
            start: (B,) bool, episode starts, or None for none.

        Raises:
            ValueError: x is not finite.
        """

    @abstractmethod
    def take(
        self, step: StreamStep, observation: Tensor, start: Tensor | None, record: WindowRecord, time: int
    ) -> None:
        """Takes the step that `peek` computed last.

        Args:
            step: what it computed.
            observation: (B, …) what was observed.
            start: as it was passed to `peek`.
            record: (T, B, …) with T above `time`, gets what is recorded of the step.
            time: the step's place in it.
        """

    @abstractmethod
    def take_steps(self, weights: StepWeights, x: Tensor, start: Tensor, record: WindowRecord, time: int) -> None:
        """Does what `peek` and `take` do for the inputs x (n, B, I) with episode starts (n, B), one after the other."""

    @abstractmethod
    def act(self, weights: StepWeights, x: Tensor, state: StreamState) -> tuple[Tensor, StreamState]:
        """Takes one step of any number of rows apart from the stream.

        Args:
            weights: of the network.
            x: (b, I) inputs.
            state: of the rows, reset where an episode starts; it stays as it is.

        Returns:
            (b, 2H) outputs and the state after the step.
        """

    @abstractmethod
    def replay(
        self, weights: StepWeights, record: WindowRecord, steps: int, before: StreamState, memory: Tensor
    ) -> Replay:
        """Replays a window whose observations are the inputs.

        Args:
            weights: of the network.
            record: (T, B, …), of which `steps` are there. It must stay as it is until the gradient was taken.
            steps: of the window.
            before: the state before it.
            memory: (B, S, H) of that state; its gradient is left in `memory.grad` if it requires it.
        """

    @abstractmethod
    def advance(self, record: WindowRecord, steps: int, memory: Tensor) -> None:
        """Ends a window: its pieces become contexts of the slots that it wrote.

        Args:
            record: (T, B, …), of which `steps` are there.
            steps: of the window.
            memory: (B, S, H) before the window.
        """

    @abstractmethod
    def select(self, gradient: Tensor, filled: Tensor, written_at: Tensor, norm: Tensor, *, newest: bool) -> Pieces:
        """Finds the pieces that wrote the slots which a gradient reached.

        Args:
            gradient: (B, S, H) of the memory.
            filled: (B, S) slots that hold something; others are passed over.
            written_at: (B, S) 0-based steps.
            norm: (B, S), to which the norms of the gradient are added.
            newest: of each row take only the piece that wrote the newest of these slots.
        """

    @abstractmethod
    def replay_pieces(self, weights: StepWeights, pieces: Pieces, gradient: Tensor, *, onward: bool) -> Tensor | None:
        """Replays the pieces that `select` found, whose observations are the inputs; adds to the weights' `.grad`.

        Args:
            weights: of the network.
            pieces: to be replayed.
            gradient: (B, S, H) of the memory; what is taken of it is zeroed.
            onward: whether the gradient of the memories that the pieces read is wanted.

        Returns:
            (M, U, H) that gradient; None unless `onward`.
        """

    def step_and_replay(
        self,
        weights: StepWeights,
        x: Tensor,
        start: Tensor | None,
        record: WindowRecord,
        time: int,
        before: StreamState,
        depth: int | None,
    ) -> Tensor:
        """Takes a step whose observation is the input, and replays the window.

        Args:
            weights: of the network.
            x: (B, I).
            start: (B,) bool, or None.
            record: (T, B, …) with T above `time`.
            time: the step's place in the window.
            before: the state before the window.
            depth: links that credit follows; see `backward_last`.

        Returns:
            (B, 2H) the last output of the replay.
        """
        self.take(self.peek(weights, x, start), x, start, record, time)
        self._last_memory = before.memory.detach().requires_grad_(depth != 0)
        self._last = self.replay(weights, record, time + 1, before, self._last_memory)
        return self._last.outputs[-1]

    def backward_last(self, gradient: Tensor) -> Tensor | None:
        """Backpropagates from the last output of `step_and_replay`.

        Args:
            gradient: (B, 2H) of that output.

        Returns:
            (B, S, H) the gradient of the memory before the window, which is yet to be credited; None for none.
        """
        assert self._last is not None, "backward before the first step"
        whole = torch.zeros_like(self._last.outputs)
        whole[-1] = gradient
        self._last.backward(whole)
        return self._last_memory.grad

    @abstractmethod
    def changed(self) -> None:
        """Must be called when the memory was changed by others."""

    def plan(self, record: WindowRecord, steps: int, before: StreamState) -> ScanPlan:
        """Returns the plan of a window's scan, independent of `record`."""
        return ScanPlan(
            start=record.start[:steps].clone(),
            cut=record.cut[:steps].clone(),
            write_slot=record.write_slot[:steps].clone(),
            filled=before.filled,
            slots=before.memory.shape[1],
            reading=self.rules.reading,
            step=before.step,
            written_at=before.written_at,
        )


class TorchStream(StreamKernel):
    """The kernel for any device and dtype; see `StreamKernel`."""

    @torch.no_grad()
    def peek(self, weights: StepWeights, x: Tensor, start: Tensor | None) -> StreamStep:
        """Computes the next step."""
        if not all_finite(x):
            raise ValueError("SABStream.step: observation must be finite, but holds NaN or infinity. Clean it first.")
        return plain.computed(weights, self.rules, x, self._begun(start))

    @torch.no_grad()
    def take(
        self, step: StreamStep, observation: Tensor, start: Tensor | None, record: WindowRecord, time: int
    ) -> None:
        """Takes a step."""
        state, rules = self._begun(start), self.rules
        after, write_slot = plain.taken(step, state, rules)
        recorded = WindowRecord(
            observation=observation,
            start=torch.zeros_like(state.filled[:, 0]) if start is None else start,
            cut=(after.step - 1) % rules.bptt_steps == 0,
            step=after.step,
            h_before=state.h,
            c_before=state.c,
            h=after.h if step.stored is None else step.stored,
            read_slot=step.read_slot,
            read_step=state.written_at.gather(1, step.read_slot.clamp(min=0)),
            weight=step.weight,
            write_slot=write_slot,
        )
        for whole, each in zip(record, recorded, strict=True):
            whole[time] = each
        if start is not None:
            self.kept &= ~start.unsqueeze(1)
        self.kept &= write_slot.unsqueeze(1) != torch.arange(self.kept.shape[1], device=write_slot.device)
        for held, each in zip(self.state, after, strict=True):
            held.copy_(each)

    def take_steps(self, weights: StepWeights, x: Tensor, start: Tensor, record: WindowRecord, time: int) -> None:
        """Takes steps one after the other."""
        for t, (inputs, starts) in enumerate(zip(x, start, strict=True)):
            self.take(self.peek(weights, inputs, starts), inputs, starts, record, time + t)

    @torch.no_grad()
    def act(self, weights: StepWeights, x: Tensor, state: StreamState) -> tuple[Tensor, StreamState]:
        """Takes a step apart from the stream."""
        return plain.act(weights, self.rules, x, state)

    def replay(
        self, weights: StepWeights, record: WindowRecord, steps: int, before: StreamState, memory: Tensor
    ) -> Replay:
        """Replays a window."""
        x = record.observation[:steps].clone()
        return replay(weights, x, before.h, before.c, memory, self.plan(record, steps, before))

    @torch.no_grad()
    def advance(self, record: WindowRecord, steps: int, memory: Tensor) -> None:
        """Ends a window."""
        window = WindowRecord(*(each[:steps] for each in record))
        remember(self.contexts, window, memory, self.state.filled, self.kept)
        self.kept.copy_(self.state.filled)

    def select(self, gradient: Tensor, filled: Tensor, written_at: Tensor, norm: Tensor, *, newest: bool) -> Pieces:
        """Finds the pieces that a gradient leads to."""
        reached = gradient.norm(dim=2).masked_fill(~filled, 0)
        chosen = reached > 0
        if newest:
            # Links lead back in time only: with the newest piece first, each is replayed once.
            last = written_at.masked_fill(~chosen, -1).argmax(dim=1, keepdim=True)
            chosen &= self.contexts.piece == self.contexts.piece.gather(1, last)
        norm.add_(reached * chosen)
        return plain.TorchPieces(self.contexts, chosen, written_at)

    def replay_pieces(self, weights: StepWeights, pieces: Pieces, gradient: Tensor, *, onward: bool) -> Tensor | None:
        """Replays pieces."""
        inputs = pieces.gather(gradient)
        return replay_inputs(weights, self.rules, inputs, inputs.observation, onward=onward)

    def changed(self) -> None:
        """Does nothing: nothing is derived from the memory beforehand."""

    def _begun(self, start: Tensor | None) -> StreamState:
        return self.state if start is None or not bool(start.any()) else plain.emptied(self.state, start)


class NativeStream(StreamKernel):
    """The kernel for float32 on a CPU; see `StreamKernel`. Arguments that it does not take go to a `TorchStream`."""

    def __init__(self, rules: StreamRules, state: StreamState, contexts: Contexts, kept: Tensor) -> None:
        super().__init__(rules, state, contexts, kept)
        self._torch = TorchStream(rules, state, contexts, kept)
        self._code = CompiledStream(rules, state, contexts, kept)
        self._acting: CompiledStream | None = None
        self._segment: CompiledSegment | None = None
        self._segment_depth: int | None = 0
        self._binding: Binding | None = None
        self._steps_replayed = 0

    def peek(self, weights: StepWeights, x: Tensor, start: Tensor | None) -> StreamStep:
        """Computes the next step."""
        step = self._code.peek(weights, x, start)
        return self._torch.peek(weights, x, start) if step is None else step

    def take(
        self, step: StreamStep, observation: Tensor, start: Tensor | None, record: WindowRecord, time: int
    ) -> None:
        """Takes a step."""
        if self._code.made(step):
            self._code.take(step, observation.contiguous(), start, record, time)
        else:
            self._torch.take(step, observation, start, record, time)
            self.changed()

    def take_steps(self, weights: StepWeights, x: Tensor, start: Tensor, record: WindowRecord, time: int) -> None:
        """Takes steps one after the other."""
        if not self._code.take_steps(weights, x, start, record, time):
            self._torch.take_steps(weights, x, start, record, time)
            self.changed()

    def act(self, weights: StepWeights, x: Tensor, state: StreamState) -> tuple[Tensor, StreamState]:
        """Takes a step apart from the stream."""
        if self._acting is None or self._acting.rows != x.shape[0]:
            like = StreamState(*(each.new_empty(x.shape[0], *each.shape[1:]) for each in self.state))
            self._acting = CompiledStream(self.rules, like, None, torch.empty_like(like.filled))
        acted = self._acting.act(weights, x, state)
        return self._torch.act(weights, x, state) if acted is None else acted

    def replay(
        self, weights: StepWeights, record: WindowRecord, steps: int, before: StreamState, memory: Tensor
    ) -> Replay:
        """Replays a window."""
        found = self._code.replay(weights, record, steps, before) if are_leaves(*weights) else None
        if found is None:
            return self._torch.replay(weights, record, steps, before, memory)
        return native_replay(*found, memory)

    def advance(self, record: WindowRecord, steps: int, memory: Tensor) -> None:
        """Ends a window."""
        self._code.advance(record, steps, memory)

    def select(self, gradient: Tensor, filled: Tensor, written_at: Tensor, norm: Tensor, *, newest: bool) -> Pieces:
        """Finds the pieces that a gradient leads to."""
        return self._code.select(gradient, filled, written_at, norm, newest=newest)

    def replay_pieces(self, weights: StepWeights, pieces: Pieces, gradient: Tensor, *, onward: bool) -> Tensor | None:
        """Replays pieces."""
        if isinstance(pieces, NativePieces) and are_leaves(*weights):
            sent = gradient.new_empty(pieces.count, self._code.shape.union, gradient.shape[2]) if onward else None
            if self._code.replay_pieces(weights, pieces, gradient, sent):
                return sent
        return self._torch.replay_pieces(weights, pieces, gradient, onward=onward)

    def step_and_replay(
        self,
        weights: StepWeights,
        x: Tensor,
        start: Tensor | None,
        record: WindowRecord,
        time: int,
        before: StreamState,
        depth: int | None,
    ) -> Tensor:
        """Takes a step and replays the window, in one call for one row."""
        code = self._bound_segment(weights, depth)
        if code is None:
            return super().step_and_replay(weights, x, start, record, time, before, depth)
        code.enter(record, before)
        output = code.step(time, x, start)
        if output is None:
            return super().step_and_replay(weights, x, start, record, time, before, depth)
        self._last, self._steps_replayed = None, time + 1
        return output

    def backward_last(self, gradient: Tensor) -> Tensor | None:
        """Backpropagates from the last output."""
        if self._last is not None or self._segment is None:
            return super().backward_last(gradient)
        return self._segment.backward(self._steps_replayed, gradient)

    def changed(self) -> None:
        """Must be called when the memory was changed by others."""
        self._code.forget()

    def _bound_segment(self, weights: StepWeights, depth: int | None) -> CompiledSegment | None:
        """Returns the native segment for these weights and their gradients as they lie now; None if there is none."""
        if self.state.h.shape[0] != 1 or not are_leaves(*weights):
            return None
        if self._binding is None or not self._binding.holds(weights) or self._segment_depth != depth:
            self._binding, self._segment_depth = Binding(weights), depth
            self._segment = CompiledSegment.bound(self._code, weights, credits=depth == 1)
        return self._segment


def replay_inputs(
    weights: StepWeights, rules: StreamRules, inputs: PieceInputs, x: Tensor, *, onward: bool
) -> Tensor | None:
    """Replays pieces from inputs x (T, M, I) with a graph, see `StreamKernel.replay_pieces`."""
    memory = inputs.value.requires_grad_(onward)
    plan = ScanPlan(
        start=inputs.start,
        cut=inputs.cut,
        write_slot=inputs.target,
        filled=inputs.used,
        slots=memory.shape[1] + inputs.target.shape[0],
        reading=rules.reading,
        step=inputs.step,
        written_at=inputs.written_at,
    )
    with torch.enable_grad():
        stored = scan(weights, x, inputs.h, inputs.c, memory, plan).stored
    if stored.requires_grad:
        torch.autograd.backward(stored, inputs.grad_stored)
    return memory.grad


def stream_kernel(rules: StreamRules, state: StreamState, contexts: Contexts, kept: Tensor) -> StreamKernel:
    """Returns the kernel for these tensors; arguments as for `StreamKernel`."""
    native = kernel_in_use(state.h.device, state.h.dtype) == NATIVE and rules.reading.score in extension.SCORES
    return (NativeStream if native else TorchStream)(rules, state, contexts, kept)

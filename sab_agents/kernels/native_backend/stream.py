"""A stream's steps, windows and replays with the native kernel, for float32 on the CPU: what it holds changes in place.

Dimensions: T steps of a window, B rows, I input size, H hidden size, A attention size, S slots, R = K + 1 slots that a
step touches, L = bptt_steps, U = L·R, M pieces that are replayed.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from sab_agents.kernels.native_backend.extension import FLAG, REAL, WHOLE, fits, native, new_empty, threads
from sab_agents.kernels.native_backend.run import Given, Run
from sab_agents.kernels.native_backend.step import state_fits, weights_fit
from sab_agents.kernels.native_backend.tape import Array, Sizes
from sab_agents.kernels.types import StepState, StepWeights, StreamStep, WindowRecord


class ContextTensors(NamedTuple):
    """The tensors of `sab_agents.streaming.contexts.Contexts`, in their order, where their shapes stand."""

    piece: Tensor
    offset: Tensor
    observation: Tensor
    h: Tensor
    c: Tensor
    value: Tensor
    used: Tensor
    slot: Tensor
    written_at: Tensor
    target: Tensor


class CompiledStream:
    """What a stream holds, checked once, so that no step needs to check it again; make it with `bound`.

    Its tensors must stay where they are.

    Args:
        state: of the stream.
        contexts: the tensors of `Contexts`, in their order.
        statistics: usage and credit, (B, S) each.
        reads: R.
        write_every: steps between two writes.
        bptt_steps: L.
        gain: of s in h.
    """

    def __init__(
        self,
        state: StepState,
        contexts: tuple[Tensor, ...],
        statistics: tuple[Tensor, Tensor],
        reads: int,
        write_every: int,
        bptt_steps: int,
        gain: float,
    ) -> None:
        self.state, self.contexts, self.statistics = state, ContextTensors(*contexts), statistics
        self.rows, self.slots, self.size = B, S, H = state.memory.shape
        self.observed = prod(self.contexts.observation.shape[3:])  # elements of one row's observation
        self.reads, self.write_every, self.bptt_steps, self.gain = reads, write_every, bptt_steps, gain
        self._c, self._weight = new_empty(B, H), new_empty(B, reads)
        self._read_slot = new_empty(B, reads, dtype=WHOLE)
        self._novel = new_empty(B, dtype=FLAG)
        self._output = new_empty(B, 2 * H)  # of steps whose output is not returned
        self._known_weights: list[int] = []
        self._inputs = self._attention = self._work = 0
        self._recorded: WindowRecord | None = None
        self._step = native.Step(
            rows=B,
            size=H,
            slots=S,
            reads=reads,
            write_every=write_every,
            gain=gain,
            state=state,
            new_c=self._c,
            new_state=None,
            read_slot=self._read_slot,
            weight=self._weight,
        )
        self._take = native.Take(
            rows=B,
            size=H,
            slots=S,
            reads=reads,
            write_every=write_every,
            bptt_steps=bptt_steps,
            bytes=4 * self.observed,
            new_c=self._c,
            read_slot=self._read_slot,
            weight=self._weight,
            state=state,
        )
        self._steps = native.TakeSteps(step=self._step, take=self._take)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """A copy of a stream is bound to nothing: these tensors are those of the stream that it was copied from."""
        return type(None), ()

    @classmethod
    def bound(
        cls,
        state: StepState,
        contexts: tuple[Tensor, ...],
        statistics: tuple[Tensor, Tensor],
        reads: int,
        write_every: int,
        bptt_steps: int,
        gain: float,
    ) -> Self | None:
        """Returns one for these tensors; None if the native kernel cannot take one of them."""
        if state.memory.dim() != 3 or len(contexts[2].shape) < 3:
            return None
        (B, S, H), L, U = state.memory.shape, bptt_steps, bptt_steps * reads
        observation = (B, S, L, *contexts[2].shape[3:])
        shapes = ((B, S), (B, S), observation, (B, S, H), (B, S, H), (B, S, U, H), *[(B, S, U)] * 3, (B, S, L))
        dtypes = (WHOLE, WHOLE, REAL, REAL, REAL, REAL, FLAG, WHOLE, WHOLE, WHOLE)
        if not (
            state_fits(state, B, S, H)
            and all(fits(*each) for each in zip(contexts, shapes, dtypes, strict=True))
            and all(fits(each, (B, S), REAL) for each in statistics)
        ):
            return None
        return cls(state, contexts, statistics, reads, write_every, bptt_steps, gain)

    def propose(
        self, weights: StepWeights, x: Tensor, start: Tensor | None, novelty: Tensor | None
    ) -> StreamStep | None:
        """Computes the next step and changes nothing; returns None if the native kernel cannot take an argument.

        Args:
            weights: of the network.
            x: (B, I) inputs.
            start: (B,) bool, episode starts; None if there are none.
            novelty: one float, or None if it does not matter what is novel.
        """
        if not self._takes(weights):
            return None
        if not fits(x, (self.rows, self._inputs), REAL) or not (start is None or fits(start, (self.rows,), FLAG)):
            return None
        output = torch.empty_like(self._output)
        self._set_step(x, start, output, novelty)
        if not self._step.run():
            return None
        return StreamStep(output, self._c, self._read_slot, self._weight, None if novelty is None else self._novel)

    def _set_step(self, x: Tensor, start: Tensor | None, output: Tensor, novelty: Tensor | None) -> None:
        step = self._step
        step.threads, step.x, step.start, step.output = threads(self._work), x, start, output
        step.novelty, step.novel = novelty, None if novelty is None else self._novel

    def take_steps(
        self,
        weights: StepWeights,
        x: Tensor,
        start: Tensor | None,
        novelty: Tensor | None,
        record: WindowRecord,
        time: int,
        *,
        order: Tensor,
        taken: Tensor,
    ) -> bool:
        """Does what `propose` and `take` do for one step after another; returns False where `propose` returns None.

        Args:
            weights: of the network.
            x: (n, B, I) inputs, which are the observations.
            start: (n, B) bool, episode starts; None if there are none.
            novelty: as in `propose`.
            record: (T, B, …) with T at least `time` + n.
            time: as in `take`.
            order: (B, at least n), as in `take`.
            taken: as in `take`.

        Raises:
            ValueError: an input is not finite or a slot is out of range; the steps before it have been taken.
        """
        n = len(x)
        if not self._takes(weights):
            return False
        if not fits(x, (n, self.rows, self._inputs), REAL) or not (start is None or fits(start, (n, self.rows), FLAG)):
            return False
        self._know(record, x.shape[1:])
        self._set_step(x, start, self._output, novelty)
        take = self._take
        take.width, take.time = order.shape[1], time
        take.observation, take.start, take.output = x, start, self._output
        take.novel, take.chosen, take.order, take.taken = self._step.novel, None, order, taken
        self._steps.count = n
        if self._steps.run() != n:
            raise ValueError(f"SABStream: inputs must be finite, and planned slots lie in 0 … {self.slots - 1}.")
        return True

    def _takes(self, weights: StepWeights) -> bool:
        """Returns whether the native kernel can take these weights, which are checked when they lie elsewhere."""
        lie = [0 if weight is None else weight.data_ptr() for weight in weights]
        if lie != self._known_weights:
            inputs, A, (B, S, H) = weights.weight_ih.shape[1], weights.query_bias.shape[0], self.state.memory.shape
            if not weights_fit(weights, inputs, H, A):
                return False
            self._known_weights, self._inputs, self._attention = lie, inputs, A
            self._work = B * H * (4 * (H + inputs) + S * A)
            step = self._step
            step.input, step.attention, step.projection, step.recurrence = inputs, A, weights, weights
        return True

    def made(self, step: StreamStep) -> bool:
        """Returns whether the step is one that `propose` computed."""
        return step.read_slot is self._read_slot

    def take(
        self,
        step: StreamStep,
        observation: Tensor,
        start: Tensor | None,
        record: WindowRecord,
        time: int,
        *,
        chosen: Tensor | None,
        order: Tensor,
        taken: Tensor,
    ) -> None:
        """Takes a step: changes the state, and records the step at place `time` of `record`.

        Args:
            step: what `propose` computed last.
            observation: (B, …) what was observed.
            start: as it was proposed.
            record: (T, B, …) with T above `time`.
            time: from 0.
            chosen: (B,) slots to write to, −1 for no write; None for those that `order` plans.
            order: (B, n) slots that the next n writes take.
            taken: (B,) how many of these are used; changed in place.

        Raises:
            ValueError: a slot is out of range. Nothing has changed.
        """
        self._know(record, observation.shape)
        take = self._take
        take.width, take.time = order.shape[1], time
        take.observation, take.start, take.output = observation, start, step.output
        take.novel, take.chosen, take.order, take.taken = step.novel, chosen, order, taken
        if not take.run():
            raise ValueError(f"SABStream: the slots that are planned must lie in 0 … {self.slots - 1}.")

    def run(
        self, weights: StepWeights, record: WindowRecord, steps: int, before: StepState, *, credit: bool
    ) -> tuple[Run, Tensor] | None:
        """Replays a window; returns None if the native kernel cannot take an argument.

        Args:
            weights: of the network.
            record: (T, B, …), of which `steps` are there; what was observed are the inputs.
            steps: of the window.
            before: the state before it.
            credit: whether gradient flows into the memories that are read.

        Returns:
            The run, and its outputs [h, s] (steps, B, 2H).
        """
        B, H, S = self.rows, self.size, self.slots
        if not self._takes(weights) or not state_fits(before, B, S, H):
            return None
        if record.observation.shape[2:] != (self._inputs,):
            return None
        self._know(record, record.observation.shape[1:])
        given = Given(
            x=record.observation,
            h=before.h,
            c=before.c,
            memory=before.memory,
            start=record.start,
            cut=record.cut,
            write_slot=record.write_slot,
            filled=before.filled,
        )
        sizes = Sizes(steps, B, self._inputs, H, self._attention, S, self.reads)
        output = new_empty(steps, B, 2 * H)
        return Run(weights, sizes, given, slots=S, credit=credit, gain=self.gain, output=output), output

    def advance(
        self, record: WindowRecord, steps: int, memory: Tensor, filled: Tensor, reached: Tensor, decay: Tensor
    ) -> None:
        """Ends a window: changes contexts and statistics.

        Args:
            record: (T, B, …), of which `steps` are there.
            steps: of the window.
            memory: (B, S, H) before the window.
            filled: (B, S) before the window.
            reached: (B, S) norms of the gradient that reached each slot.
            decay: one float64.

        Raises:
            ValueError: an index is out of range. Nothing has changed.
        """
        self._know(record, record.observation.shape[1:])
        B, S = self.rows, self.slots
        before = (memory, (B, S, self.size), REAL), (filled, (B, S), FLAG), (reached, (B, S), REAL)
        if not all(fits(*each) for each in before) or decay.dtype is not torch.float64:
            raise ValueError("SABStream.advance: the state before the window must have the shapes of the state.")
        usage, received = self.statistics
        done = native.Advance(
            rows=B,
            size=self.size,
            slots=S,
            reads=self.reads,
            bytes=4 * self.observed,
            length=steps,
            bptt_steps=self.bptt_steps,
            decay=decay,
            state=self.state,
            window=record,
            memory=memory,
            filled=filled,
            reached=reached,
            contexts=self.contexts,
            usage=usage,
            credit=received,
        ).run()
        if not done:
            raise ValueError(f"SABStream.advance: the window's slots must lie in -1 … {S - 1}, and be read after.")

    def select(self, gradient: Tensor, filled: Tensor, written_at: Tensor, norm: Tensor, *, newest: bool) -> Pieces:
        """Returns the pieces that wrote the slots which a gradient reached, and adds the norms of it to `norm`.

        Args:
            gradient: (B, S, H) of the memory.
            filled: (B, S) slots that hold something; others are passed over.
            written_at: (B, S) 0-based steps.
            norm: (B, S), changed in place.
            newest: of each row take only the piece that wrote the newest of these slots.

        Raises:
            ValueError: an index of the contexts is out of range.
        """
        B, S, H = gradient.shape
        checks = (gradient, (B, S, H), REAL), (filled, (B, S), FLAG), (written_at, (B, S), WHOLE), (norm, (B, S), REAL)
        if not all(fits(*each) for each in checks) or self.state.memory.shape != (B, S, H):
            raise ValueError(f"SABStream.credit: gradient must be float32 (B, S, H), but is {tuple(gradient.shape)}.")
        column = new_empty(B, S, dtype=WHOLE)
        row, place = new_empty(B * S, dtype=WHOLE), new_empty(B * S, dtype=WHOLE)
        select = native.Select(
            rows=B,
            size=H,
            slots=S,
            steps=self.bptt_steps,
            newest=newest,
            gradient=gradient,
            filled=filled,
            written_at=written_at,
            contexts=self.contexts,
            norm=norm,
            column=column,
            row=row,
            place=place,
        )
        count = select.run()
        if count < 0:
            raise ValueError("SABStream.credit: the contexts must name pieces and steps that are there.")
        return Pieces(self, count, select.steps_reached, column, row[:count], place[:count])

    def _know(self, record: WindowRecord, observed: torch.Size) -> None:
        """Checks a record once; from then on, steps are recorded there."""
        if record is not self._recorded:
            self._check_record(record, observed)
            self._take.window, self._recorded = record, record

    def _check_record(self, record: WindowRecord, observed: torch.Size) -> None:
        T, B, H, R = record.step.shape[0], self.rows, self.size, self.reads
        shapes = ((B,), (B,), (B,), (B, H), (B, H), (B, H), (B, R), (B, R), (B, R), (B,))
        dtypes = (FLAG, FLAG, WHOLE, REAL, REAL, REAL, WHOLE, WHOLE, REAL, WHOLE)
        found = all(fits(*each) for each in zip(record[1:], ((T, *shape) for shape in shapes), dtypes, strict=True))
        seen = (T, B, *self.contexts.observation.shape[3:])
        if not found or not fits(record.observation, seen, REAL) or observed != seen[1:]:
            raise ValueError(f"SABStream: a window must be recorded in tensors of {T} steps and {B} rows.")


class Replayed(NamedTuple):
    """What M pieces are replayed with.

    Attributes:
        observation: (L, M, …).
        h: (M, H) before the first step.
        c: (M, H) before the first step.
        value: (M, U, H) the memories that the pieces read.
        used: (M, U) bool, which of these are there.
        target: (L, M) int64, where each step writes.
        start: (L, M) bool, no episode starts.
        cut: (L, M) bool, the first steps alone.
        grad_hidden: (L, M, H) gradient of the h of each step.
    """

    observation: Array
    h: Array
    c: Array
    value: Array
    used: Array
    target: Array
    start: Array
    cut: Array
    grad_hidden: Array

    @classmethod
    def empty(cls, stream: CompiledStream, count: int) -> Self:
        """Returns room for M = `count` pieces, in three buffers."""
        M, L, U, H = count, stream.bptt_steps, stream.bptt_steps * stream.reads, stream.size
        observation, state, value, hidden = L * M * stream.observed, M * H, M * U * H, L * M * H
        reals = new_empty(observation + 2 * state + value + hidden)
        flags = new_empty(M * U + 2 * L * M, dtype=FLAG)
        return cls(
            observation=reals,
            h=(reals, observation),
            c=(reals, observation + state),
            value=(reals, observation + 2 * state),
            used=flags,
            target=new_empty(L * M, dtype=WHOLE),
            start=(flags, M * U),
            cut=(flags, M * U + L * M),
            grad_hidden=(reals, observation + 2 * state + value),
        )

    def gather(self, stream: CompiledStream, gradient: Tensor, selected: tuple[Tensor, Tensor, Tensor]) -> Any:
        """Returns the arguments that fill this in; the `count` of pieces must be set.

        Args:
            stream: that the pieces are of.
            gradient: (B, S, H) of the memory, which is zeroed where it is taken.
            selected: column (B, S), row (M,) and place (M,), as they were selected.
        """
        column, row, place = selected
        return native.Gather(
            rows=stream.rows,
            size=stream.size,
            slots=stream.slots,
            steps=stream.bptt_steps,
            reads=stream.reads,
            bytes=4 * stream.observed,
            gradient=gradient,
            column=column,
            row=row,
            place=place,
            contexts=stream.contexts,
            observation=self.observation,
            h=self.h,
            c=self.c,
            value=self.value,
            used=self.used,
            target=self.target,
            start=self.start,
            cut=self.cut,
            grad_hidden=self.grad_hidden,
        )

    def given(self) -> Given:
        """Returns what a replay by the network alone is given: its inputs are what was observed."""
        return Given(self.observation, self.h, self.c, self.value, self.start, self.cut, self.target, self.used)


class Pieces:
    """The pieces that a gradient of the memory leads to; `CompiledStream.select` makes it.

    Attributes:
        count: M.
        steps: T, the first of each that the gradient reaches.
        row: (M,) int64, rows.
        place: (M,) int64, places of the pieces.
    """

    def __init__(
        self, stream: CompiledStream, count: int, steps: int, column: Tensor, row: Tensor, place: Tensor
    ) -> None:
        self.count, self.steps, self.row, self.place = count, steps, row, place
        self._stream, self._column = stream, column

    def _gather(self, gradient: Tensor, replayed: Replayed) -> Replayed:
        arguments = replayed.gather(self._stream, gradient, (self._column, self.row, self.place))
        arguments.count = self.count
        arguments.run()
        return replayed

    def gather(self, gradient: Tensor) -> tuple[Tensor, ...]:
        """Returns what the pieces are replayed with; what it takes of `gradient` (B, S, H) is zeroed.

        Returns:
            observation (T, M, …), h (M, H), c (M, H), value (M, U, H), used (M, U), target (T, M), start (T, M),
            cut (T, M), and the gradient of the h of all steps (T, M, H).
        """
        stream, M, T = self._stream, self.count, self.steps
        L, U, H = stream.bptt_steps, stream.bptt_steps * stream.reads, stream.size
        observation = new_empty(L, M, *stream.contexts.observation.shape[3:])
        h, c, value, grad_hidden = new_empty(M, H), new_empty(M, H), new_empty(M, U, H), new_empty(L, M, H)
        used, target = new_empty(M, U, dtype=FLAG), new_empty(L, M, dtype=WHOLE)
        start, cut = new_empty(L, M, dtype=FLAG), new_empty(L, M, dtype=FLAG)
        self._gather(gradient, Replayed(observation, h, c, value, used, target, start, cut, grad_hidden))
        return observation[:T], h, c, value, used, target[:T], start[:T], cut[:T], grad_hidden[:T]

    def run_again(self, weights: StepWeights, gradient: Tensor, *, credit: bool, onward: bool) -> Tensor | None:
        """Replays the pieces and adds to the weights' `.grad`; what it takes of `gradient` is zeroed.

        Args:
            weights: of the network.
            gradient: (B, S, H) of the memory.
            credit: whether gradient flows into the memories that the pieces read.
            onward: whether that of the memories before the pieces is wanted.

        Returns:
            (M, U, H) that gradient, None unless `onward`.

        Raises:
            ValueError: a weight is not float32 on the CPU, or of the wrong shape.
        """
        stream = self._stream
        H, A, inputs = stream.size, weights.query_bias.shape[0], stream.contexts.observation.shape[3]
        if not weights_fit(weights, inputs, H, A):
            raise ValueError("SABStream.credit: the weights must be float32 on the CPU, as those of the steps taken.")
        M, L, U = self.count, stream.bptt_steps, stream.bptt_steps * stream.reads
        replayed = self._gather(gradient, Replayed.empty(stream, M))
        sizes = Sizes(self.steps, M, inputs, H, A, U, stream.reads)
        run = Run(weights, sizes, replayed.given(), slots=U + L, credit=credit, gain=stream.gain, output=None)
        sent = new_empty(M, U, H) if onward else None
        run.backward(replayed.grad_hidden, None, H, sent)
        return sent

"""A stream's steps, windows and replays with the native kernel, for float32 on the CPU: what it holds changes in place.

Dimensions: T steps of a window, B rows, I input size, H hidden size, A attention size, S slots, R = K + 1 slots that a
step touches, L = bptt_steps, U = L·R, M pieces that are replayed.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from sab_agents.kernels.native_backend.extension import FLAG, REAL, SCORES, WHOLE, fits, native, new_empty, threads
from sab_agents.kernels.native_backend.run import Given, Run
from sab_agents.kernels.native_backend.step import state_fits, weights_fit
from sab_agents.kernels.native_backend.tape import Array, Sizes
from sab_agents.kernels.types import (
    EVICTIONS,
    Contexts,
    PieceInputs,
    StepState,
    StepWeights,
    StreamRules,
    StreamState,
    StreamStep,
    WindowRecord,
)


class CompiledStream:
    """What a stream carries and remembers, with the arguments of its operations, of which a step changes a few.

    Args:
        rules: of the stream.
        state: what is carried, contiguous on the CPU, float32 where it is real, as all that follows.
        contexts: of its memory; None for steps that are taken apart from a stream, of which nothing is recorded.
        kept: (B, S) bool, slots that hold what they held before the window.
    """

    def __init__(self, rules: StreamRules, state: StreamState, contexts: Contexts | None, kept: Tensor) -> None:
        self.rules, self.state, self.kept = rules, state, kept
        self._contexts = contexts
        self.rows, self.slots, self.size = B, S, H = state.memory.shape
        # Elements of one row's observation that are recorded.
        self.observed = 0 if contexts is None else prod(contexts.observation.shape[3:])
        self.reads, self.bptt_steps = rules.reading.ranks, rules.bptt_steps
        self.limit = None if rules.novelty is None else new_empty(1).fill_(rules.novelty)
        self._distance = new_empty(B, S, S) if rules.eviction == "most_redundant" else None
        self._known = new_empty(1, dtype=WHOLE).zero_()
        self._c, self._weight = new_empty(B, H), new_empty(B, self.reads)
        self._read_slot = new_empty(B, self.reads, dtype=WHOLE)
        self._novel = None if self.limit is None else new_empty(B, dtype=FLAG)
        self._output = new_empty(B, 2 * H)  # of steps whose output is not returned
        self._known_weights: list[int] = []
        self._inputs = self._attention = self._work = 0
        self._recorded: WindowRecord | None = None
        self._step = self.step_arguments(self._c, self._read_slot, self._weight, self._novel)
        self._take = self.take_arguments(self._c, self._read_slot, self._weight, self._novel)
        self._steps = native.TakeSteps(step=self._step, take=self._take)

    def step_arguments(self, new_c: Tensor, read_slot: Tensor, weight: Tensor, novel: Tensor | None) -> Any:
        """Returns the arguments of `Step` that leave their results in these tensors; weights and x must be set."""
        return native.Step(
            rows=self.rows,
            size=self.size,
            slots=self.slots,
            reads=self.reads,
            write_every=self.rules.write_every,
            score=SCORES.index(self.rules.reading.score),
            gain=self.rules.reading.gain,
            state=self.state,
            new_c=new_c,
            new_state=None,
            read_slot=read_slot,
            weight=weight,
            novelty=self.limit,
            novel=novel,
        )

    def take_arguments(self, new_c: Tensor, read_slot: Tensor, weight: Tensor, novel: Tensor | None) -> Any:
        """Returns the arguments of `Take` for a step that left its results there; what was observed must be set."""
        return native.Take(
            rows=self.rows,
            size=self.size,
            slots=self.slots,
            reads=self.reads,
            write_every=self.rules.write_every,
            bptt_steps=self.bptt_steps,
            bytes=4 * self.observed,
            eviction=EVICTIONS.index(self.rules.eviction),
            seed=self.rules.seed,
            decay=self.rules.decay,
            distance=self._distance,
            known=self._known,
            new_c=new_c,
            read_slot=read_slot,
            weight=weight,
            novel=novel,
            kept=self.kept,
            state=self.state,
            window=None,
        )

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """A copy of a stream is bound to nothing: these tensors are those of the stream that it was copied from."""
        return type(None), ()

    @property
    def contexts(self) -> Contexts:
        """Of the memory."""
        assert self._contexts is not None
        return self._contexts

    def takes(self, weights: StepWeights, x: Tensor, start: Tensor | None) -> bool:
        """Returns whether the native kernel can take these weights, and x (…, B, I) with episode starts (…, B)."""
        lead = x.shape[:-1]
        return (
            self._takes(weights)
            and lead[-1:] == (self.rows,)
            and fits(x, (*lead, self._inputs), REAL)
            and (start is None or fits(start, lead, FLAG))
        )

    def peek(self, weights: StepWeights, x: Tensor, start: Tensor | None) -> StreamStep | None:
        """Computes the next step and changes nothing; returns None if the native kernel cannot take an argument.

        Args:
            weights: of the network.
            x: (B, I) inputs.
            start: (B,) bool, episode starts; None if there are none.
        """
        if not self.takes(weights, x, start):
            return None
        output = torch.empty_like(self._output)
        self._set_step(x, start, output)
        if not self._step.run():
            return None
        return StreamStep(output, self._c, self._read_slot, self._weight, self._novel)

    def _set_step(self, x: Tensor, start: Tensor | None, output: Tensor) -> None:
        step = self._step
        step.threads, step.x, step.start, step.output = threads(self._work), x, start, output

    def take_steps(
        self, weights: StepWeights, x: Tensor, start: Tensor | None, record: WindowRecord | None, time: int
    ) -> bool:
        """Does what `peek` and `take` do for one step after another; returns False where `peek` returns None.

        Args:
            weights: of the network.
            x: (n, B, I) inputs, which are the observations.
            start: (n, B) bool, episode starts; None if there are none.
            record: (T, B, …) with T at least `time` + n; None records nothing.
            time: as in `take`.

        Raises:
            ValueError: an input is not finite; the steps before it have been taken.
        """
        if not self.takes(weights, x, start):
            return False
        if record is not None:
            self._know(record, x.shape[1:])
        self._set_step(x, start, self._output)
        take = self._take
        take.time = time
        take.observation, take.start, take.output = x, start, self._output
        self._steps.count = len(x)
        if self._steps.run() != len(x):
            raise ValueError("SABStream: inputs must be finite, but hold NaN or infinity. Clean them first.")
        return True

    def act(self, weights: StepWeights, x: Tensor, state: StreamState) -> tuple[Tensor, StreamState] | None:
        """Takes one step from another state, in the tensors that this one carries, which must record nothing.

        Returns:
            (B, 2H) outputs and the state after the step; None if the native kernel cannot take an argument.

        Raises:
            ValueError: an input is not finite.
        """
        if not all(fits(each, held.shape, held.dtype) for each, held in zip(state, self.state, strict=True)):
            return None
        for held, each in zip(self.state, state, strict=True):
            held.copy_(each)
        self.forget()
        if not self.take_steps(weights, x.unsqueeze(0), None, None, 0):
            return None
        return self._output.clone(), StreamState(*(each.clone() for each in self.state))

    def forget(self) -> None:
        """Must be called when the memory was changed by others."""
        self._known.zero_()

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
        """Returns whether the step is one that `peek` computed."""
        return step.read_slot is self._read_slot

    def take(
        self, step: StreamStep, observation: Tensor, start: Tensor | None, record: WindowRecord, time: int
    ) -> None:
        """Takes a step: changes the state, and records the step at place `time` of `record`.

        Args:
            step: what `peek` computed last.
            observation: (B, …) what was observed.
            start: as it was passed to `peek`.
            record: (T, B, …) with T above `time`.
            time: from 0.

        Raises:
            ValueError: a slot is out of range. Nothing has changed.
        """
        self._know(record, observation.shape)
        take = self._take
        take.time = time
        take.observation, take.start, take.output = observation, start, step.output
        if not take.run():
            raise ValueError(f"SABStream: the slots that are read must lie in -1 … {self.slots - 1}.")

    def run(
        self, weights: StepWeights, record: WindowRecord, steps: int, before: StreamState
    ) -> tuple[Run, Tensor] | None:
        """Replays a window; returns None if the native kernel cannot take an argument.

        Args:
            weights: of the network.
            record: (T, B, …), of which `steps` are there; what was observed are the inputs.
            steps: of the window.
            before: the state before it.

        Returns:
            The run, and its outputs [h, s] (steps, B, 2H).
        """
        B, H, S = self.rows, self.size, self.slots
        if not self._takes(weights) or not state_fits(StepState(*before[:6]), B, S, H):
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
        return Run(weights, sizes, given, slots=S, reading=self.rules.reading, output=output), output

    def advance(self, record: WindowRecord, steps: int, memory: Tensor) -> None:
        """Ends a window: changes the contexts.

        Args:
            record: (T, B, …), of which `steps` are there.
            steps: of the window.
            memory: (B, S, H) before the window.

        Raises:
            ValueError: an index is out of range. Nothing has changed.
        """
        self._know(record, record.observation.shape[1:])
        B, S = self.rows, self.slots
        if not fits(memory, (B, S, self.size), REAL):
            raise ValueError("SABStream.advance: the memory before the window must have the shape of the memory.")
        done = native.Advance(
            rows=B,
            size=self.size,
            slots=S,
            reads=self.reads,
            bytes=4 * self.observed,
            length=steps,
            bptt_steps=self.bptt_steps,
            state=self.state,
            window=record,
            memory=memory,
            kept=self.kept,
            contexts=self.contexts,
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
            credit=None,
            kept=None,
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

    def gather(self, gradient: Tensor) -> PieceInputs:
        """Returns what the pieces are replayed with; what it takes of `gradient` (B, S, H) is zeroed."""
        stream, M, T = self._stream, self.count, self.steps
        L, U, H = stream.bptt_steps, stream.bptt_steps * stream.reads, stream.size
        observation = new_empty(L, M, *stream.contexts.observation.shape[3:])
        h, c, value, grad_hidden = new_empty(M, H), new_empty(M, H), new_empty(M, U, H), new_empty(L, M, H)
        used, target = new_empty(M, U, dtype=FLAG), new_empty(L, M, dtype=WHOLE)
        start, cut = new_empty(L, M, dtype=FLAG), new_empty(L, M, dtype=FLAG)
        self._gather(gradient, Replayed(observation, h, c, value, used, target, start, cut, grad_hidden))
        return PieceInputs(observation[:T], h, c, value, used, target[:T], start[:T], cut[:T], grad_hidden[:T])

    def replay(self, weights: StepWeights, gradient: Tensor, *, onward: bool) -> Tensor | None:
        """Replays the pieces and adds to the weights' `.grad`; what it takes of `gradient` is zeroed.

        Args:
            weights: of the network.
            gradient: (B, S, H) of the memory.
            onward: whether the gradient of the memories before the pieces is wanted.

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
        run = Run(weights, sizes, replayed.given(), slots=U + L, reading=stream.rules.reading, output=None)
        sent = new_empty(M, U, H) if onward else None
        run.backward(replayed.grad_hidden, None, H, sent)
        return sent

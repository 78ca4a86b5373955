"""A stream's steps and windows in compiled C++, for float32 on a CPU: what it holds is changed in place.

Dimensions: T steps of a window, B rows, I input size, H hidden size, A attention size, S slots, R = K + 1 slots that a
step touches, L = bptt_steps, U = L·R.
"""

from __future__ import annotations

from ctypes import addressof
from typing import Self

import torch
from torch import Tensor

from sab_agents.kernels.native_backend.extension import addresses, bits, native, new_empty, threads, whole_numbers
from sab_agents.kernels.native_backend.pieces import Pieces
from sab_agents.kernels.native_backend.run import Given, Run, RunSizes
from sab_agents.kernels.native_backend.step import FLAG, REAL, WHOLE, fits, state_fits, weights_fit
from sab_agents.kernels.types import StepState, StepWeights, StreamStep, WindowRecord

CHANGING = 0  # what is filled in elsewhere
# Where the parts of `TakeSteps` (src/arguments.h) begin, and in it what changes.
STEP, TAKE, END = 1, 37, 73
STEP_SIZES, STEP_INPUT, STEP_WEIGHTS = slice(STEP + 1, STEP + 5), STEP + 9, slice(STEP + 10, STEP + 18)
STEP_START, STEP_OUTPUT, STEP_NOVEL = STEP + 18, STEP + 25, slice(STEP + 34, STEP + 36)
TAKE_STEP, TAKE_WRITES = slice(TAKE + 6, TAKE + 12), slice(TAKE + 15, TAKE + 19)
TAKE_RECORD = slice(TAKE + 25, END)


class CompiledStream:
    """What a stream holds, checked once, so that each step need not check it again.

    Make it with `bound`. The addresses of its tensors are kept: they must stay where they are.

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
        self.state, self.contexts, self.statistics = state, contexts, statistics
        self.rows, self.slots, self.size = state.memory.shape
        self.reads, self.write_every, self.bptt_steps, self.gain = reads, write_every, bptt_steps, gain
        self._state = addresses(*state)
        self._c, self._weight = new_empty(self.rows, self.size), new_empty(self.rows, reads)
        self._read_slot = new_empty(self.rows, reads, dtype=WHOLE)
        self._novel = new_empty(self.rows, dtype=FLAG)
        self._output = new_empty(self.rows, 2 * self.size)  # of steps whose output nobody asks for
        self._flags = self._novel.data_ptr()
        self._known_weights: list[int] = []
        self._inputs = self._attention = self._work = 0
        self._record: list[int] = []
        self._recorded: WindowRecord | None = None
        self._fields = whole_numbers([CHANGING, *self._step_fields(), *self._take_fields()])
        first = addressof(self._fields)
        self._all_at = first, END
        self._step_at, self._take_at = (first + 8 * STEP, TAKE - STEP), (first + 8 * TAKE, END - TAKE)

    def _step_fields(self) -> list[int]:
        new_c, read_slot, weight = addresses(self._c, self._read_slot, self._weight)
        sizes = [1, self.rows, CHANGING, self.size, CHANGING, self.slots, self.reads, self.write_every, bits(self.gain)]
        results = [CHANGING, 0, new_c, 0, 0, 0, 0, read_slot, weight, CHANGING, CHANGING]
        return [*sizes, CHANGING, *[CHANGING] * 8, CHANGING, *self._state, *results]

    def _take_fields(self) -> list[int]:
        sizes = [self.rows, self.size, self.slots, self.reads, self.write_every, self.bptt_steps]
        step = [*[CHANGING] * 6, *addresses(self._c, self._read_slot, self._weight), *[CHANGING] * 4]
        return [*sizes, *step, *self._state, *[CHANGING] * 11]

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """A copy of a stream is bound to nothing: the addresses are those of the stream that it was made of."""
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
        """One for these tensors; None where one of them is not what the compiled code takes."""
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
        """Computes the next step and changes nothing; None where an argument is not what the compiled code takes.

        Args:
            weights: of the network.
            x: (B, I) inputs.
            start: (B,) bool, episode starts, or None for none.
            novelty: one number, or None where it does not matter what is novel.
        """
        found = addresses(*weights)
        if not self._takes(weights, found):
            return None
        if not fits(x, (self.rows, self._inputs), REAL) or not (start is None or fits(start, (self.rows,), FLAG)):
            return None
        output = torch.empty_like(self._output)
        self._say_step(x, start, output, novelty)
        if not native.step(*self._step_at):
            return None
        return StreamStep(output, self._c, self._read_slot, self._weight, None if novelty is None else self._novel)

    def _say_step(self, x: Tensor, start: Tensor | None, output: Tensor, novelty: Tensor | None) -> None:
        fields = self._fields
        fields[STEP] = threads(self._work)
        fields[STEP_INPUT] = x.data_ptr()
        fields[STEP_START] = 0 if start is None else start.data_ptr()
        fields[STEP_OUTPUT] = output.data_ptr()
        fields[STEP_NOVEL] = [0, 0] if novelty is None else [novelty.data_ptr(), self._flags]

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
        """Does what `propose` and `take` do for one step after another; False where `propose` would return None.

        Args:
            weights: of the network.
            x: (n, B, I) inputs, which are the observations.
            start: (n, B) bool, episode starts, or None for none.
            novelty: as in `propose`.
            record: (T, B, …) with T at least `time` + n.
            time: as in `take`.
            order: (B, at least n), as in `take`.
            taken: as in `take`.

        Raises:
            ValueError: an input is not finite or a slot is out of range; the steps before it have been taken.
        """
        found, n = addresses(*weights), len(x)
        if not self._takes(weights, found):
            return False
        if not fits(x, (n, self.rows, self._inputs), REAL) or not (start is None or fits(start, (n, self.rows), FLAG)):
            return False
        self._know(record, x[0])
        self._say_step(x, start, self._output, novelty)
        shown, began, output = addresses(x, start, self._output)
        fields = self._fields
        fields[0] = n
        fields[TAKE_STEP] = [x.nbytes // (n * self.rows), order.shape[1], time, shown, began, output]
        fields[TAKE_WRITES] = [0 if novelty is None else self._flags, 0, *addresses(order, taken)]
        if native.take_steps(*self._all_at) != n:
            raise ValueError(f"SABStream: inputs must be finite, and planned slots lie in 0 … {self.slots - 1}.")
        return True

    def _takes(self, weights: StepWeights, found: list[int]) -> bool:
        """Whether these weights, which lie at the addresses found, are what the compiled code takes."""
        if found != self._known_weights:
            inputs, A, (B, S, H) = weights.weight_ih.shape[1], weights.query_bias.shape[0], self.state.memory.shape
            if not weights_fit(weights, inputs, H, A):
                return False
            self._known_weights, self._inputs, self._attention = found, inputs, A
            self._work = B * H * (4 * (H + inputs) + S * A)
            self._fields[STEP_SIZES], self._fields[STEP_WEIGHTS] = [B, inputs, H, A], [*found]
        return True

    def made(self, step: StreamStep) -> bool:
        """Whether the step is one that `propose` computed."""
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
        """Takes a step: changes the state, and records it at place `time` of `record`.

        Args:
            step: what `propose` computed last.
            observation: (B, …) what was observed.
            start: as it was proposed.
            record: (T, B, …) with T above `time`.
            time: from 0.
            chosen: (B,) slots to write to, −1 for none; None for those that `order` plans.
            order: (B, n) slots that the next n writes take.
            taken: (B,) how many of these are used; counted on.

        Raises:
            ValueError: a slot is out of range. Nothing has changed.
        """
        self._know(record, observation)
        shown, began, output = addresses(observation, start, step.output)
        fields, novel = self._fields, 0 if step.novel is None else self._flags
        fields[TAKE_STEP] = [observation.nbytes // self.rows, order.shape[1], time, shown, began, output]
        fields[TAKE_WRITES] = [novel, *addresses(chosen, order, taken)]
        if not native.take(*self._take_at):
            raise ValueError(f"SABStream: the slots that are planned must lie in 0 … {self.slots - 1}.")

    def run(
        self, weights: StepWeights, record: WindowRecord, steps: int, before: StepState, *, credit: bool
    ) -> tuple[Run, Tensor] | None:
        """Runs a window again; None where an argument is not what the compiled code takes.

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
        if not self._takes(weights, addresses(*weights)) or not state_fits(before, B, S, H):
            return None
        if record.observation.shape[2:] != (self._inputs,):
            return None
        self._know(record, record.observation[0])
        x, start, cut, *_, write_slot = self._record
        h, c, memory, filled = addresses(before.h, before.c, before.memory, before.filled)
        given = Given(x, h, c, memory, start, cut, write_slot, filled)
        sizes = RunSizes(steps, B, self._inputs, H, self._attention, S, self.reads, S)
        output = new_empty(steps, B, 2 * H)
        return Run(weights, sizes, given, credit=credit, gain=self.gain, output=output, kept=(record, before)), output

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
        self._know(record, record.observation[0])
        B, S = self.rows, self.slots
        before = (memory, (B, S, self.size), REAL), (filled, (B, S), FLAG), (reached, (B, S), REAL)
        if not all(fits(*each) for each in before) or decay.dtype is not torch.float64:
            raise ValueError("SABStream.advance: the state before the window must have the shapes of the state.")
        done = native.advance(
            *(B, self.size, S, self.reads, record.observation[0].nbytes // B, steps, self.bptt_steps),
            *(decay.data_ptr(), *self._state, *self._record, *addresses(memory, filled, reached)),
            *addresses(*self.contexts, *self.statistics),
        )
        if not done:
            raise ValueError(f"SABStream.advance: the window's slots must lie in -1 … {S - 1}, and be read after.")

    def select(self, gradient: Tensor, filled: Tensor, written_at: Tensor, norm: Tensor, *, newest: bool) -> Pieces:
        """The pieces that wrote the slots which gradient (B, S, H) reached, and the norms of it added to `norm` (B, S).

        Args:
            gradient: of the memory.
            filled: (B, S) slots that hold something; others are passed over.
            written_at: (B, S) 0-based steps.
            norm: changed in place.
            newest: of each row take only the piece that wrote the newest of these slots.

        Raises:
            ValueError: an index of the contexts is out of range.
        """
        B, S, H = gradient.shape
        checks = (gradient, (B, S, H), REAL), (filled, (B, S), FLAG), (written_at, (B, S), WHOLE), (norm, (B, S), REAL)
        if not all(fits(*each) for each in checks) or self.state.memory.shape != (B, S, H):
            raise ValueError(f"SABStream.credit: gradient must be float32 (B, S, H), but is {tuple(gradient.shape)}.")
        contexts = self.contexts
        column, steps = new_empty(B, S, dtype=WHOLE), new_empty(1, dtype=WHOLE)
        row, place = new_empty(B * S, dtype=WHOLE), new_empty(B * S, dtype=WHOLE)
        count = native.select(
            *(B, H, S, contexts[9].shape[2], int(newest)),
            *addresses(gradient, filled, written_at, contexts[0], contexts[1], norm, column, row, place, steps),
        )
        if count < 0:
            raise ValueError("SABStream.credit: the contexts must name pieces and steps that are there.")
        return Pieces(count, int(steps), row[:count], place[:count], column, contexts, self.reads, self.gain)

    def _know(self, record: WindowRecord, observation: Tensor) -> None:
        """Checks a record once and keeps where its tensors lie."""
        if record is not self._recorded:
            self._check_record(record, observation)
            self._record, self._recorded = addresses(*record), record
            self._fields[TAKE_RECORD] = [*self._record]

    def _check_record(self, record: WindowRecord, observation: Tensor) -> None:
        T, B, H, R = record.step.shape[0], self.rows, self.size, self.reads
        shapes = ((B,), (B,), (B,), (B, H), (B, H), (B, H), (B, R), (B, R), (B, R), (B,))
        dtypes = (FLAG, FLAG, WHOLE, REAL, REAL, REAL, WHOLE, WHOLE, REAL, WHOLE)
        found = all(fits(*each) for each in zip(record[1:], ((T, *shape) for shape in shapes), dtypes, strict=True))
        seen = (T, B, *self.contexts[2].shape[3:])
        if not found or not fits(record.observation, seen, REAL) or observation.shape != seen[1:]:
            raise ValueError(f"SABStream: a window must be recorded in tensors of {T} steps and {B} rows.")

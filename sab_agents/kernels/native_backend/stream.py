"""A stream's steps, windows and replays with the native kernel, for float32 on the CPU: what it holds changes in place.

Dimensions: T steps of a window, B rows, I input size, H hidden size, A attention size, S slots, R = K + 1 slots that a
step touches, L = bptt_steps, U = L·R, M pieces that are replayed.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor

from sab_agents.kernels.binding import Binding
from sab_agents.kernels.native_backend.extension import FLAG, REAL, SCORES, WHOLE, fits, native, new_empty, threads
from sab_agents.kernels.native_backend.pieces import PieceReplays, Pieces, Selected, Shape
from sab_agents.kernels.native_backend.run import Given, Network, begin_with, state_fits, weights_fit
from sab_agents.kernels.native_backend.tape import Sizes, Space
from sab_agents.kernels.stream_types import EVICTIONS, Contexts, StreamRules, StreamState, StreamStep, WindowRecord
from sab_agents.kernels.types import StepState, StepWeights


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
        self._distance = new_empty(B, S, S) if rules.eviction in {"most_redundant", "least_useful"} else None
        self._known = new_empty(1, dtype=WHOLE).zero_()
        self._c, self._weight = new_empty(B, H), new_empty(B, self.reads)
        self._read_slot = new_empty(B, self.reads, dtype=WHOLE)
        self._near = None if self.limit is None else new_empty(B, dtype=WHOLE)
        self._stored = new_empty(B, H) if rules.reading.apart else None
        self._output = new_empty(B, 2 * H)  # of steps whose output is not returned
        self._known_weights: list[int] = []
        self._inputs = self._attention = self._work = 0
        self._recorded: WindowRecord | None = None
        self._bound: tuple[Binding, Network | None] | None = None
        self._replayed: WindowReplay | None = None
        self._pieces: PieceReplays | None = None
        self._step = self.step_arguments(self._c, self._read_slot, self._weight, self._stored, self._near)
        self._take = self.take_arguments(self._c, self._read_slot, self._weight, self._stored, self._near)
        self._steps = native.TakeSteps(step=self._step, take=self._take)

    def step_arguments(
        self, new_c: Tensor, read_slot: Tensor, weight: Tensor, stored: Tensor | None, near: Tensor | None
    ) -> Any:
        """Returns the arguments of `Step` that leave their results in these tensors; weights and x must be set."""
        return native.Step(
            rows=self.rows,
            size=self.size,
            slots=self.slots,
            reads=self.reads,
            write_every=self.rules.write_every,
            score=SCORES.index(self.rules.reading.score),
            gain=self.rules.reading.gain,
            floor=self.rules.reading.floor,
            sharpness=self.rules.reading.sharpness,
            age_scale=self.rules.reading.age_scale,
            apart=self.rules.reading.apart,
            state=self.state,
            new_c=new_c,
            new_state=None,
            read_slot=read_slot,
            weight=weight,
            stored=stored,
            novelty=self.limit,
            last=self.rules.last,
            near=near,
        )

    def take_arguments(
        self, new_c: Tensor, read_slot: Tensor, weight: Tensor, stored: Tensor | None, near: Tensor | None
    ) -> Any:
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
            refresh=self.rules.refresh,
            distance=self._distance,
            known=self._known,
            new_c=new_c,
            read_slot=read_slot,
            weight=weight,
            stored=stored,
            near=near,
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
        return StreamStep(output, self._c, self._read_slot, self._weight, self._stored, self._near)

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
        self._run_steps(len(x), x, start, time)
        return True

    def _run_steps(self, count: int, x: Tensor, start: Tensor | None, time: int) -> None:
        self._set_step(x, start, self._output)
        take = self._take
        take.time = time
        take.observation, take.start, take.output = x, start, self._output
        self._steps.count = count
        if self._steps.run() != count:
            raise ValueError("SABStream: inputs must be finite, but hold NaN or infinity. Clean them first.")

    def act(self, weights: StepWeights, x: Tensor, state: StreamState) -> tuple[Tensor, StreamState] | None:
        """Takes one step from another state, of which a copy becomes the one that this carries and records nothing of.

        Returns:
            (B, 2H) outputs and the state after the step; None if the native kernel cannot take an argument.

        Raises:
            ValueError: an input is not finite.
        """
        if not all(fits(each, held.shape, held.dtype) for each, held in zip(state, self.state, strict=True)):
            return None
        after = self.state = StreamState(*[each.clone() for each in state])
        self._step.state = self._take.state = after
        self.forget()
        if not self.takes(weights, x, None):
            return None
        self._run_steps(1, x, None, 0)
        return self._output.clone(), after

    def forget(self) -> None:
        """Must be called when the memory was changed by others."""
        if self._distance is not None:
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

    def network(self, weights: StepWeights) -> Network | None:
        """Returns the network of these leaves, with gradients as they lie now; None if it can't be taken natively."""
        bound = self._bound
        if bound is None or not bound[0].holds(weights):
            binding = Binding(weights)
            bound = self._bound = binding, Network.bound(weights, self.rules.reading)
            self._replayed = self._pieces = None  # which know where the other ones lay
        return bound[1]

    def replay(
        self, weights: StepWeights, record: WindowRecord, steps: int, before: StreamState
    ) -> tuple[WindowReplay, Tensor] | None:
        """Replays a window; returns None if the native kernel cannot take an argument.

        Args:
            weights: of the network, leaves.
            record: (T, B, …), of which `steps` are there; what was observed are the inputs.
            steps: of the window.
            before: the state before it.

        Returns:
            The replay, and its outputs [h, s] (steps, B, 2H).
        """
        network = self.network(weights)
        if network is None or not state_fits(StepState(*before[:6]), self.rows, self.slots, self.size):
            return None
        if record.observation.shape[2:] != network.sizes[:1]:
            return None
        self._know(record, record.observation.shape[1:])
        kept = self._replayed
        if kept is None or kept.record is not record or kept.waits:
            kept = self._replayed = WindowReplay(network, record, self.slots)
        return kept, kept.run(steps, before)

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
        selected = Selected.empty(B, S)
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
            column=selected.column,
            row=selected.row,
            place=selected.place,
        )
        count = select.run()
        if count < 0:
            raise ValueError("SABStream.credit: the contexts must name pieces and steps that are there.")
        return Pieces(self.shape, selected, count, select.steps_reached, written_at)

    @property
    def shape(self) -> Shape:
        """What the pieces of its contexts are like."""
        return Shape(self.contexts, self.observed, self.rows, self.slots, self.size, self.bptt_steps, self.reads)

    def replay_pieces(self, weights: StepWeights, pieces: Pieces, gradient: Tensor, sent: Tensor | None) -> bool:
        """Replays pieces whose observations are the inputs, and adds to the weights' `.grad`.

        Args:
            weights: of the network, leaves.
            pieces: that `select` found.
            gradient: (B, S, H) of the memory; what is taken of it is zeroed.
            sent: (M, U, H), gets the gradient of the memories that the pieces read; None if it is not wanted.

        Returns:
            Whether it was done: not if the native kernel cannot take a weight or its gradient.
        """
        network = self.network(weights)
        if network is None or self.contexts.observation.shape[3:] != network.sizes[:1]:
            return False
        if self._pieces is None:
            self._pieces = PieceReplays(self.shape, network, pieces.count)
        self._pieces.run(gradient, pieces.selected, pieces.count, pieces.steps, pieces.written_at, sent)
        return True

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


class WindowReplay:
    """The replay of a window, in room that is kept from one window to the next.

    Args:
        network: with the gradients that the replay adds to.
        record: (T, B, …) of the windows.
        slots: S.

    Attributes:
        record: the same.
        waits: whether the last window was replayed and not yet backpropagated, so that its tape is still needed.
    """

    def __init__(self, network: Network, record: WindowRecord, slots: int) -> None:
        self.record, self.waits = record, False
        inputs, H, A = network.sizes
        T, B, _ = record.read_slot.shape
        self._shape, self._age = (B, 2 * H), network.reading.age
        space = Space.of(Sizes.of(T, B, inputs, H, A, slots, network.reading))
        times = ((), ()) if self._age else (None, None)
        given = Given(
            record.observation, (), (), (), record.start, record.cut, record.write_slot, (), *times
        )  # the rest is of each window
        self._slots = slots
        self._forward = network.forward(space, given, slots=slots)
        self._backward = network.backward(
            space, given, grad_hidden=None, grad_summary=None, stride=2 * H, grad_memory=None
        )

    def run(self, steps: int, before: StreamState) -> Tensor:
        """Replays a window of `steps` steps after the state `before`; returns its outputs [h, s] (steps, B, 2H).

        Raises:
            ValueError: a slot is out of range.
        """
        forward, backward, output = self._forward, self._backward, new_empty(steps, *self._shape)
        forward.steps = backward.steps = steps
        begin_with(forward, backward, before, age=self._age)
        forward.outputs = output
        if not forward.run():
            raise ValueError(f"SABStream: the slots that steps write to must lie in -1 … {self._slots - 1}.")
        self.waits = True
        return output

    def backward(self, gradient: Tensor, memory: Tensor | None) -> None:
        """Adds to the gradients of the weights, once.

        Args:
            gradient: (steps, B, 2H) of the outputs, contiguous float32.
            memory: (B, S, H), gets the gradient of the memory before the window; None if it is not wanted.
        """
        backward = self._backward
        backward.grad_hidden, backward.grad_summary = gradient, (gradient, self._shape[1] // 2)
        backward.grad_memory = memory
        backward.run()
        self.waits = False

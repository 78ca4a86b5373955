"""The pieces of a stream's contexts that a gradient leads to, and their replays, in room that is kept between calls.

Dimensions: T steps that are replayed, B rows, I input size, H hidden size, S slots, R = K + 1 slots that a step
touches, L = bptt_steps, U = L·R, M pieces.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

from torch import Tensor

from sab_agents.kernels.native_backend.extension import FLAG, WHOLE, native, new_empty
from sab_agents.kernels.native_backend.run import Given, Network
from sab_agents.kernels.native_backend.tape import Array, Sizes, Space
from sab_agents.kernels.stream_types import Contexts, PieceInputs


class Shape(NamedTuple):
    """What pieces are like in one stream.

    Attributes:
        contexts: that they lie in.
        observed: elements of one row's observation.
        rows: B.
        slots: S.
        size: H.
        steps: L.
        reads: R.
    """

    contexts: Contexts
    observed: int
    rows: int
    slots: int
    size: int
    steps: int
    reads: int

    @property
    def union(self) -> int:
        """U."""
        return self.steps * self.reads


class Selected(NamedTuple):
    """Which pieces a gradient leads to; `Select` fills it in.

    Attributes:
        column: (B, S) int64, for each slot the number of its piece.
        row: (B · S,) int64, of each piece its row.
        place: (B · S,) int64, of each piece its place.
    """

    column: Tensor
    row: Tensor
    place: Tensor

    @classmethod
    def empty(cls, rows: int, slots: int) -> Self:
        """Returns room for the most pieces that there can be."""
        most = rows * slots
        return cls(*(new_empty(*shape, dtype=WHOLE) for shape in ((rows, slots), (most,), (most,))))


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
        grad_stored: (L, M, H) gradient of what each step stored.
        step: (M,) int64, steps of the episode before the first.
        written_at: (M, U) int64, when each memory was written.
    """

    observation: Array
    h: Array
    c: Array
    value: Array
    used: Array
    target: Array
    start: Array
    cut: Array
    grad_stored: Array
    step: Array
    written_at: Array

    @classmethod
    def empty(cls, of: Shape, count: int) -> Self:
        """Returns room for M = `count` pieces, in three buffers."""
        M, L, U, H = count, of.steps, of.union, of.size
        observation, state, value, hidden = L * M * of.observed, M * H, M * U * H, L * M * H
        reals = new_empty(observation + 2 * state + value + hidden)
        flags = new_empty(M * U + 2 * L * M, dtype=FLAG)
        wholes = new_empty(L * M + M + M * U, dtype=WHOLE)
        return cls(
            observation=reals,
            h=(reals, observation),
            c=(reals, observation + state),
            value=(reals, observation + 2 * state),
            used=flags,
            target=wholes,
            start=(flags, M * U),
            cut=(flags, M * U + L * M),
            grad_stored=(reals, observation + 2 * state + value),
            step=(wholes, L * M),
            written_at=(wholes, L * M + M),
        )

    def gather(self, of: Shape) -> Any:
        """Returns the arguments that fill this in; gradient, the selected pieces and their `count` must be set."""
        return native.Gather(
            rows=of.rows,
            size=of.size,
            slots=of.slots,
            steps=of.steps,
            reads=of.reads,
            bytes=4 * of.observed,
            contexts=of.contexts,
            observation=self.observation,
            h=self.h,
            c=self.c,
            value=self.value,
            used=self.used,
            target=self.target,
            start=self.start,
            cut=self.cut,
            step=self.step,
            written_at=self.written_at,
            grad_stored=self.grad_stored,
        )

    def given(self, *, age: bool) -> Given:
        """Returns what a replay by the network alone is given: its inputs are what was observed; with ages or not."""
        times = (self.step, self.written_at) if age else (None, None)
        return Given(self.observation, self.h, self.c, self.value, self.start, self.cut, self.target, self.used, *times)


class Pieces:
    """The pieces that a gradient of the memory leads to.

    Attributes:
        count: M.
        steps: T, the first of each that the gradient reaches.
        row: (M,) int64, rows.
        place: (M,) int64, places of the pieces.
        selected: as they were selected.
        written_at: (B, S) int64, 0-based step of the episode at which each slot was written.
    """

    def __init__(self, shape: Shape, selected: Selected, count: int, steps: int, written_at: Tensor) -> None:
        self.count, self.steps, self.selected, self._shape = count, steps, selected, shape
        self.written_at = written_at
        self.row, self.place = selected.row[:count], selected.place[:count]

    def gather(self, gradient: Tensor) -> PieceInputs:
        """Returns what the pieces are replayed with; what it takes of `gradient` (B, S, H) is zeroed."""
        of, M, T = self._shape, self.count, self.steps
        L, U, H = of.steps, of.union, of.size
        observation = new_empty(L, M, *of.contexts.observation.shape[3:])
        h, c, value, grad_stored = new_empty(M, H), new_empty(M, H), new_empty(M, U, H), new_empty(L, M, H)
        step, written_at = new_empty(M, dtype=WHOLE), new_empty(M, U, dtype=WHOLE)
        used, target = new_empty(M, U, dtype=FLAG), new_empty(L, M, dtype=WHOLE)
        start, cut = new_empty(L, M, dtype=FLAG), new_empty(L, M, dtype=FLAG)
        room = Replayed(observation, h, c, value, used, target, start, cut, grad_stored, step, written_at)
        gather = room.gather(of)
        gather.gradient, gather.count = gradient, M
        gather.column, gather.row, gather.place = self.selected
        gather.slot_written_at = self.written_at
        gather.run()
        return PieceInputs(
            observation[:T], h, c, value, used, target[:T], start[:T], cut[:T], grad_stored[:T], step, written_at
        )


class PieceReplays:
    """Replays of pieces whose observations are the inputs; their room grows with the most that there were at once.

    Args:
        shape: of the pieces.
        network: by which they are replayed.
        count: pieces that there is room for at first.
    """

    def __init__(self, shape: Shape, network: Network, count: int) -> None:
        self._shape, self._network = shape, network
        self._make_room(count)

    def _make_room(self, count: int) -> None:
        of, (inputs, H, A) = self._shape, self._network.sizes
        self.capacity = M = min(count, of.rows * of.slots)
        room = Replayed.empty(of, M)
        self._gather = room.gather(of)
        reading = self._network.reading
        space = Space.of(Sizes.of(of.steps, M, inputs, H, A, of.union, reading))
        given = room.given(age=reading.age)
        self._forward = self._network.forward(space, given, slots=of.union + of.steps)
        self._backward = self._network.backward(
            space,
            given,
            grad_hidden=None if reading.apart else room.grad_stored,
            grad_summary=None,
            grad_stored=room.grad_stored if reading.apart else None,
            stride=H,
            grad_memory=None,
        )

    def run(
        self,
        gradient: Tensor,
        selected: Selected,
        count: int,
        steps: int,
        written_at: Tensor,
        sent: Tensor | None,
    ) -> None:
        """Replays pieces, and adds to the gradients of the weights.

        Args:
            gradient: (B, S, H) of the memory; what is taken of it is zeroed.
            selected: the pieces.
            count: M.
            steps: T, the first of each piece that the gradient reaches.
            written_at: (B, S) int64, 0-based step of the episode at which each slot was written.
            sent: (M, U, H), gets the gradient of the memories that the pieces read; None if it is not wanted.

        Raises:
            ValueError: a place that a piece writes to is out of range.
        """
        if count > self.capacity:
            self._make_room(2 * count)
        gather, forward, backward = self._gather, self._forward, self._backward
        gather.gradient, gather.count = gradient, count
        gather.column, gather.row, gather.place = selected
        gather.slot_written_at = written_at
        forward.rows = backward.rows = count
        forward.steps = backward.steps = steps
        backward.grad_memory = sent
        gather.run()
        if not forward.run():
            raise ValueError("SABStream.credit: the contexts must name places of a replay's memory.")
        backward.run()

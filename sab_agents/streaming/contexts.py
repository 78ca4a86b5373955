"""What each slot must carry so that the steps that wrote it can be run again: the context of its piece.

A *piece* is a stretch of consecutive steps of one row and one episode that plain backpropagation does not leave: it
begins at a segment's start, an episode's start or a window's start. Slots that were written in one piece share it.

Dimensions: T steps of a window, B rows, N pieces of a window, M pieces that are stored, L = bptt_steps, the most steps
of a piece, R = K + 1 slots that a step touches, U = L·R, H hidden size, S slots. There are S places for pieces as well,
since each piece that is kept wrote at least one slot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from sab_agents.core.state import State


@dataclass(frozen=True)
class Record:
    """A window as it was run, step by step, without gradient.

    Attributes:
        observation: (T, B, …).
        start: (T, B) bool, episode starts.
        cut: (T, B) bool, segment starts.
        step: (T, B) int64, 1-based step of the episode.
        h_before: (T, B, H) hidden state before each step, zeros at an episode's start.
        c_before: (T, B, H) cell state before each step, zeros at an episode's start.
        h: (T, B, H) hidden state after each step.
        read_slot: (T, B, R) int64, slots that were scored best, −1 where there was none.
        read_step: (T, B, R) int64, 0-based step of the episode at which what they held was written.
        write_slot: (T, B) int64, −1 where nothing was written.
        memory: (B, S, H) the memory before the window.
    """

    observation: Tensor
    start: Tensor
    cut: Tensor
    step: Tensor
    h_before: Tensor
    c_before: Tensor
    h: Tensor
    read_slot: Tensor
    read_step: Tensor
    write_slot: Tensor
    memory: Tensor


@dataclass(frozen=True)
class Contexts(State):
    """The pieces that wrote the slots of a memory. Changed in place by `remember`; `clone` makes an independent copy.

    Attributes:
        piece: (B, S) int64, place of the piece that wrote each slot; meaningless where the slot is empty.
        offset: (B, S) int64, step of that piece that wrote it, from 0.
        observation: (B, S, L, …) what the piece's steps observed; zeros after its last step.
        h: (B, S, H) hidden state before the piece's first step.
        c: (B, S, H) cell state before it.
        value: (B, S, U, H) the memories from before the piece that its steps read, each once.
        used: (B, S, U) bool, which of those U are there.
        slot: (B, S, U) int64, the slot that each was read from.
        written_at: (B, S, U) int64, 0-based step of the episode at which each was written.
        target: (B, S, L) int64, where each step writes in a re-run's memory: one of the U, or U + its offset; −1 for
            no write.
    """

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

    @classmethod
    def empty(
        cls, like: Tensor, rows: int, slots: int, steps: int, reads: int, observation: tuple[int, ...], hidden_size: int
    ) -> Self:
        """Contexts of an empty memory, with the dtype and on the device of `like`."""
        union = steps * reads

        def whole(*shape: int) -> Tensor:
            return like.new_zeros(rows, slots, *shape, dtype=torch.int64)

        return cls(
            piece=whole(),
            offset=whole(),
            observation=like.new_zeros(rows, slots, steps, *observation),
            h=like.new_zeros(rows, slots, hidden_size),
            c=like.new_zeros(rows, slots, hidden_size),
            value=like.new_zeros(rows, slots, union, hidden_size),
            used=like.new_zeros(rows, slots, union, dtype=torch.bool),
            slot=whole(union),
            written_at=whole(union),
            target=whole(steps),
        )

    def remember(self, record: Record, filled: Tensor, kept: Tensor) -> None:
        """Takes up a window: stores the pieces that wrote a slot that is still held, over those no longer needed.

        Args:
            record: the window, step by step.
            filled: (B, S) bool, slots that hold something after the window.
            kept: (B, S) bool, slots among them that hold what they held before it.
        """
        pieces = _cut(record)
        newest = _newest_writes(record)
        fresh = filled & ~kept
        step = newest.clamp(min=0)
        number = pieces.number.t().gather(1, step)
        rows = torch.arange(filled.shape[0], device=filled.device)

        needed = _marked(number, fresh, pieces.first.shape[1])
        place = _free_places(_marked(self.piece, kept, filled.shape[1]), needed)
        row, index = needed.nonzero(as_tuple=True)
        found = _contents(record, pieces, row, index, steps=self.observation.shape[2])
        for name, value in found.items():
            getattr(self, name).index_put_((row, place[row, index]), value)

        self.piece.copy_(torch.where(fresh, place.gather(1, number), self.piece))
        self.offset.copy_(torch.where(fresh, step - pieces.first[rows.unsqueeze(1), number], self.offset))


@dataclass(frozen=True)
class _Pieces:
    """How a window falls into pieces.

    Attributes:
        number: (T, B) int64, the piece of each step.
        first: (B, N) int64, first step of each piece; T where a row has fewer pieces.
        length: (B, N) int64, its steps.
    """

    number: Tensor
    first: Tensor
    length: Tensor


def _cut(record: Record) -> _Pieces:
    T, B = record.cut.shape
    begins = record.cut | record.start
    begins[0] = True
    number = begins.long().cumsum(dim=0) - 1
    pieces = int(number[-1].max()) + 1
    time = torch.arange(T, device=begins.device).expand(B, T)
    first = time.new_full((B, pieces), T).scatter_reduce(1, number.t(), time, "amin")
    length = time.new_zeros(B, pieces).scatter_add(1, number.t(), torch.ones_like(time))
    return _Pieces(number, first, length)


def _newest_writes(record: Record) -> Tensor:
    """The step of the window that last wrote each slot, (B, S), −1 where none did."""
    T, B = record.write_slot.shape
    slots = record.memory.shape[1]
    time = torch.arange(T, device=record.step.device).unsqueeze(1)
    written = time.where(record.write_slot >= 0, time.new_tensor(-1)).t()
    blank = time.new_full((B, slots), -1)
    return blank.scatter_reduce(1, record.write_slot.clamp(min=0).t(), written, "amax")


def _marked(index: Tensor, where: Tensor, size: int) -> Tensor:
    """(B, size) bool, True at index (B, n) where `where` (B, n)."""
    count = torch.zeros(index.shape[0], size, device=index.device)
    return count.scatter_add(1, index, where.to(count.dtype)) > 0


def _free_places(taken: Tensor, needed: Tensor) -> Tensor:
    """A free place for each piece: (B, N) int64 from taken (B, S) and needed (B, N); meaningless where not needed."""
    free = taken.to(torch.uint8).argsort(dim=1, stable=True)
    return free.gather(1, (needed.long().cumsum(dim=1) - 1).clamp(min=0))


def _contents(record: Record, pieces: _Pieces, row: Tensor, index: Tensor, steps: int) -> dict[str, Tensor]:
    """What is stored of M pieces, given by their row and number (M,); the first axis of each value is M."""
    T, B = record.cut.shape
    first, length = pieces.first[row, index], pieces.length[row, index]
    offset = torch.arange(steps, device=row.device)
    inside = offset < length.unsqueeze(1)
    time = (first.unsqueeze(1) + offset).clamp(max=T - 1)
    at = time * B + row.unsqueeze(1)

    read_slot = record.read_slot.flatten(0, 1)[at]
    read_step = record.read_step.flatten(0, 1)[at]
    began = record.step[first, row] - 1
    earlier = (read_slot >= 0) & (read_step < began[:, None, None]) & inside.unsqueeze(2)
    # The version that was read: the window's own step of that age, or else the starting memory's slot.
    age = record.step.flatten()[at].unsqueeze(2) - 1 - read_step
    own = time.unsqueeze(2) - age
    slots = record.memory.shape[1]
    table = torch.cat([record.memory, record.h.transpose(0, 1)], dim=1)
    version = torch.where(own >= 0, slots + own, read_slot.clamp(min=0)).flatten(1)
    slot, written_at = read_slot.flatten(1), read_step.flatten(1)
    used = earlier.flatten(1)
    used = used & ~_repeated(written_at, used)
    observation = record.observation.flatten(0, 1)[at]
    shape = (*inside.shape, *[1] * (observation.dim() - 2))
    return {
        "observation": observation * inside.view(shape),
        "h": record.h_before[first, row],
        "c": record.c_before[first, row],
        "value": table[row.unsqueeze(1), version.clamp(min=0)] * used.unsqueeze(2),
        "used": used,
        "slot": slot.masked_fill(~used, 0),
        "written_at": written_at.masked_fill(~used, 0),
        "target": _targets(record.write_slot.flatten()[at].masked_fill(~inside, -1), slot, used),
    }


def _repeated(key: Tensor, there: Tensor) -> Tensor:
    """Which entries of key (M, U) equal an earlier one, counting only those that are there."""
    same = (key.unsqueeze(2) == key.unsqueeze(1)) & there.unsqueeze(1)
    return same.tril(diagonal=-1).any(dim=2)


def _targets(write_slot: Tensor, slot: Tensor, used: Tensor) -> Tensor:
    """Where each step of M pieces writes in its re-run's memory, (M, L), from what it wrote to and what was read.

    A write over a slot whose old content is among the U that were read goes over that entry, so that it cannot be read
    any more; a second write to one slot goes over the first.
    """
    union = slot.shape[1]
    earliest = (write_slot.unsqueeze(2) == write_slot.unsqueeze(1)).int().argmax(dim=2)
    held = (write_slot.unsqueeze(2) == slot.unsqueeze(1)) & used.unsqueeze(1)
    target = torch.where(held.any(dim=2), held.int().argmax(dim=2), union + earliest)
    return target.masked_fill(write_slot < 0, -1)

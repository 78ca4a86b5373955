"""How a window that ends becomes the contexts of the slots that it wrote, in torch.

Dimensions: T steps of a window, B rows, N pieces of a window, M pieces that are stored, L = bptt_steps, the most steps
of a piece, R = K + 1 slots that a step touches, U = L·R, H hidden size, S slots.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sab_agents.kernels.stream_types import Contexts, WindowRecord


def remember(contexts: Contexts, record: WindowRecord, memory: Tensor, filled: Tensor, kept: Tensor) -> None:
    """Stores the pieces that wrote a slot that is still held, over those no longer needed; changes `contexts`.

    Args:
        contexts: of the memory before the window.
        record: the window, step by step.
        memory: (B, S, H) before the window.
        filled: (B, S) bool, slots that hold something after the window.
        kept: (B, S) bool, slots among them that hold what they held before it.
    """
    pieces = _cut(record)
    newest = _newest_writes(record, memory.shape[1])
    fresh = filled & ~kept
    step = newest.clamp(min=0)
    number = pieces.number.t().gather(1, step)
    rows = torch.arange(filled.shape[0], device=filled.device)

    needed = _marked(number, fresh, pieces.first.shape[1])
    place = _free_places(_marked(contexts.piece, kept, filled.shape[1]), needed)
    row, index = needed.nonzero(as_tuple=True)
    found = _contents(record, memory, pieces, row, index, steps=contexts.observation.shape[2])
    for name, value in found.items():
        getattr(contexts, name).index_put_((row, place[row, index]), value)

    contexts.piece.copy_(torch.where(fresh, place.gather(1, number), contexts.piece))
    contexts.offset.copy_(torch.where(fresh, step - pieces.first[rows.unsqueeze(1), number], contexts.offset))


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


def _cut(record: WindowRecord) -> _Pieces:
    T, B = record.cut.shape
    begins = record.cut | record.start
    begins[0] = True
    number = begins.long().cumsum(dim=0) - 1
    pieces = int(number[-1].max()) + 1
    time = torch.arange(T, device=begins.device).expand(B, T)
    first = time.new_full((B, pieces), T).scatter_reduce(1, number.t(), time, "amin")
    length = time.new_zeros(B, pieces).scatter_add(1, number.t(), torch.ones_like(time))
    return _Pieces(number, first, length)


def _newest_writes(record: WindowRecord, slots: int) -> Tensor:
    """The step of the window that last wrote each slot, (B, S), −1 where none did."""
    T, B = record.write_slot.shape
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


def _contents(
    record: WindowRecord, memory: Tensor, pieces: _Pieces, row: Tensor, index: Tensor, steps: int
) -> dict[str, Tensor]:
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
    slots = memory.shape[1]
    table = torch.cat([memory, record.h.transpose(0, 1)], dim=1)
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
    """Where each step of M pieces writes in its replay's memory, (M, L), from what it wrote to and what was read.

    A write over a slot whose old content is among the U that were read goes over that entry, so that it cannot be read
    any more; a second write to one slot goes over the first.
    """
    union = slot.shape[1]
    earliest = (write_slot.unsqueeze(2) == write_slot.unsqueeze(1)).int().argmax(dim=2)
    held = (write_slot.unsqueeze(2) == slot.unsqueeze(1)) & used.unsqueeze(1)
    target = torch.where(held.any(dim=2), held.int().argmax(dim=2), union + earliest)
    return target.masked_fill(write_slot < 0, -1)

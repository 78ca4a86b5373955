"""A few rows cut at episode starts and laid out again, side by side, as a shorter scan of more rows.

What follows an episode's start does not depend on what came before it, and a scan of few rows spends its time on
reading the recurrent weights, once for each step.

Dimensions: T steps, B rows; in a layout N steps of M rows, N < T.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sab_agents.kernels.backend import NATIVE, is_plain, kernel_in_use

ROWS = 4  # that one pass over the weights serves, at the cost of about one
WORTH = 0.8  # of the steps at most, or the new layout costs more than it saves


class Layout(NamedTuple):
    """Where each step of the given rows lies.

    Attributes:
        source: (N · M,) int64, the place t · B + b of what lies there; T · B for nothing.
        place: (T · B,) int64, where each given step lies, n · M + m.
        begins: (M,) int64, the given row whose state a new row begins with; B for none.
        ends: (B,) int64, the new row that ends with a given row's last step.
        start: (N, M) bool, episode starts; True where nothing lies.
        heads: B of them, the new row that begins with the state of a given one; None if an episode starts there.
    """

    source: Tensor
    place: Tensor
    begins: Tensor
    ends: Tensor
    start: Tensor
    heads: Sequence[int | None]

    def laid(self, steps: Tensor) -> Tensor:
        """Steps (T, B, …) as they lie, (N, M, …), zeros where nothing does."""
        flat = steps.flatten(0, 1)
        found = torch.cat([flat, flat.new_zeros(1, *flat.shape[1:])]).index_select(0, self.source)
        return found.view(*self.start.shape, *steps.shape[2:])

    def given(self, steps: Tensor) -> Tensor:
        """Steps (N, M, …) as they were given, (T, B, …)."""
        found = steps.flatten(0, 1).index_select(0, self.place)
        return found.view(-1, len(self.ends), *steps.shape[2:])

    def begun(self, state: Tensor) -> Tensor:
        """A state (B, …) before the first step, for the new rows, (M, …)."""
        return _begun(state, self.begins)

    def ended(self, state: Tensor) -> Tensor:
        """A state (M, …) after the last step, for the given rows, (B, …)."""
        return state.index_select(0, self.ends)

    def received(self, gradient: Tensor) -> Tensor:
        """The gradient of `begun` (M, …) as that of the state, (B, …), zeros for rows that begin with an episode."""
        if len(self.ends) == 1:
            head = self.heads[0]
            return gradient.new_zeros(1, *gradient.shape[1:]) if head is None else gradient[head : head + 1]
        found = gradient.new_zeros(len(self.ends) + 1, *gradient.shape[1:])
        return found.index_copy_(0, self.begins, gradient)[:-1]


def _begun(state: Tensor, begins: Tensor) -> Tensor:
    """Returns a state (B, …) at these places (M,), zeros at the place B, as (M, …)."""
    return torch.cat([state, state.new_zeros(1, *state.shape[1:])]).index_select(0, begins)


@dataclass(frozen=True)
class _Piece:
    row: int
    first: int
    length: int
    head: bool  # begins with the row's carried state
    tail: bool  # ends with the row's last step


class _Row:
    """A new row: at most one piece with a carried state, in front, and at most one row's last, at the very end."""

    def __init__(self) -> None:
        self.pieces: list[_Piece] = []
        self.used = 0

    def takes(self, piece: _Piece, length: int) -> bool:
        fits = self.used + piece.length <= length
        return fits and not any((p.head and piece.head) or (p.tail and piece.tail) for p in self.pieces)

    def put(self, piece: _Piece) -> None:
        self.pieces.append(piece)
        self.used += piece.length

    def placed(self, length: int) -> list[tuple[int, _Piece]]:
        """Where each piece begins."""
        found, at = [], 0
        for piece in sorted(self.pieces, key=lambda piece: (piece.tail, not piece.head)):
            at = length - piece.length if piece.tail else at
            found.append((at, piece))
            at += piece.length
        return found


class Packed(NamedTuple):
    """Rows cut at episode starts into M pieces, for torch's recurrent networks of packed sequences.

    Attributes:
        source: (T · B,) int64, the place t · B + b of each step in the order of packed sequences.
        place: (T · B,) int64, where each given step lies in it.
        batch_sizes: (N,) int64 on the CPU, pieces that have an n-th step.
        begins: (M,) int64, the given row whose state a piece begins with; B for none.
        ends: (B,) int64, the piece that ends with a given row's last step.
    """

    source: Tensor
    place: Tensor
    batch_sizes: Tensor
    begins: Tensor
    ends: Tensor

    def laid(self, steps: Tensor) -> Tensor:
        """Steps (T, B, …) as they lie, (T · B, …)."""
        return steps.flatten(0, 1).index_select(0, self.source)

    def given(self, steps: Tensor) -> Tensor:
        """Steps (T · B, …) as they were given, (T, B, …)."""
        found = steps.index_select(0, self.place)
        return found.view(-1, len(self.ends), *steps.shape[1:])

    def begun(self, state: Tensor) -> Tensor:
        """A state (B, …) before the first step, for the pieces, (M, …)."""
        return _begun(state, self.begins)


def packed(start: Tensor) -> Packed:
    """Returns how rows with episode starts (T, B) are cut at them."""
    T, B = start.shape
    begun = start.cpu().t()
    flags = begun.clone(memory_format=torch.contiguous_format)
    flags[:, :1] = True
    firsts = flags.view(-1).nonzero().view(-1)  # b · T + t, of all pieces one after the other
    lengths = torch.diff(firsts, append=firsts.new_tensor([B * T]))
    lengths, order = torch.sort(lengths, descending=True, stable=True)
    rows, times = firsts[order] // T, firsts[order] % T
    steps = torch.arange(int(lengths[0])).unsqueeze(1)
    there = steps < lengths
    source = ((times + steps) * B + rows)[there]
    place, ends = torch.empty_like(source), rows.new_empty(B)
    place[source] = torch.arange(T * B)
    last = times + lengths == T
    ends[rows[last]] = last.nonzero().view(-1)
    begins = torch.where((times > 0) | begun[rows, 0], B, rows)
    source, place, begins, ends = (each.to(start.device) for each in (source, place, begins, ends))
    return Packed(source, place, there.sum(1), begins, ends)


def relaid(start: Tensor, x: Tensor) -> Layout | None:
    """A shorter layout of rows with episode starts (T, B) for inputs x; None if that does not make them faster."""
    return layout(start) if is_plain(start, x) and kernel_in_use(x.device, x.dtype) == NATIVE else None


def slots_to_look_at(filled: Tensor, x: Tensor) -> int:
    """How many of the slots (B, S) a scan of inputs x must be given: with the native kernel, up to the last one filled.

    Elsewhere all of them: products of other shapes may round differently.
    """
    if not (is_plain(filled, x) and kernel_in_use(x.device, x.dtype) == NATIVE):
        return filled.shape[1]
    held = filled.any(0).nonzero()
    return int(held[-1]) + 1 if len(held) else 0


def layout(start: Tensor) -> Layout | None:
    """A shorter layout of rows with episode starts (T, B); None if the native kernel gains nothing by it."""
    T, B = start.shape
    if B >= ROWS or T < 2 or not bool(start[1:].any(dim=0).all()):
        return None
    pieces = [piece for row, flags in enumerate(start.t().tolist()) for piece in _pieces(row, flags)]
    pieces.sort(key=lambda piece: -piece.length)
    length = max(pieces[0].length, -(-T * B // ROWS))
    if length > WORTH * T:
        return None
    rows: list[_Row] = []
    for piece in pieces:
        chosen = next((row for row in rows if row.takes(piece, length)), None)
        if chosen is None:
            rows.append(chosen := _Row())
        chosen.put(piece)
    return _laid_out(rows, length, start)


def _pieces(row: int, flags: list[bool]) -> list[_Piece]:
    firsts = [t for t, flag in enumerate(flags) if flag or t == 0]
    return [
        _Piece(row, first, end - first, head=not flags[first], tail=end == len(flags))
        for first, end in zip(firsts, [*firsts[1:], len(flags)], strict=True)
    ]


def _laid_out(rows: list[_Row], length: int, start: Tensor) -> Layout:
    (T, B), M = start.shape, len(rows)
    source = torch.full((length, M), T * B)
    begins, ends = torch.full((M,), B), torch.empty(B, dtype=torch.int64)
    for m, row in enumerate(rows):
        for at, piece in row.placed(length):
            steps = torch.arange(piece.first, piece.first + piece.length)
            source[at : at + piece.length, m] = steps * B + piece.row
            if piece.head:
                begins[m] = piece.row
            if piece.tail:
                ends[piece.row] = m
    source = source.flatten()
    place = torch.empty(T * B + 1, dtype=torch.int64)
    place[source] = torch.arange(length * M)
    flags = torch.cat([start.flatten(), start.new_ones(1)])[source].view(length, M)
    heads: list[int | None] = [None] * B
    for m, begun in enumerate(begins.tolist()):
        if begun < B:
            heads[begun] = m
    return Layout(source, place[:-1], begins, ends, flags, heads)

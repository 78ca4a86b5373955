"""What a stream through a SAB carries and records, and by which rules it writes: the same for every kernel.

Dimensions: T steps, B rows, H hidden size, S slots, R = K + 1 slots that a step touches, M pieces that are replayed,
L = bptt_steps, U = L·R memories that a piece reads.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from sab_agents.kernels.types import Reading


class StreamStep(NamedTuple):
    """A stream's next step, computed and not yet taken; all but `output` hold until the next one is computed.

    Attributes:
        output: (B, 2H) [h, s].
        c: (B, H) cell state after it.
        read_slot: (B, R) int64, the slots that were scored best, −1 where there was none.
        weight: (B, R) their weights.
        stored: (B, H) what it stores if it writes; None where that is h.
        near: (B,) int64, the slot that holds nearly that, −1 where none does; None if this was not asked.
    """

    output: Tensor
    c: Tensor
    read_slot: Tensor
    weight: Tensor
    stored: Tensor | None
    near: Tensor | None


class WindowRecord(NamedTuple):
    """What a stream records of each step of a window, (T, B, …) each.

    Attributes:
        observation: (T, B, …).
        start: (T, B) bool, episode starts.
        cut: (T, B) bool, segment starts.
        step: (T, B) int64, 1-based step of the episode.
        h_before: (T, B, H) hidden state before each step, zeros at an episode's start.
        c_before: (T, B, H) cell state before each step, zeros at an episode's start.
        h: (T, B, H) what each step stores if it writes.
        read_slot: (T, B, R) int64, slots that were scored best, −1 where there was none.
        read_step: (T, B, R) int64, 0-based step of the episode at which what they held was written.
        weight: (T, B, R) attention weights.
        write_slot: (T, B) int64, −1 where nothing was written.
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
    weight: Tensor
    write_slot: Tensor


Eviction = Literal["oldest", "least_used", "least_credited", "most_redundant", "reservoir", "least_useful"]
EVICTIONS: tuple[Eviction, ...] = get_args(Eviction)
Write = Literal["every", "changed", "novel", "refresh"]
WRITES: tuple[Write, ...] = get_args(Write)


class StreamRules(NamedTuple):
    """When the steps of a stream write, to which slot, and how they read.

    Attributes:
        reading: how the memory is read.
        write_every: steps between two writes.
        bptt_steps: L, steps between two cuts.
        eviction: which slot a write takes when all are filled.
        novelty: h lies near a slot if it is within novelty · ‖h‖ of it; None if no write asks.
        decay: of usage and credit, for each step.
        seed: of the reservoir.
        refresh: whether a write near a slot goes to that slot; else it is skipped.
        last: whether h is compared with the slot that was written last alone.
    """

    reading: Reading
    write_every: int
    bptt_steps: int
    eviction: Eviction
    novelty: float | None
    decay: float
    seed: int
    refresh: bool = False
    last: bool = False


class StreamState(NamedTuple):
    """What a stream carries from step to step; empty slots hold zeros.

    Attributes:
        h: (B, H) hidden state.
        c: (B, H) cell state.
        memory: (B, S, H).
        filled: (B, S) bool, slots that hold something.
        written_at: (B, S) int64, 0-based step of the episode at which each slot was written.
        step: (B,) int64, steps taken since the episode's start.
        usage: (B, S) decayed sum of the attention weights with which each slot was read since it was written.
        credit: (B, S) decayed sum of the norms of the gradients that reached it; where eviction goes by usefulness, of
            −gradient · slot instead: by how much, to first order, what it gave lowered the loss.
        writes: (B,) int64, where eviction is a reservoir's or goes by usefulness, the writes since the episode's start,
            whether they were kept or not; else 0.
        draws: (B,) int64, the same in all episodes, which an episode's start does not reset.
    """

    h: Tensor
    c: Tensor
    memory: Tensor
    filled: Tensor
    written_at: Tensor
    step: Tensor
    usage: Tensor
    credit: Tensor
    writes: Tensor
    draws: Tensor


class Contexts(NamedTuple):
    """What each slot must carry so that the steps which wrote it can be replayed: the context of its piece.

    A *piece* is a stretch of consecutive steps of one row and one episode that plain backpropagation does not leave: it
    begins at a segment's start, an episode's start or a window's start. Slots that were written in one piece share it.
    There are S places for pieces, since each piece that is kept wrote at least one slot. With L = bptt_steps, the most
    steps of a piece, and R slots that a step touches, a piece reads at most U = L·R memories.

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
        target: (B, S, L) int64, where each step writes in a replay's memory: one of the U, or U + its offset; −1 for
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
    ) -> Contexts:
        """Returns contexts of an empty memory, with the dtype and on the device of `like`."""
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


class PieceInputs(NamedTuple):
    """What M pieces are replayed with, up to the last step that gradient reached.

    Attributes:
        observation: (T, M, …).
        h: (M, H) before the first step.
        c: (M, H) before it.
        value: (M, U, H) memories that were read.
        used: (M, U) bool, which of these are there.
        target: (T, M) int64, as in `Contexts`.
        start: (T, M) bool: no episode starts.
        cut: (T, M) bool: the first steps alone are cut.
        grad_stored: (T, M, H) gradient of what each step stored.
        step: (M,) int64, steps of the episode before the first step.
        written_at: (M, U) int64, 0-based step of the episode at which each memory was written.
    """

    observation: Tensor
    h: Tensor
    c: Tensor
    value: Tensor
    used: Tensor
    target: Tensor
    start: Tensor
    cut: Tensor
    grad_stored: Tensor
    step: Tensor
    written_at: Tensor

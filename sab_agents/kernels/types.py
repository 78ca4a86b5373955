"""The one operation under everything: the arguments and results of a SAB scan, whichever way it is computed.

Dimensions: T steps, B rows, H hidden size, A attention size, S slots, K = top_k.

A *version* is one content of one slot: the scan keeps an append-only list of them, first the S₀ slots of the starting
memory, then the hidden state of each step, so version S₀ + t is step t of this scan. Reads name versions, and an
overwritten slot needs no undo in the backward pass. S ≥ S₀: slots beyond the starting memory begin empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor


@dataclass(frozen=True)
class ScanPlan:
    """Everything of a scan that does not depend on numbers in the network.

    Attributes:
        start: (T, B) bool, episode starts: h, c and the row's memory are emptied before the step.
        cut: (T, B) bool, steps that h and c enter without gradient; True at every episode start.
        write_slot: (T, B) int64, the slot each step writes to after its read, −1 where it writes none.
        filled: (B, S₀) bool, slots of the starting memory that hold something.
        slots: S.
        top_k: K.
        credit: whether gradient flows into the memories that were read.
        gain: of s in h = ĥ + gain · s.
    """

    start: Tensor
    cut: Tensor
    write_slot: Tensor
    filled: Tensor
    slots: int
    top_k: int
    credit: bool = True
    gain: float = 1.0


class ScanInputs(NamedTuple):
    """The differentiable arguments of a scan.

    Attributes:
        gates: (T, B, 4H) x·W_ihᵀ + b_ih + b_hh for all steps, in PyTorch's order i, f, g, o.
        weight_hh: (4H, H).
        key_weight: (A, H) W₁.
        query_weight: (A, H) W₂.
        query_bias: (A,) b₂.
        score_weight: (A,) w₃ for "mlp", None for "dot".
        h: (B, H) hidden state before the first step.
        c: (B, H) cell state before the first step.
        memory: (B, S₀, H) the starting memory.
    """

    gates: Tensor
    weight_hh: Tensor
    key_weight: Tensor
    query_weight: Tensor
    query_bias: Tensor
    score_weight: Tensor | None
    h: Tensor
    c: Tensor
    memory: Tensor


class ScanOutputs(NamedTuple):
    """The results of a scan.

    Attributes:
        h: (T, B, H) hidden states ĥ + gain · s.
        summary: (T, B, H) summaries s.
        c: (B, H) cell state after the last step.
        versions: (T, B, R) int64, the versions that were scored best, −1 where there was none; no gradient. R is
            K + 1 for the sparsifier (the last is the one whose score is the threshold), S for dense softmax.
        weights: (T, B, R) their weights; no gradient.
    """

    h: Tensor
    summary: Tensor
    c: Tensor
    versions: Tensor
    weights: Tensor


class Counted(NamedTuple):
    """Where each step of a scan stands in its episode, and what follows from that.

    Attributes:
        step: (T, B) int64, 1-based step of its episode.
        cut: (T, B) bool, as in `ScanPlan`.
        write_slot: (T, B) int64, as in `ScanPlan`.
        highest: the highest slot that is written to, −1 where none is.
    """

    step: Tensor
    cut: Tensor
    write_slot: Tensor
    highest: int


class Held(NamedTuple):
    """What the memory holds after a scan, S slots.

    Attributes:
        memory: (B, S, H), zeros in empty slots; gradient flows through it.
        filled: (B, S) bool.
        written_at: (B, S) int64, 0-based step of the episode at which each slot was written; 0 in empty slots.
    """

    memory: Tensor
    filled: Tensor
    written_at: Tensor


class StepWeights(NamedTuple):
    """All weights of the network, in the shapes of its parameters.

    Attributes:
        weight_ih: (4H, I).
        weight_hh: (4H, H).
        bias_ih: (4H,).
        bias_hh: (4H,).
        key_weight: (A, H) W₁.
        query_weight: (A, H) W₂.
        query_bias: (A,) b₂.
        score_weight: (1, A) w₃ᵀ for "mlp", None for "dot".
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor
    key_weight: Tensor
    query_weight: Tensor
    query_bias: Tensor
    score_weight: Tensor | None


class StepState(NamedTuple):
    """What one step carries to the next; empty slots hold zeros.

    Attributes:
        h: (B, H) hidden state.
        c: (B, H) cell state.
        memory: (B, S, H).
        filled: (B, S) bool, slots that hold something.
        written_at: (B, S) int64, 0-based step of the episode at which each slot was written.
        step: (B,) int64, steps taken since the episode's start.
    """

    h: Tensor
    c: Tensor
    memory: Tensor
    filled: Tensor
    written_at: Tensor
    step: Tensor


class StepRules(NamedTuple):
    """When one step writes, and how it reads.

    Attributes:
        slots: S; the oldest of them is overwritten.
        top_k: K.
        write_every: steps between two writes.
        gain: of s in h.
    """

    slots: int
    top_k: int
    write_every: int
    gain: float = 1.0


class StreamStep(NamedTuple):
    """A stream's next step, computed and not yet taken; all but `output` hold until the next one is computed.

    Attributes:
        output: (B, 2H) [h, s].
        c: (B, H) cell state after it.
        read_slot: (B, R) int64, the slots that were scored best, −1 where there was none.
        weight: (B, R) their weights.
        novel: (B,) bool, rows whose h lies far from every slot that is held; None where that was not asked.
    """

    output: Tensor
    c: Tensor
    read_slot: Tensor
    weight: Tensor
    novel: Tensor | None


class WindowRecord(NamedTuple):
    """What a stream records of each step of a window, (T, B, …) each.

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


Eviction = Literal["oldest", "least_used", "least_credited", "most_redundant", "reservoir"]
EVICTIONS: tuple[Eviction, ...] = get_args(Eviction)
Write = Literal["every", "novel"]
WRITES: tuple[Write, ...] = get_args(Write)


class StreamRules(NamedTuple):
    """When the steps of a stream write, to which slot, and how they read.

    Attributes:
        top_k: K.
        write_every: steps between two writes.
        bptt_steps: L, steps between two cuts.
        gain: of s in h.
        credit: whether gradient flows into the memories that are read.
        eviction: which slot a write takes when all are filled.
        novelty: a write is skipped if h lies within novelty · ‖h‖ of a slot; None skips none.
        decay: of usage and credit, for each step.
        seed: of the reservoir.
    """

    top_k: int
    write_every: int
    bptt_steps: int
    gain: float
    credit: bool
    eviction: Eviction
    novelty: float | None
    decay: float
    seed: int


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
        credit: (B, S) decayed sum of the norms of the gradients that reached it.
        writes: (B,) int64, of a reservoir the writes since the episode's start, whether it kept them or not; else 0.
        draws: (B,) int64, of a reservoir the writes in all episodes, which an episode's start does not reset; else 0.
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
        grad_hidden: (T, M, H) gradient of the h of all steps.
    """

    observation: Tensor
    h: Tensor
    c: Tensor
    value: Tensor
    used: Tensor
    target: Tensor
    start: Tensor
    cut: Tensor
    grad_hidden: Tensor

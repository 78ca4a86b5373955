"""The one operation under everything: the arguments and results of a SAB scan, whichever way it is computed.

Dimensions: T steps, B rows, H hidden size, A attention size, S slots, K = top_k.

A *version* is one content of one slot: the scan keeps an append-only list of them, first the S₀ slots of the starting
memory, then the hidden state of each step, so version S₀ + t is step t of this scan. Reads name versions, and an
overwritten slot needs no undo in the backward pass. S ≥ S₀: slots beyond the starting memory begin empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

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

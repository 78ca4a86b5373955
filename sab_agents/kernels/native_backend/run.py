"""A scan without a graph and its way back to every weight, in two calls of compiled C++ and two buffers.

Dimensions: T steps, B rows, I input size, H hidden size, A attention size, S slots of the starting memory, R = K + 1
slots that a read touches, V = S + T versions.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from sab_agents.kernels.native_backend.extension import addresses, bits, native, new_empty, threads
from sab_agents.kernels.types import ScanPlan, StepWeights

Weights = tuple[Tensor | None, ...]
"""weight_ih, weight_hh, bias_ih, bias_hh, and of the attention key_weight, query_weight, query_bias, score_weight."""


class RunSizes(NamedTuple):
    """The sizes of a run; `slots` beyond S begin empty."""

    steps: int
    rows: int
    input: int
    size: int
    attention: int
    held: int
    reads: int
    slots: int


class Given(NamedTuple):
    """Where the arguments of a run lie, contiguous and of the right dtype.

    Attributes:
        x: (T, B, I).
        h: (B, H).
        c: (B, H).
        memory: (B, S, H).
        start: (T, B) bool.
        cut: (T, B) bool.
        write_slot: (T, B) int64, −1 where nothing is written.
        filled: (B, S) bool.
    """

    x: int
    h: int
    c: int
    memory: int
    start: int
    cut: int
    write_slot: int
    filled: int


def scan_run(
    weights: StepWeights, x: Tensor, h: Tensor, c: Tensor, memory: Tensor, plan: ScanPlan
) -> tuple[Run, Tensor]:
    """A scan without a graph; the arguments are checked, and the weights are contiguous.

    Args:
        weights: of the network.
        x: (T, B, I) inputs.
        h: (B, H) before the first step.
        c: (B, H) before the first step.
        memory: (B, S, H) the starting memory.
        plan: of the scan.

    Returns:
        The run, and its outputs [h, s] (T, B, 2H).
    """
    (T, B, inputs), (_, S, H), A = x.shape, memory.shape, len(weights.query_bias)
    x, h, c, memory = (tensor.contiguous() for tensor in (x, h, c, memory))
    start, cut, write_slot, filled = (
        tensor.contiguous() for tensor in (plan.start, plan.cut, plan.write_slot, plan.filled)
    )
    output = new_empty(T, B, 2 * H)
    given = Given(*addresses(x, h, c, memory, start, cut, write_slot, filled))
    run = Run(
        tuple(weights),
        RunSizes(T, B, inputs, H, A, S, plan.top_k + 1, plan.slots),
        given,
        credit=plan.credit,
        gain=plan.gain,
        output=output,
        kept=(x, h, c, memory, start, cut, write_slot, filled),
    )
    return run, output


class Run:
    """A scan whose tape is kept; its gradients are added to each weight's `.grad` at once, and hooks are not called.

    Nothing is checked but the range of the slots, and what is given must stay as it is until `backward` is done.

    Args:
        weights: of the network, contiguous float32 on the CPU.
        sizes: of the run.
        given: where its arguments lie.
        credit: whether gradient flows into the memories that are read.
        gain: of s in h.
        output: (T, B, 2H), gets [h, s] of each step.
        kept: whatever must not be freed before `backward` is done.

    Raises:
        ValueError: a slot is out of range.
    """

    def __init__(
        self,
        weights: Weights,
        sizes: RunSizes,
        given: Given,
        *,
        credit: bool,
        gain: float = 1.0,
        output: Tensor | None,
        kept: object,
    ) -> None:
        self._weights, self._sizes, self._given, self._credit, self._kept = weights, sizes, given, credit, kept
        self._gain = bits(gain)
        T, B, inputs, H, A, S, R, slots = sizes
        self._threads = threads(T * B * 4 * H * H)
        self._at = addresses(*weights)
        weight_ih, weight_hh, bias_ih, bias_hh, *attention = self._at
        places, total = _places(T, B, H, A, S, R)
        self._floats, self._versions = new_empty(total), new_empty(T, B, R, dtype=torch.int64)
        first = self._floats.data_ptr()
        self._places = [first + place for place in places]
        gates, *tape, summary, hidden, weight, last_cell = self._places[:10]
        in_range = native.run_forward(
            *(self._threads, T * B, inputs, 4 * H, 1, inputs, given.x, weight_ih, bias_ih, bias_hh, gates),
            *(self._threads, T, B, H, A, slots, S, R, 1, self._gain),
            *(gates, weight_hh, *attention, given.h, given.c, given.memory, given.start, given.write_slot),
            *(given.filled, gates, *tape, summary, hidden, self._versions.data_ptr(), weight, last_cell),
            0 if output is None else output.data_ptr(),
        )
        if not in_range:
            raise ValueError(f"scan: write_slot must lie in -1 … {slots - 1}.")

    def backward(self, grad_h: int, grad_summary: int, stride: int, memory: Tensor | None) -> None:
        """Pushes the gradients of h and s back, once.

        Args:
            grad_h: where the gradient (T, B, H) of h lies.
            grad_summary: where that of s lies, 0 for zeros.
            stride: from row to row of both.
            memory: (B, S, H), gets the gradient of the starting memory.
        """
        T, B, inputs, H, A, S, R, _ = self._sizes
        given = self._given
        gates, cell, output, query, keys, scores, summary, hidden, weight, _, *sent = self._places
        grad_states, grad_keys, grad_query, grad_score, grad_gates, grad_start, grad_cell = sent
        _, weight_hh, _, _, key, query_weight, _, score = self._at
        into = [_own_gradient(tensor) for tensor in self._weights]
        native.run_backward(
            *(self._threads, T, B, H, A, S, R, int(self._credit), self._gain, stride, stride, grad_h, grad_summary, 0),
            *(weight_hh, key, query_weight, score, given.cut, given.write_slot),
            *(gates, cell, output, query, keys, scores, summary, hidden, self._versions.data_ptr(), weight),
            *(grad_states, grad_keys, grad_query, grad_score if score else 0),
            *(grad_gates, grad_start, grad_cell, 0 if memory is None else memory.data_ptr()),
            *(self._threads, T, B, inputs, H, A, S, 1, given.start, given.x, given.h, hidden, output),
            *(grad_gates, grad_keys, grad_query, grad_score if score else 0),
            *addresses(*into),
        )
        for tensor, gradient in zip(self._weights, into, strict=True):
            if tensor is not None and gradient is not None and tensor.grad is not gradient:
                tensor.grad = gradient if tensor.grad is None else tensor.grad + gradient


def _own_gradient(weight: Tensor | None) -> Tensor | None:
    """What can be added to in place for `weight.grad`: itself, or zeros; None where no gradient is wanted."""
    if weight is None or not weight.requires_grad:
        return None
    kept = weight.grad
    if kept is not None and kept.is_contiguous():
        return kept
    return torch.zeros_like(weight, requires_grad=False, memory_format=torch.contiguous_format)


@lru_cache(maxsize=256)
def _places(T: int, B: int, H: int, A: int, S: int, R: int) -> tuple[list[int], int]:
    """Where the parts of one buffer begin, in bytes, each at a cache line's start; and all its floats.

    First the tape, in the order of src/arguments.h: gates, cell, output, query, keys, scores, summary, hidden,
    weights, last_cell. Then what the backward pass sends: to states, keys, queries, score weight, gates, h and c.
    """
    state, versions = T * B * H, (S + T) * B
    tape = (4 * state, state + B * H, state, T * B * A, versions * A, T * B * R, state, versions * H, T * B * R, B * H)
    sent = (versions * H, versions * A, T * B * A, B * A, 4 * state, B * H, B * H)
    *places, total = accumulate((-(-count // 16) * 16 for count in (*tape, *sent)), initial=0)
    return [4 * place for place in places], total

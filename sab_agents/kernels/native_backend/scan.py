"""The scan in compiled C++, for float32 on a CPU: allocates, calls the extension and gathers.

Dimensions: T steps, B rows, H hidden size, A attention size, S slots, S₀ of them in the starting memory, V = S₀ + T
versions, R = K + 1 slots that a read touches.

The extension is built when the package is installed, where a C++ compiler is there. It takes addresses and sizes and
trusts them: every shape, every dtype and the range of every slot are checked here first.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from sab_agents.kernels.native_backend.extension import addresses, bits, native, new_empty, threads
from sab_agents.kernels.types import ScanInputs, ScanPlan, StepWeights


class _Sizes(NamedTuple):
    T: int
    B: int
    H: int
    A: int
    S: int  # slots of the starting memory
    R: int

    @property
    def work(self) -> int:
        """Multiply-adds of the recurrent product, about."""
        return self.T * self.B * 4 * self.H * self.H


class Tape(NamedTuple):
    """What the forward pass leaves; shapes in src/arguments.h."""

    gates: Tensor
    buffer: Tensor  # cell, output, query, keys and scores, at `_tape_places`
    summary: Tensor
    hidden: Tensor
    versions: Tensor
    weights: Tensor
    last_cell: Tensor


def _sizes(inputs: ScanInputs, plan: ScanPlan) -> _Sizes:
    T, B, width = inputs.gates.shape
    return _Sizes(T, B, width // 4, inputs.query_bias.shape[0], plan.filled.shape[1], plan.top_k + 1)


@lru_cache(maxsize=1024)
def _places(counts: tuple[int, ...]) -> list[int]:
    """Where parts of `counts` floats begin in one buffer, each at a cache line's start; last, where the buffer ends."""
    return list(accumulate((-(-count // 16) * 16 for count in counts), initial=0))


def _tape_places(sizes: _Sizes, keep: bool) -> list[int]:
    return _places(_tape_counts(*sizes, keep))


def _tape_counts(T: int, B: int, H: int, A: int, S: int, R: int, keep: bool) -> tuple[int, ...]:
    """Floats of each part of `Tape.buffer`."""
    steps, cells, versions = (T, T + 1, S + T) if keep else (1, 1, 1)
    state = steps * B * H
    return (cells * B * H, state, steps * B * A, versions * B * A, steps * B * R)


def tape_floats(T: int, B: int, H: int, A: int, S: int, R: int) -> int:
    """Floats of `Tape.buffer` with every step, also for sizes that are yet symbols."""
    return sum(-(-count // 16) * 16 for count in _tape_counts(T, B, H, A, S, R, keep=True))


def _within(buffer: Tensor, places: list[int]) -> list[int]:
    """The address of each part."""
    first = buffer.data_ptr()
    return [first + 4 * place for place in places[:-1]]


def forward(inputs: ScanInputs, plan: ScanPlan, keep: bool, own_gates: bool = False) -> Tape:
    """Runs the forward pass; with `keep` the tape has every step, without only the last."""
    sizes = _sizes(inputs, plan)
    T, B, H, A, S, R = sizes
    places = _tape_places(sizes, keep)
    tape = Tape(
        gates=inputs.gates if own_gates else new_empty(T if keep else 1, B, 4 * H),
        buffer=new_empty(places[-1]),
        summary=new_empty(T, B, H),
        hidden=new_empty(S + T, B, H),
        versions=new_empty(T, B, R, dtype=torch.int64),
        weights=new_empty(T, B, R),
        last_cell=new_empty(B, H),
    )
    in_range = native.forward(
        *(threads(sizes.work), T, B, H, A, plan.slots, S, R, int(keep), bits(plan.gain)),
        *addresses(*inputs, plan.start, plan.write_slot, plan.filled),
        *(tape.gates.data_ptr(), *_within(tape.buffer, places)),
        *addresses(*tape[2:]),
    )
    if not in_range:
        raise ValueError(
            f"scan: write_slot must lie in -1 … {plan.slots - 1}, but lies in {int(plan.write_slot.min())} … "
            f"{int(plan.write_slot.max())}."
        )
    return tape


def backward_into(
    inputs: ScanInputs,
    plan: ScanPlan,
    tape: Tape,
    grads: tuple[Tensor | None, ...],
    x: Tensor | None,
    into: StepWeights,
    *,
    add: bool,
    memory: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Writes or adds the gradients of weights to the tensors of `into`, contiguous ones; None where one is not wanted.

    Args:
        inputs: of the scan.
        plan: of the scan.
        tape: of its forward pass.
        grads: of h, summary and c.
        x: (T, B, I) that the gates were made of, None where `into` does not ask for weight_ih.
        into: where the gradients go.
        add: whether to what is there.
        memory: whether the memory's gradient is wanted.

    Returns:
        The gradients of gates, h, c and the memory.
    """
    sizes = _sizes(inputs, plan)
    T, B, H, A, S, R = sizes
    grad_hidden, hidden_stride = _rows(grads[0])
    grad_summary, summary_stride = _rows(grads[1])
    grad_cell = None if grads[2] is None else grads[2].contiguous()
    places = _places(((S + T) * B * H, (S + T) * B * A, T * B * A, B * A))
    buffer = new_empty(places[-1])
    sent = _within(buffer, places)
    if inputs.score_weight is None:
        sent[3] = 0
    gates, h, c = new_empty(T, B, 4 * H), new_empty(B, H), new_empty(B, H)
    starting = new_empty(B, S, H) if memory else None
    kept = _within(tape.buffer, _tape_places(sizes, keep=True))
    native.backward(
        *(threads(sizes.work), T, B, H, A, S, R, int(plan.credit), bits(plan.gain), hidden_stride, summary_stride),
        *addresses(grad_hidden, grad_summary, grad_cell, *inputs[1:4], inputs.score_weight, plan.cut, plan.write_slot),
        *(tape.gates.data_ptr(), *kept),
        *addresses(tape.summary, tape.hidden, tape.versions, tape.weights),
        *sent,
        *addresses(gates, h, c, starting),
    )
    native.weight_gradients(
        *(threads(sizes.work), T, B, 0 if x is None else x.shape[2], H, A, S, int(add)),
        *addresses(plan.start, x, inputs.h, tape.hidden),
        *(kept[1], gates.data_ptr(), *sent[1:]),
        *addresses(*into),
    )
    return gates, h, c, starting


def _rows(grad: Tensor | None) -> tuple[Tensor | None, int]:
    """The gradient (T, B, H) with its elements side by side, and how far its rows lie apart."""
    if grad is None:
        return None, 0
    rows, size = grad.shape[1:]
    if grad.stride() == (rows * grad.stride(1), grad.stride(1), 1) and grad.stride(1) >= size:
        return grad, grad.stride(1)
    return grad.contiguous(), size

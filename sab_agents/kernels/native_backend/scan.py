"""The scan from inputs to outputs [h, s] with the native kernel, and back to every weight, for float32 on the CPU.

Dimensions: T steps, B rows, I input size, H hidden size, A attention size, S slots, S₀ of them in the starting memory,
V = S₀ + T versions, R = K + 1 slots that a read touches.

The extension trusts its arguments: every shape and dtype has been checked, and the range of every slot is there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sab_agents.kernels.native_backend.extension import WHOLE, new_empty, scratch
from sab_agents.kernels.native_backend.layers import product
from sab_agents.kernels.native_backend.run import Given, Network, sizes_of
from sab_agents.kernels.native_backend.tape import Sizes, Space, layout, padded, tape_counts
from sab_agents.kernels.types import (
    WEIGHTS,
    ScanArguments,
    Scanned,
    ScanOutputs,
    ScanPlan,
    ScanTape,
    StepWeights,
    contiguous,
)

IN_BUFFER = ("cell", "output", "query", "keys", "scores", "state")
"""The parts of the tape that share a buffer: the others are results or tensors of their own."""

SENT_IN_BUFFER = ("states", "keys", "query", "state", "score_weight", "output_gate")
"""The same of what the backward pass leaves."""


def forward(inputs: ScanArguments, plan: ScanPlan, *, keep: bool) -> Scanned:
    """Computes a scan; see `sab_agents.kernels.scan.ScanKernel`."""
    inputs, plan = contiguous(inputs, plan)
    sizes = sizes_of(inputs, plan)
    T, B, _, H, _, _, R, *_, apart = sizes
    gates, buffer = new_empty(T, B, 4 * H), new_empty(layout(sizes, keep=keep, tape=IN_BUFFER, sent=()).floats)
    summary, hidden = new_empty(T, B, H), new_empty(T, B, H)
    output, c = new_empty(T, B, (3 if apart else 2) * H), new_empty(B, H)
    versions, weights = new_empty(T, B, R, dtype=WHOLE), new_empty(T, B, R)
    space = _space(sizes, keep, gates, buffer, summary, hidden, versions, weights, c)
    parameters = inputs.weights
    scan = Network(parameters, parameters, plan.reading).forward(
        space, Given.of(inputs, plan), slots=plan.slots, keep=keep, output=output, parts=3 if apart else 2
    )
    if not scan.run():
        raise ValueError(
            f"scan: write_slot must lie in -1 … {plan.slots - 1}, but lies in {int(plan.write_slot.min())} … "
            f"{int(plan.write_slot.max())}."
        )
    return Scanned(ScanOutputs(output, c, versions, weights), (gates, buffer, summary, hidden) if keep else ())


def tape_shapes(inputs: ScanArguments, plan: ScanPlan) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Returns shapes and dtypes of the tape; see `sab_agents.kernels.scan.ScanKernel`."""
    sizes = sizes_of(inputs, plan)
    T, B, _, H, *_ = sizes
    counts = tape_counts(sizes)
    buffer = sum(padded(counts[part]) for part in IN_BUFFER)
    shapes = (T, B, 4 * H), (buffer,), (T, B, H), (T, B, H)
    return [(shape, torch.float32) for shape in shapes]


def backward(
    inputs: ScanArguments, plan: ScanPlan, tape: ScanTape, grad_output: Tensor, grad_c: Tensor, wanted: Sequence[bool]
) -> list[Tensor | None]:
    """Returns the gradients of `inputs`; see `sab_agents.kernels.scan.ScanKernel`."""
    inputs, plan = contiguous(inputs, plan)
    sizes, (gates, buffer, summary, hidden) = sizes_of(inputs, plan), tape.kept
    T, B, _, H, _, held, *_, apart = sizes
    grad_hidden, hidden_stride = _rows(grad_output[..., :H])
    grad_summary, summary_stride = _rows(grad_output[..., H : 2 * H])
    grad_stored, stored_stride = _rows(grad_output[..., 2 * H :]) if apart else (None, 0)
    lies = layout(sizes, tape=(), sent=SENT_IN_BUFFER)
    room = scratch(lies.floats + T * B * 4 * H)
    _, sent = lies.within(room)
    grad_gates = room[lies.floats : lies.floats + T * B * 4 * H].view(T, B, 4 * H)
    weights = inputs.weights
    into = StepWeights._make(
        None if weight is None or not wants else new_empty(*weight.shape)
        for weight, wants in zip(weights, wanted[1 : 1 + WEIGHTS], strict=True)
    )
    grad_h, grad_cell = new_empty(B, H), new_empty(B, H)
    wants_h, wants_c, wants_memory = wanted[1 + WEIGHTS :]
    grad_memory = new_empty(B, held, H) if wants_memory else None
    space = _space(sizes, True, gates, buffer, summary, hidden, tape.versions, tape.weights, grad_c)
    space.sent = sent._replace(gates=grad_gates, h=grad_h, cell=grad_cell)
    scan = Network(weights, into, plan.reading).backward(
        space,
        Given.of(inputs, plan),
        grad_hidden=grad_hidden,
        grad_summary=grad_summary,
        grad_stored=grad_stored,
        stride=hidden_stride,
        grad_memory=grad_memory,
    )
    scan.add, scan.grad_last_cell = False, grad_c.contiguous()
    scan.summary_stride, scan.stored_stride = summary_stride, stored_stride
    scan.run()
    grad_x = product(grad_gates, inputs.weight_ih) if wanted[0] else None
    return [grad_x, *into, grad_h if wants_h else None, grad_cell if wants_c else None, grad_memory]


def _space(
    sizes: Sizes,
    keep: bool,
    gates: Tensor,
    buffer: Tensor,
    summary: Tensor,
    hidden: Tensor,
    versions: Tensor,
    weights: Tensor,
    last_cell: Tensor,
) -> Space:
    """Returns what a forward pass writes to; where its backward pass writes is yet to be set."""
    at, nowhere = layout(sizes, keep=keep, tape=IN_BUFFER, sent=()).within(buffer)
    tape = at._replace(
        gates=gates, summary=summary, hidden=hidden, versions=versions, weights=weights, last_cell=last_cell
    )
    return Space(sizes, tape, nowhere)


def _rows(grad: Tensor) -> tuple[Tensor, int]:
    """Returns the gradient (T, B, H) with contiguous rows, and the floats from one row to the next."""
    rows, size = grad.shape[1:]
    if grad.stride() == (rows * grad.stride(1), grad.stride(1), 1) and grad.stride(1) >= size:
        return grad, grad.stride(1)
    return grad.contiguous(), size

"""From inputs to outputs [h, s] with the native kernel and back to every weight, with little around the scan.

Dimensions: T steps, B rows, I input size, H hidden size, A attention size, S₀ slots of the starting memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sab_agents.kernels.native_backend import scan
from sab_agents.kernels.native_backend.extension import new_empty
from sab_agents.kernels.native_backend.products import product
from sab_agents.kernels.native_backend.tape import Sizes, padded, tape_counts
from sab_agents.kernels.types import (
    ScanArguments,
    ScanInputs,
    Scanned,
    ScanOutputs,
    ScanPlan,
    ScanTape,
    StepWeights,
    contiguous,
)


def forward(inputs: ScanArguments, plan: ScanPlan, *, keep: bool) -> Scanned:
    """Computes a scan; see `sab_agents.kernels.scan.ScanKernel`."""
    inputs, plan = contiguous(inputs, plan)
    gates = product(inputs.x, inputs.weight_ih.t(), inputs.bias_ih, inputs.bias_hh)
    tape = scan.forward(_with_gates(inputs, gates), plan, keep=keep, own_gates=True)
    output = torch.cat([tape.hidden[plan.filled.shape[1] :], tape.summary], dim=2)
    outputs = ScanOutputs(output, tape.last_cell, tape.versions, tape.weights)
    return Scanned(outputs, (tape.gates, tape.buffer, tape.summary, tape.hidden) if keep else ())


def tape_shapes(inputs: ScanArguments, plan: ScanPlan) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Shapes and dtypes of the tape; see `sab_agents.kernels.scan.ScanKernel`."""
    (T, B, _), H, held = inputs.x.shape, inputs.h.shape[1], plan.filled.shape[1]
    counts = tape_counts(Sizes(T, B, 4 * H, H, inputs.query_bias.shape[0], held, plan.reads))
    buffer = sum(padded(counts[part]) for part in scan.IN_BUFFER)
    shapes = (T, B, 4 * H), (buffer,), (T, B, H), (held + T, B, H)
    return [(shape, torch.float32) for shape in shapes]


def backward(
    inputs: ScanArguments, plan: ScanPlan, tape: ScanTape, grad_output: Tensor, grad_c: Tensor, wanted: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients of `inputs`; see `sab_agents.kernels.scan.ScanKernel`."""
    inputs, plan = contiguous(inputs, plan)
    H, (gates, buffer, summary, hidden) = inputs.h.shape[1], tape.kept
    own = scan.Tape(gates, buffer, summary, hidden, tape.versions, tape.weights, last_cell=grad_c)
    want = dict(zip(ScanArguments._fields, wanted, strict=True))
    into = [
        new_empty(*weight.shape) if weight is not None and wants else None
        for weight, wants in zip(inputs[1:9], wanted[1:9], strict=True)
    ]
    grad_gates, h, c, memory = scan.backward_into(
        _with_gates(inputs, gates),
        plan,
        own,
        (grad_output[..., :H], grad_output[..., H:], grad_c),
        inputs.x,
        StepWeights(*into),  # type: ignore[arg-type]
        add=False,
        memory=want["memory"],
    )
    found = product(grad_gates, inputs.weight_ih) if want["x"] else None
    return [found, *into, h if want["h"] else None, c if want["c"] else None, memory]


def _with_gates(inputs: ScanArguments, gates: Tensor) -> ScanInputs:
    score = inputs.score_weight
    return ScanInputs(
        gates=gates,
        weight_hh=inputs.weight_hh,
        key_weight=inputs.key_weight,
        query_weight=inputs.query_weight,
        query_bias=inputs.query_bias,
        score_weight=None if score is None else score.squeeze(0),
        h=inputs.h,
        c=inputs.c,
        memory=inputs.memory,
    )

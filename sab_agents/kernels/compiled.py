"""The scan in compiled C++, for float32 on a CPU: allocates, calls `sab_agents.kernels._native` and gathers.

Dimensions: T steps, B rows, H hidden size, A attention size, S slots, S₀ of them in the starting memory, V = S₀ + T
versions, R = K + 1 slots that a read touches.

The extension is built when the package is installed, where a C++ compiler is there. It takes addresses and sizes and
trusts them: every shape, every dtype and the range of every slot are checked here first.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sab_agents.kernels.checks import check_shapes
from sab_agents.kernels.compiled_products import outer
from sab_agents.kernels.extension import addresses, native, new_empty, threads
from sab_agents.kernels.gather import LoopGradients, input_gradients
from sab_agents.kernels.interface import ScanInputs, ScanOutputs, ScanPlan


def scan(inputs: ScanInputs, plan: ScanPlan) -> ScanOutputs:
    """Computes a scan; gradient flows to every tensor of `inputs`, all of them float32 on the CPU."""
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs):
        outputs: tuple[Tensor, ...] = _Scan.apply(*inputs, plan)  # type: ignore[no-untyped-call]
        return ScanOutputs(*outputs)
    inputs, plan = _contiguous(inputs), _checked(inputs, plan)
    return _outputs(_forward(inputs, plan, keep=False), plan)


class _Tape(NamedTuple):
    """What the forward pass leaves; shapes in native/arguments.h."""

    gates: Tensor
    cell: Tensor
    tanh_cell: Tensor
    output: Tensor
    query: Tensor
    keys: Tensor
    scores: Tensor
    summary: Tensor
    hidden: Tensor
    versions: Tensor
    weights: Tensor


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:
        inputs, plan = _contiguous(ScanInputs(*arguments[:-1])), arguments[-1]
        plan = _checked(inputs, plan)
        tape = _forward(inputs, plan, keep=True)
        ctx.plan = plan
        ctx.save_for_backward(*inputs, *tape)
        ctx.mark_non_differentiable(tape.versions, tape.weights)
        return tuple(_outputs(tape, plan))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_h: Tensor, grad_summary: Tensor, grad_c: Tensor, *_: Tensor) -> tuple[Any, ...]:
        saved, count = ctx.saved_tensors, len(ScanInputs._fields)
        inputs, tape = ScanInputs(*saved[:count]), _Tape(*saved[count:])
        found = _backward(inputs, ctx.plan, tape, grad_h, grad_summary, grad_c)
        any_start = bool(ctx.plan.start.any())
        return (*input_gradients(inputs, ctx.plan, any_start, tape.hidden, tape.output, found, outer), None)


def _contiguous(inputs: ScanInputs) -> ScanInputs:
    return ScanInputs(*(None if x is None else x.contiguous() for x in inputs))  # type: ignore[arg-type]


def _checked(inputs: ScanInputs, plan: ScanPlan) -> ScanPlan:
    """The plan with contiguous tensors, after everything that the compiled code relies on has been checked."""
    check_shapes(inputs, plan, torch.float32)
    (T, B), held = plan.start.shape, plan.filled.shape[1]
    lowest, highest = (int(x) for x in torch.aminmax(plan.write_slot)) if T * B else (-1, -1)
    if lowest < -1 or highest >= plan.slots or held > plan.slots or plan.top_k < 1:
        raise ValueError(
            f"scan: write_slot must lie in -1 … {plan.slots - 1}, slots must be at least {held} and top_k at least 1, "
            f"but write_slot lies in {lowest} … {highest}, slots is {plan.slots} and top_k {plan.top_k}."
        )
    return replace(
        plan,
        start=plan.start.contiguous(),
        cut=plan.cut.contiguous(),
        write_slot=plan.write_slot.contiguous(),
        filled=plan.filled.contiguous(),
    )


def _forward(inputs: ScanInputs, plan: ScanPlan, keep: bool) -> _Tape:
    """Runs the forward pass; with `keep` the tape has every step, without only the last."""
    T, B, width = inputs.gates.shape
    H, A, S, R = width // 4, inputs.query_bias.shape[0], plan.filled.shape[1], plan.top_k + 1
    new, kept = partial(new_empty, inputs.gates), T if keep else 1
    tape = _Tape(
        gates=new(kept, B, 4 * H),
        cell=new(kept + 1 if keep else 1, B, H),
        tanh_cell=new(kept, B, H),
        output=new(kept, B, H),
        query=new(kept, B, A),
        keys=new(S + T if keep else 1, B, A),
        scores=new(kept, B, R),
        summary=new(T, B, H),
        hidden=new(S + T, B, H),
        versions=new(T, B, R, dtype=torch.int64),
        weights=new(T, B, R),
    )
    sizes = (threads(T * B * 4 * H * H), T, B, H, A, plan.slots, S, R, int(keep))
    native.forward(*sizes, *addresses(*inputs, plan.start, plan.write_slot, plan.filled, *tape))
    return tape


def _outputs(tape: _Tape, plan: ScanPlan) -> ScanOutputs:
    return ScanOutputs(tape.hidden[plan.filled.shape[1] :], tape.summary, tape.cell[-1], tape.versions, tape.weights)


def _backward(
    inputs: ScanInputs, plan: ScanPlan, tape: _Tape, grad_h: Tensor, grad_summary: Tensor, grad_c: Tensor
) -> LoopGradients:
    T, B, H = tape.summary.shape
    A, S, R = tape.query.shape[2], plan.filled.shape[1], plan.top_k + 1
    states = new_empty(tape.hidden, *tape.hidden.shape)
    states[:S] = 0
    states[S:] = grad_h
    rows = None if inputs.score_weight is None else tape.query.new_zeros(B, A)
    found = LoopGradients(
        gates=new_empty(tape.gates, *tape.gates.shape),
        states=states,
        keys=torch.zeros_like(tape.keys),
        query=torch.zeros_like(tape.query),
        score_weight=rows,
        cell=grad_c.clone(memory_format=torch.contiguous_format),
    )
    if not grad_summary.is_contiguous():
        grad_summary = new_empty(tape.summary, T, B, H).copy_(grad_summary)
    native.backward(
        *(threads(T * B * 4 * H * H), T, B, H, A, S, R, int(plan.credit)),
        *addresses(inputs.weight_hh, inputs.key_weight, inputs.query_weight, inputs.score_weight),
        *addresses(plan.cut, plan.write_slot, *(x for x in tape if x is not tape.output), grad_summary),
        *addresses(found.cell, found.gates, found.states, found.keys, found.query, rows),
    )
    return found if rows is None else found._replace(score_weight=rows.sum(dim=0))

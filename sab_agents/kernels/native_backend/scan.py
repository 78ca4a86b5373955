"""The scan with the native kernel, for float32 on the CPU: checks and allocates, then calls the extension.

Dimensions: T steps, B rows, H hidden size, A attention size, S slots, S₀ of them in the starting memory, V = S₀ + T
versions, R = K + 1 slots that a read touches.

The extension trusts its arguments: every shape and dtype is checked here first, and the range of every slot there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sab_agents.kernels.native_backend.extension import WHOLE, native, new_empty
from sab_agents.kernels.native_backend.tape import Layout, SentParts, Sizes, TapeParts, layout
from sab_agents.kernels.types import ScanInputs, ScanOutputs, ScanPlan, StepWeights

IN_BUFFER = ("cell", "output", "query", "keys", "scores")
"""The parts of the tape that share a buffer: the others are results or inputs."""

SENT_IN_BUFFER = ("states", "keys", "query", "score_weight")
"""The same of what the backward pass leaves."""


def scan(inputs: ScanInputs, plan: ScanPlan, *, own_gates: bool = False) -> ScanOutputs:
    """Computes a scan; gradient flows to every tensor of `inputs`, all of them float32 on the CPU.

    With `own_gates` it may write over `inputs.gates`.
    """
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs):
        outputs: tuple[Tensor, ...] = _Scan.apply(*inputs, plan, own_gates)  # type: ignore[no-untyped-call]
        return ScanOutputs(*outputs)
    inputs, plan = contiguous(inputs, plan)
    return _outputs(forward(inputs, plan, keep=False), plan)


class Tape(NamedTuple):
    """What the forward pass leaves; shapes in src/arguments.h."""

    gates: Tensor
    buffer: Tensor  # the parts of the tape in `IN_BUFFER`
    summary: Tensor
    hidden: Tensor
    versions: Tensor
    weights: Tensor
    last_cell: Tensor


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:
        inputs, plan = contiguous(ScanInputs(*arguments[:-2]), arguments[-2])
        tape = forward(inputs, plan, keep=True, own_gates=arguments[-1])
        ctx.plan = plan
        ctx.save_for_backward(*inputs, *tape)
        ctx.mark_non_differentiable(tape.versions, tape.weights)
        ctx.set_materialize_grads(False)
        return tuple(_outputs(tape, plan))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        saved, count = ctx.saved_tensors, len(ScanInputs._fields)
        inputs, tape = ScanInputs(*saved[:count]), Tape(*saved[count:])
        return (*backward(inputs, ctx.plan, tape, grads, memory=ctx.needs_input_grad[8]), None, None)


def contiguous(inputs: ScanInputs, plan: ScanPlan) -> tuple[ScanInputs, ScanPlan]:
    """Checks everything that the native kernel relies on but slots, and returns both with contiguous tensors."""
    T, B, width = inputs.gates.shape
    H, A, held = width // 4, inputs.query_bias.shape[0], plan.filled.shape[1]
    shapes = ((T, B, 4 * H), (4 * H, H), (A, H), (A, H), (A,), (A,), (B, H), (B, H), (B, held, H))
    for i, (tensor, shape) in enumerate(zip(inputs, shapes, strict=True)):
        if tensor is not None and (tensor.shape != shape or tensor.dtype != torch.float32 or not tensor.is_cpu):
            _refuse(ScanInputs._fields[i], tensor, shape, torch.float32)
    flags = {"start": (T, B), "cut": (T, B), "filled": (B, held)}
    for name, shape in flags.items():
        tensor = getattr(plan, name)
        if tensor.shape != shape or tensor.dtype != torch.bool or not tensor.is_cpu:
            _refuse(f"plan.{name}", tensor, shape, torch.bool)
    if plan.write_slot.shape != (T, B) or plan.write_slot.dtype != torch.int64 or not plan.write_slot.is_cpu:
        _refuse("plan.write_slot", plan.write_slot, (T, B), torch.int64)
    if held > plan.slots or plan.top_k < 1:
        raise ValueError(
            f"scan: slots must be at least {held} and top_k at least 1, but slots is {plan.slots} and top_k "
            f"{plan.top_k}."
        )
    if not all(x is None or x.is_contiguous() for x in inputs):
        inputs = ScanInputs(*(None if x is None else x.contiguous() for x in inputs))  # type: ignore[arg-type]
    names = ("start", "cut", "write_slot", "filled")
    if not all(getattr(plan, name).is_contiguous() for name in names):
        plan = replace(plan, **{name: getattr(plan, name).contiguous() for name in names})
    return inputs, plan


def _refuse(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    raise ValueError(
        f"scan: {name} must have shape {shape} and dtype {dtype} on the CPU, but has {tuple(tensor.shape)} and "
        f"{tensor.dtype} on {tensor.device}."
    )


def _sizes(inputs: ScanInputs, plan: ScanPlan) -> Sizes:
    T, B, width = inputs.gates.shape
    return Sizes(T, B, width, width // 4, inputs.query_bias.shape[0], plan.filled.shape[1], plan.top_k + 1)


def forward(inputs: ScanInputs, plan: ScanPlan, keep: bool, own_gates: bool = False) -> Tape:
    """Computes the forward pass; with `keep` the tape has every step, else only the last."""
    sizes = _sizes(inputs, plan)
    T, B, inputs_width, H, A, S, R = sizes
    lies = layout(sizes, keep=keep, tape=IN_BUFFER, sent=())
    tape = Tape(
        gates=inputs.gates if own_gates else new_empty(T if keep else 1, B, 4 * H),
        buffer=new_empty(lies.floats),
        summary=new_empty(T, B, H),
        hidden=new_empty(S + T, B, H),
        versions=new_empty(T, B, R, dtype=WHOLE),
        weights=new_empty(T, B, R),
        last_cell=new_empty(B, H),
    )
    in_range = native.Forward(
        threads=sizes.threads,
        steps=T,
        rows=B,
        input=inputs_width,
        size=H,
        attention=A,
        slots=plan.slots,
        held=S,
        reads=R,
        keep=keep,
        gain=plan.gain,
        x=inputs.gates,
        projection=None,
        recurrence=inputs,
        h=inputs.h,
        c=inputs.c,
        memory=inputs.memory,
        start=plan.start,
        write_slot=plan.write_slot,
        filled=plan.filled,
        tape=_parts(tape, lies),
        outputs=None,
        last_output=None,
    ).run()
    if not in_range:
        raise ValueError(
            f"scan: write_slot must lie in -1 … {plan.slots - 1}, but lies in {int(plan.write_slot.min())} … "
            f"{int(plan.write_slot.max())}."
        )
    return tape


def _parts(tape: Tape, lies: Layout) -> TapeParts:
    at, _ = lies.within(tape.buffer)
    return TapeParts(
        gates=tape.gates,
        cell=at.cell,
        output=at.output,
        query=at.query,
        keys=at.keys,
        scores=at.scores,
        summary=tape.summary,
        hidden=tape.hidden,
        versions=tape.versions,
        weights=tape.weights,
        last_cell=tape.last_cell,
    )


def _outputs(tape: Tape, plan: ScanPlan) -> ScanOutputs:
    return ScanOutputs(tape.hidden[plan.filled.shape[1] :], tape.summary, tape.last_cell, tape.versions, tape.weights)


def backward(
    inputs: ScanInputs, plan: ScanPlan, tape: Tape, grads: tuple[Tensor | None, ...], *, memory: bool
) -> ScanInputs:
    """Returns the gradient of every input, given those of h, summary and c; of the memory only if `memory` says so."""
    H, A = inputs.h.shape[1], inputs.query_bias.shape[0]
    weight_hh, key, query, bias = new_empty(4 * H, H), new_empty(A, H), new_empty(A, H), new_empty(A)
    score = None if inputs.score_weight is None else new_empty(A)
    into = StepWeights(None, weight_hh, None, None, key, query, bias, score)  # type: ignore[arg-type]
    gates, h, c, sent = backward_into(inputs, plan, tape, grads, None, into, add=False, memory=memory)
    return ScanInputs(gates, weight_hh, key, query, bias, score, h, c, sent)  # type: ignore[arg-type]


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
    """Writes or adds the gradients of weights to the tensors of `into`, contiguous ones; None if one is not wanted.

    Args:
        inputs: of the scan.
        plan: of the scan.
        tape: of its forward pass.
        grads: of h, summary and c.
        x: (T, B, I) that the gates were computed from, None if `into` has no weight_ih.
        into: where the gradients go.
        add: whether they are added to what is there.
        memory: whether the memory's gradient is wanted.

    Returns:
        The gradients of gates, h, c and the memory.
    """
    sizes = _sizes(inputs, plan)
    T, B, _, H, A, S, R = sizes
    grad_hidden, hidden_stride = _rows(grads[0])
    grad_summary, summary_stride = _rows(grads[1])
    lies = layout(sizes, tape=(), sent=SENT_IN_BUFFER)
    buffer = new_empty(lies.floats)
    _, at = lies.within(buffer)
    gates, h, c = new_empty(T, B, 4 * H), new_empty(B, H), new_empty(B, H)
    starting = new_empty(B, S, H) if memory else None
    native.Backward(
        threads=sizes.threads,
        steps=T,
        rows=B,
        input=0 if x is None else x.shape[2],
        size=H,
        attention=A,
        held=S,
        reads=R,
        credit=plan.credit,
        add=add,
        gain=plan.gain,
        last_only=False,
        hidden_stride=hidden_stride,
        summary_stride=summary_stride,
        grad_hidden=grad_hidden,
        grad_summary=grad_summary,
        grad_last_cell=None if grads[2] is None else grads[2].contiguous(),
        recurrence=inputs,
        x=x,
        h=inputs.h,
        start=plan.start,
        cut=plan.cut,
        write_slot=plan.write_slot,
        tape=_parts(tape, layout(sizes, tape=IN_BUFFER, sent=())),
        sent=SentParts(at.states, at.keys, at.query, at.score_weight, gates, h, c),
        grad_memory=starting,
        gradients=into,
    ).run()
    return gates, h, c, starting


def _rows(grad: Tensor | None) -> tuple[Tensor | None, int]:
    """Returns the gradient (T, B, H) with contiguous rows, and the floats from one row to the next."""
    if grad is None:
        return None, 0
    rows, size = grad.shape[1:]
    if grad.stride() == (rows * grad.stride(1), grad.stride(1), 1) and grad.stride(1) >= size:
        return grad, grad.stride(1)
    return grad.contiguous(), size

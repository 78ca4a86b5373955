"""What stands around a scan, with the native kernel: its steps counted before, and what the memory holds after it.

Dimensions: T steps, B rows, H hidden size, S slots, S₀ of them in the starting memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sab_agents.kernels.native_backend.extension import FLAG, REAL, WHOLE, native, new_empty, threads
from sab_agents.kernels.types import Counted, Held, ScanPlan

COPY_WORK = 32  # multiply-adds that take as long as copying one float


def all_finite(x: Tensor) -> bool:
    """Returns whether no element of x, float32 on the CPU, is NaN or infinite."""
    count = x.numel()
    return bool(native.AllFinite(threads=threads(count * COPY_WORK), count=count, x=x.contiguous()).run())


def count_steps(
    before: Tensor, start: Tensor | None, steps: int, *, slots: int, write_every: int, bptt_steps: int
) -> Counted:
    """Counts the steps of a scan; the arguments as in `sab_agents.kernels.backend.count_steps`."""
    rows = before.shape[0]
    if before.dtype != torch.int64 or (
        start is not None and (start.shape != (steps, rows) or start.dtype != torch.bool)
    ):
        raise ValueError(f"count_steps: before must be int64 and start bool of shape {(steps, rows)}.")
    if slots < 0 or write_every < 1 or bptt_steps < 1:
        raise ValueError(
            f"count_steps: slots must be at least 0, write_every and bptt_steps at least 1, but are {slots}, "
            f"{write_every} and {bptt_steps}."
        )
    step = new_empty(steps, rows, dtype=WHOLE)
    cut = new_empty(steps, rows, dtype=FLAG)
    write_slot = new_empty(steps, rows, dtype=WHOLE)
    highest = native.Count(
        steps=steps,
        rows=rows,
        slots=slots,
        write_every=write_every,
        bptt_steps=bptt_steps,
        start=None if start is None else start.contiguous(),
        before=before.contiguous(),
        step=step,
        cut=cut,
        write_slot=write_slot,
    ).run()
    return Counted(step, cut, write_slot, highest)


def remember(plan: ScanPlan, step: Tensor, written_at: Tensor, memory: Tensor, hidden: Tensor) -> Held:
    """What the memory holds after a scan; the arguments as in `sab_agents.kernels.backend.remember`."""
    tensors = (plan.start, plan.write_slot, step, plan.filled, written_at, memory, hidden)
    (T, B, H), held = hidden.shape, plan.filled.shape[1]
    shapes = ((T, B), (T, B), (T, B), (B, held), (B, held), (B, held, H), (T, B, H))
    dtypes = (FLAG, WHOLE, WHOLE, FLAG, WHOLE, REAL, REAL)
    for tensor, shape, dtype in zip(tensors, shapes, dtypes, strict=True):
        if tensor.shape != shape or tensor.dtype != dtype or not tensor.is_cpu or held > plan.slots:
            raise ValueError(
                f"remember: expected {dtype} of shape {shape}, got {tensor.dtype} of {tuple(tensor.shape)}."
            )
    if torch.is_grad_enabled() and (memory.requires_grad or hidden.requires_grad):
        found: tuple[Tensor, ...] = _Remember.apply(*tensors, plan.slots)  # type: ignore[no-untyped-call]
    else:
        found = _remember(*tensors, plan.slots)
    return Held(*found[:3])


def _remember(*arguments: Any) -> tuple[Tensor, ...]:
    """Returns the new memory, filled and written_at, and the versions that are held, (B, S)."""
    *tensors, slots = arguments
    start, write_slot, step, filled, written_at, memory, hidden = (tensor.contiguous() for tensor in tensors)
    (T, B, H), held = hidden.shape, filled.shape[1]
    versions = new_empty(B, slots, dtype=WHOLE)
    new_filled = new_empty(B, slots, dtype=FLAG)
    new_written_at = new_empty(B, slots, dtype=WHOLE)
    new_memory = new_empty(B, slots, H)
    in_range = native.Remember(
        threads=threads(B * slots * H * COPY_WORK),
        steps=T,
        rows=B,
        size=H,
        slots=slots,
        held=held,
        start=start,
        write_slot=write_slot,
        step=step,
        filled=filled,
        written_at=written_at,
        memory=memory,
        hidden=hidden,
        versions=versions,
        new_filled=new_filled,
        new_written_at=new_written_at,
        new_memory=new_memory,
    ).run()
    if not in_range:
        raise ValueError(f"remember: write_slot must lie below {slots}.")
    return new_memory, new_filled, new_written_at, versions


class _Remember(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:
        found = _remember(*arguments)
        ctx.save_for_backward(found[3])
        ctx.held, ctx.steps = int(arguments[5].shape[1]), int(arguments[6].shape[0])
        ctx.mark_non_differentiable(*found[1:])
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        (versions,) = ctx.saved_tensors
        B, H = grad.shape[0], grad.shape[2]
        rows = versions * B + torch.arange(B).unsqueeze(1)
        filled = versions >= 0
        sent = grad.new_zeros((ctx.held + ctx.steps) * B, H)
        sent[rows[filled]] = grad[filled]  # no version is in two slots of a row
        sent = sent.view(ctx.held + ctx.steps, B, H)
        return (None, None, None, None, None, sent[: ctx.held].transpose(0, 1), sent[ctx.held :], None)

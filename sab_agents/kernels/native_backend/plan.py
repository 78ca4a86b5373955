"""What stands around a scan in compiled C++: counting its steps before, and what the memory holds after it.

Dimensions: T steps, B rows, H hidden size, S slots, S₀ of them in the starting memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sab_agents.kernels.native_backend.extension import addresses, native, new_empty, threads
from sab_agents.kernels.native_backend.step import fits
from sab_agents.kernels.types import Counted, Held, ScanPlan

COPY_WORK = 32  # multiply-adds that take as long as copying one number


def all_finite(x: Tensor) -> bool:
    """Whether no number of x, float32 on the CPU, is NaN or infinite."""
    x = x.contiguous()
    return bool(native.all_finite(threads(x.numel() * COPY_WORK), x.numel(), x.data_ptr()))


def slot_order(key: Tensor | None, filled: Tensor, written_at: Tensor, count: int, spared: int) -> Tensor | None:
    """The slots that the next writes take, (B, count) int64; None where an argument is not what the code takes.

    Args:
        key: (B, S) the smallest goes first, the older of equals; None for the oldest.
        filled: (B, S) bool; empty slots go before all others.
        written_at: (B, S) int64.
        count: slots that are wanted, at most S.
        spared: so many of the newest come last, at most S.
    """
    B, S = filled.shape
    kinds = (filled, torch.bool), (written_at, torch.int64), *([] if key is None else [(key, torch.float32)])
    if not all(fits(tensor, (B, S), dtype) for tensor, dtype in kinds):
        return None
    order = new_empty(B, count, dtype=torch.int64)
    native.order(B, S, count, spared, *addresses(key, filled, written_at, order))
    return order


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
    before, start = before.contiguous(), None if start is None else start.contiguous()
    step = new_empty(steps, rows, dtype=torch.int64)
    cut = new_empty(steps, rows, dtype=torch.bool)
    write_slot = new_empty(steps, rows, dtype=torch.int64)
    sizes = (steps, rows, slots, write_every, bptt_steps)
    highest = native.count(*sizes, *addresses(start, before, step, cut, write_slot))
    return Counted(step, cut, write_slot, highest)


def remember(plan: ScanPlan, step: Tensor, written_at: Tensor, memory: Tensor, hidden: Tensor) -> Held:
    """What the memory holds after a scan; the arguments as in `sab_agents.kernels.backend.remember`."""
    tensors = (plan.start, plan.write_slot, step, plan.filled, written_at, memory, hidden)
    (T, B, H), held = hidden.shape, plan.filled.shape[1]
    shapes = ((T, B), (T, B), (T, B), (B, held), (B, held), (B, held, H), (T, B, H))
    flag, whole, real = torch.bool, torch.int64, torch.float32
    dtypes = (flag, whole, whole, flag, whole, real, real)
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
    """Memory, filled, written_at, and the versions that are held, (B, S)."""
    tensors, slots = [tensor.contiguous() for tensor in arguments[:-1]], arguments[-1]
    (T, B, H), held = tensors[6].shape, tensors[3].shape[1]
    versions = new_empty(B, slots, dtype=torch.int64)
    filled = new_empty(B, slots, dtype=torch.bool)
    written_at = new_empty(B, slots, dtype=torch.int64)
    memory = new_empty(B, slots, H)
    sizes = (threads(B * slots * H * COPY_WORK), T, B, H, slots, held)
    if not native.remember(*sizes, *addresses(*tensors, versions, filled, written_at, memory)):
        raise ValueError(f"remember: write_slot must lie below {slots}.")
    return memory, filled, written_at, versions


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

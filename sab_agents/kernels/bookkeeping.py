"""What stands around a scan, in whole numbers: where its steps stand, which slots are written, what the memory holds.

Dimensions: T steps, B rows, H hidden size, S slots, S₀ of them in the starting memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sab_agents.kernels.backend import NATIVE, forced_way, is_known, is_plain, runs_native
from sab_agents.kernels.native_backend import bookkeeping as native_backend
from sab_agents.kernels.native_backend import extension
from sab_agents.kernels.torch_backend import bookkeeping as torch_backend
from sab_agents.kernels.types import Counted, Held, ScanPlan, check_remember


def count_steps(
    before: Tensor,
    start: Tensor | None,
    steps: int,
    *,
    slots: int,
    write_every: int,
    bptt_steps: int,
    held: int = 0,
) -> Counted:
    """Counts the steps of a scan from the start of their episodes, and plans its cuts and writes.

    Args:
        before: (B,) int64, steps that each row's episode took before.
        start: (T, B) bool, episode starts, or None for none.
        steps: T.
        slots: of the ring that is written to; 0 for as many as are written.
        write_every: steps between two writes.
        bptt_steps: steps between two cuts.
        held: slots that the memory has; without a ring, they bound the highest slot where nobody can read how many
            steps each row took: in a trace, under a transform, on the meta device.

    Raises:
        ValueError: a shape or dtype does not fit, or a number is out of range.
    """
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
    sizes = {"slots": slots, "write_every": write_every, "bptt_steps": bptt_steps}
    if _counts_natively(before, start):
        return native_backend.count_steps(before, start, steps, **sizes)
    step, cut, write_slot = torch_backend.count_steps(before, start, steps, **sizes)
    if slots:
        highest = slots - 1
    elif is_known(write_slot):
        highest = int(write_slot.max())
    else:
        highest = held + -(-steps // write_every) - 1
    return Counted(step, cut, write_slot, highest)


def remember(plan: ScanPlan, step: Tensor, written_at: Tensor, memory: Tensor, hidden: Tensor) -> Held:
    """What the memory holds after a scan; gradient flows from it into `memory` and `hidden`.

    Args:
        plan: of the scan.
        step: (T, B) int64, 1-based step of its episode.
        written_at: (B, S₀) int64, 0-based step of the episode at which the slots of the starting memory were written.
        memory: (B, S₀, H), the starting memory.
        hidden: (T, B, H), the scan's h.

    Raises:
        ValueError: a shape, dtype or device does not fit, or a slot is out of range (on a CPU).
    """
    check_remember(plan, step, written_at, memory, hidden)
    tensors = plan.start, plan.write_slot, plan.filled, step, written_at, memory, hidden
    if not runs_native(hidden, *tensors):
        versions, filled, times = torch_backend.last_versions(plan, step, written_at)
        return Held(torch_backend.stored(versions, memory, hidden), filled, times)
    if torch.is_grad_enabled() and (memory.requires_grad or hidden.requires_grad):
        found: tuple[Tensor, ...] = _Remember.apply(plan, step, written_at, memory, hidden)  # type: ignore[no-untyped-call]
        return Held(*found)
    return Held(*native_backend.remember(plan, step, written_at, memory, hidden)[:3])


class _Remember(torch.autograd.Function):
    """What the memory holds, copied by the native kernel; its backward pass is differentiable itself."""

    @staticmethod
    def forward(ctx: Any, plan: ScanPlan, *tensors: Tensor) -> tuple[Tensor, ...]:
        *found, versions = native_backend.remember(plan, *tensors)
        ctx.save_for_backward(versions)
        ctx.held, ctx.steps = tensors[2].shape[1], tensors[3].shape[0]
        ctx.mark_non_differentiable(*found[1:])
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        (versions,) = ctx.saved_tensors
        to_memory, to_hidden = torch_backend.stored_backward(versions, grad, ctx.held, ctx.steps)
        return None, None, None, to_memory, to_hidden


def _counts_natively(*tensors: Tensor | None) -> bool:
    """Whether the native kernel counts: it does on a CPU whatever the dtype of the scan, unless another is forced."""
    return (
        extension.native is not None
        and forced_way() in {"", NATIVE}
        and is_plain(*tensors)
        and all(tensor is None or tensor.is_cpu for tensor in tensors)
    )

"""What stands around a scan, by the native kernel; see `sab_agents.kernels.bookkeeping`.

Dimensions: T steps, B rows, S slots, S₀ of them in the starting memory.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sab_agents.kernels.native_backend.extension import addresses, native, new_empty, threads
from sab_agents.kernels.types import Counted, ScanPlan

COPY_WORK = 32  # multiply-adds that take as long as copying one number


def all_finite(x: Tensor) -> bool:
    """Whether no number of x, float32 on the CPU, is NaN or infinite."""
    x = x.contiguous()
    return bool(native.all_finite(threads(x.numel() * COPY_WORK), x.numel(), x.data_ptr()))


def slot_order(key: Tensor | None, filled: Tensor, written_at: Tensor, count: int, spared: int) -> Tensor:
    """The slots that the next writes take, (B, count) int64; see `sab_agents.kernels.bookkeeping`.

    Raises:
        ValueError: a shape or dtype does not fit.
    """
    B, S = filled.shape
    kinds = (filled, torch.bool), (written_at, torch.int64), *([] if key is None else [(key, torch.float32)])
    if any(tensor.shape != (B, S) or tensor.dtype is not dtype for tensor, dtype in kinds) or count > S or spared > S:
        raise ValueError(
            f"slot_order: filled must be bool, written_at int64 and key float32 of shape (B, S), and count and spared "
            f"at most S, but filled has shape {(B, S)} and they are {count} and {spared}."
        )
    tensors = [None if tensor is None else tensor.contiguous() for tensor in (key, filled, written_at)]
    order = new_empty(B, count, dtype=torch.int64)
    native.order(B, S, count, spared, *addresses(*tensors, order))
    return order


def count_steps(
    before: Tensor, start: Tensor | None, steps: int, *, slots: int, write_every: int, bptt_steps: int
) -> Counted:
    """Counts the steps of a scan; the arguments are checked."""
    rows = before.shape[0]
    before, start = before.contiguous(), None if start is None else start.contiguous()
    step = new_empty(steps, rows, dtype=torch.int64)
    cut = new_empty(steps, rows, dtype=torch.bool)
    write_slot = new_empty(steps, rows, dtype=torch.int64)
    sizes = (steps, rows, slots, write_every, bptt_steps)
    highest = native.count(*sizes, *addresses(start, before, step, cut, write_slot))
    return Counted(step, cut, write_slot, highest)


def last_versions(plan: ScanPlan, step: Tensor, written_at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each slot after a scan, (B, S): its version, −1 if it is empty; whether it is filled; when it was written.

    Raises:
        ValueError: a slot is out of range.
    """
    start, write_slot, step, held, times = (
        tensor.contiguous() for tensor in (plan.start, plan.write_slot, step, plan.filled, written_at)
    )
    (T, B), slots, none = start.shape, plan.slots, new_empty(1)
    versions = new_empty(B, slots, dtype=torch.int64)
    filled = new_empty(B, slots, dtype=torch.bool)
    new_times = new_empty(B, slots, dtype=torch.int64)
    # Hidden states of size zero: what they hold is gathered by differentiable operations.
    sizes = (threads(B * slots * COPY_WORK), T, B, 0, slots, held.shape[1])
    tensors = (start, write_slot, step, held, times, none, none, versions, filled, new_times, none)
    if not native.remember(*sizes, *addresses(*tensors)):
        raise ValueError(f"remember: write_slot must lie below {slots}.")
    return versions, filled, new_times

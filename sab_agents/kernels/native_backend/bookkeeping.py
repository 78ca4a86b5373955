"""What stands around a scan, with the native kernel; see `sab_agents.kernels.bookkeeping`.

Dimensions: T steps, B rows, H hidden size, S slots.
"""

from __future__ import annotations

from torch import Tensor

from sab_agents.kernels.native_backend.extension import FLAG, WHOLE, native, new_empty, threads
from sab_agents.kernels.types import Counted, ScanPlan

COPY_WORK = 32  # multiply-adds that take as long as copying one float


def count_steps(
    before: Tensor, start: Tensor | None, steps: int, *, slots: int, write_every: int, bptt_steps: int
) -> Counted:
    """Counts the steps of a scan; the arguments are checked."""
    rows = before.shape[0]
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


def remember(
    plan: ScanPlan, step: Tensor, written_at: Tensor, memory: Tensor, hidden: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns the new memory, filled and written_at, and the versions that are held, (B, S); without gradient.

    Raises:
        ValueError: a slot is out of range.
    """
    (T, B, H), held, slots = hidden.shape, plan.filled.shape[1], plan.slots
    if hidden.stride() != (B * hidden.stride(1), hidden.stride(1), 1):
        hidden = hidden.contiguous()
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
        stride=hidden.stride(1),
        start=plan.start.contiguous(),
        write_slot=plan.write_slot.contiguous(),
        step=step.contiguous(),
        filled=plan.filled.contiguous(),
        written_at=written_at.contiguous(),
        memory=memory.contiguous(),
        hidden=hidden,
        versions=versions,
        new_filled=new_filled,
        new_written_at=new_written_at,
        new_memory=new_memory,
    ).run()
    if not in_range:
        raise ValueError(f"remember: write_slot must lie below {slots}.")
    return new_memory, new_filled, new_written_at, versions

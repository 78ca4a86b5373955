"""What stands around a scan, with the native kernel; see `sab_agents.kernels.bookkeeping`.

Dimensions: T steps, B rows, S slots, S₀ of them in the starting memory.
"""

from __future__ import annotations

from torch import Tensor

from sab_agents.kernels.native_backend.extension import FLAG, WHOLE, native, new_empty, threads
from sab_agents.kernels.types import Counted, ScanPlan

COPY_WORK = 32  # multiply-adds that take as long as copying one float


def all_finite(x: Tensor) -> bool:
    """Returns whether no element of x, float32 on the CPU, is NaN or infinite."""
    count = x.numel()
    return bool(native.AllFinite(threads=threads(count * COPY_WORK), count=count, x=x.contiguous()).run())


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


def last_versions(plan: ScanPlan, step: Tensor, written_at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each slot after a scan, (B, S): its version, −1 if it is empty; whether it is filled; when it was written.

    Raises:
        ValueError: a slot is out of range.
    """
    (T, B), slots, none = plan.start.shape, plan.slots, new_empty(0)
    versions = new_empty(B, slots, dtype=WHOLE)
    filled = new_empty(B, slots, dtype=FLAG)
    new_written_at = new_empty(B, slots, dtype=WHOLE)
    in_range = native.Remember(
        threads=threads(B * slots * COPY_WORK),
        steps=T,
        rows=B,
        size=0,  # what the slots hold is gathered by differentiable operations
        slots=slots,
        held=plan.filled.shape[1],
        start=plan.start.contiguous(),
        write_slot=plan.write_slot.contiguous(),
        step=step.contiguous(),
        filled=plan.filled.contiguous(),
        written_at=written_at.contiguous(),
        memory=none,
        hidden=none,
        versions=versions,
        new_filled=filled,
        new_written_at=new_written_at,
        new_memory=none,
    ).run()
    if not in_range:
        raise ValueError(f"remember: write_slot must lie below {slots}.")
    return versions, filled, new_written_at

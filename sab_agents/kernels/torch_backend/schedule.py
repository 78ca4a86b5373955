"""What a scan's loop must know at each step before it runs, read from the plan once and kept as Python numbers.

Dimensions: T steps, B rows, S slots.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sab_agents.kernels.types import ScanPlan

NO_WRITE = -1
MIXED_WRITE = -2


@dataclass(frozen=True)
class Schedule:
    """Flags of the plan, one per step, as Python lists: a loop that reads a tensor's element waits for the device.

    Attributes:
        any_start: some row starts an episode.
        any_cut: some row enters the step without gradient.
        all_cut: every row does.
        write: the slot that every row writes to, NO_WRITE where none writes, MIXED_WRITE where rows differ.
        extent: slots 0 … extent − 1 hold everything that can be filled when the step reads.
        masked: some of those may be empty in some row.
    """

    any_start: list[bool]
    any_cut: list[bool]
    all_cut: list[bool]
    write: list[int]
    extent: list[int]
    masked: list[bool]


def make_schedule(plan: ScanPlan) -> Schedule:
    """Reads the plan's tensors once."""
    start, cut, write_slot, filled = (x.cpu() for x in (plan.start, plan.cut, plan.write_slot, plan.filled))
    steps, held = start.shape[0], filled.shape[1]
    first = write_slot[:, 0]
    same = (write_slot == first[:, None]).all(dim=1)
    write = torch.where(same, first, torch.full_like(first, MIXED_WRITE))

    occupied = torch.arange(1, held + 1).where(filled.any(dim=0), torch.zeros((), dtype=torch.int64))
    extent = torch.zeros(steps, dtype=torch.int64)
    extent[0] = occupied.max() if held else 0
    extent[1:] = write_slot.amax(dim=1)[:-1] + 1
    extent = extent.cummax(dim=0).values

    # Without a mask: nothing was ever emptied, and slots were filled by all rows together, in order, from the first.
    prefix = int(extent[0])
    in_order = bool(filled[:, :prefix].all()) and not bool(plan.start[1:].any() | plan.start[0].any() & (prefix > 0))
    grown = (write[:-1] <= extent[:-1]) & (write[:-1] != MIXED_WRITE)
    unmasked = torch.cat([torch.tensor([in_order]), in_order & (grown.cumprod(dim=0) > 0)])
    return Schedule(
        any_start=start.any(dim=1).tolist(),
        any_cut=cut.any(dim=1).tolist(),
        all_cut=cut.all(dim=1).tolist(),
        write=write.tolist(),
        extent=extent.tolist(),
        masked=(~unmasked).tolist(),
    )

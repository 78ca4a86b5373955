"""How much each slot was read and credited.

Dimensions: T steps of a window, B rows, S slots, R = top_k + 1 slots that a step touches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sab_agents.core.state import SABState, State
from sab_agents.streaming.contexts import Record


@dataclass(frozen=True)
class SlotStatistics(State):
    """What each slot has been good for; zeros for an empty one.

    Attributes:
        usage: (B, S) decayed sum of the attention weights with which it was read.
        credit: (B, S) decayed sum of the norms of the gradients that reached it.
    """

    usage: Tensor
    credit: Tensor


def counted(
    statistics: SlotStatistics,
    record: Record,
    weight: Tensor,
    reached: Tensor,
    kept: Tensor,
    state: SABState,
    decay: float,
) -> SlotStatistics:
    """The statistics after a window, of what is still held.

    Args:
        statistics: before the window.
        record: the window.
        weight: (T, B, R) attention weights of its reads.
        reached: (B, S) norms of the gradient that reached each slot as it was before the window.
        kept: (B, S) bool, slots that hold what they held before the window.
        state: after the window.
        decay: for each step.
    """
    T, B = record.step.shape
    usage, credit = statistics.usage, statistics.credit
    # A read counts for what it read: not for what was written over that since, nor for another episode's.
    read_slot, time = record.read_slot.clamp(min=0), torch.arange(T, device=weight.device).unsqueeze(1)
    last_start = time.where(record.start, time.new_tensor(-1)).amax(dim=0)
    same = state.written_at.unsqueeze(0).expand(T, B, -1).gather(2, read_slot) == record.read_step
    same &= (record.read_slot >= 0) & (time >= last_start).unsqueeze(2)
    faded = decay ** (T - 1 - time).unsqueeze(2)
    read = (weight * same * faded).transpose(0, 1).flatten(1)
    slots = read_slot.transpose(0, 1).flatten(1)
    fading = kept * decay**T
    return SlotStatistics((usage * fading).scatter_add(1, slots, read), (credit + reached) * fading)

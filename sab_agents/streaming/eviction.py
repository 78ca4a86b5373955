"""Which slot a write takes when the memory is full, and which writes are worth a slot.

Dimensions: B rows, S slots, H hidden size.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from sab_agents.core.state import SABState
from sab_agents.kernels import slot_order
from sab_agents.streaming.statistics import SlotStatistics

Eviction = Literal["oldest", "least_used", "least_credited", "most_redundant", "reservoir"]
EVICTIONS: tuple[Eviction, ...] = get_args(Eviction)
Write = Literal["every", "novel"]
WRITES: tuple[Write, ...] = get_args(Write)

PROTECTED = 4
"""The newest S / 4 slots are protected from the rules that go by what a slot has been good for."""


def next_slots(rule: Eviction, state: SABState, statistics: SlotStatistics, count: int) -> Tensor:
    """The first `count` slots of `eviction_order`, (B, count) int64."""
    key, spared = _key(rule, state, statistics)
    return slot_order(key, state.filled, state.written_at, count, spared)


def eviction_order(rule: Eviction, state: SABState, statistics: SlotStatistics) -> Tensor:
    """The slots in the order in which writes take them: (B, S) int64, empty ones first, then by the rule.

    Args:
        rule: "oldest"; "least_used"; "least_credited"; or "most_redundant", the one that lies closest to a newer one.
            "reservoir" draws instead: see `reservoir_slots`.
        state: the memory.
        statistics: of its slots.
    """
    return next_slots(rule, state, statistics, state.slots)


def _key(rule: Eviction, state: SABState, statistics: SlotStatistics) -> tuple[Tensor | None, int]:
    """What decides between filled slots, (B, S), the smallest going first, and how many of the newest are spared.

    None where the oldest goes first.
    """
    if rule == "oldest":
        return None, 0
    if rule == "most_redundant":
        return _distance_to_a_newer(state), 0
    return statistics.usage if rule == "least_used" else statistics.credit, state.slots // PROTECTED


def reservoir_slots(slots: int, count: Tensor, generator: torch.Generator | None) -> Tensor:
    """A slot for the `count`-th write (B,) of each row's episode, (B,) int64, −1 where it is not kept.

    Algorithm R (Vitter, 1985): the first S writes fill the memory; the i-th after that is kept with probability S / i,
    in place of a slot drawn at random, so that what is held is a uniform sample of the episode so far.
    """
    draw = torch.rand(count.shape, generator=generator, dtype=torch.float64).to(count.device)
    slot = (draw * count).long()
    slot = torch.where(count <= slots, count - 1, slot)  # nothing to replace as long as a slot is empty
    return slot.masked_fill(slot >= slots, -1)


def is_novel(h: Tensor, state: SABState, novelty: float) -> Tensor:
    """Which rows' h (B, H) is farther than `novelty` · ‖h‖ from every slot that is held, (B,) bool."""
    # By differences: of near vectors, products keep no digit of the distance in float32.
    exact = "donot_use_mm_for_euclid_dist"
    distance = (
        torch.cdist(h.unsqueeze(1), state.memory, compute_mode=exact).squeeze(1).masked_fill(~state.filled, torch.inf)
    )
    novel: Tensor = distance.amin(dim=1) > novelty * h.norm(dim=1)
    return novel


def _distance_to_a_newer(state: SABState) -> Tensor:
    """From each slot to the nearest one that was written after it, (B, S); infinite for the newest."""
    newer = state.written_at.unsqueeze(1) > state.written_at.unsqueeze(2)
    newer &= state.filled.unsqueeze(1)
    return torch.cdist(state.memory, state.memory).masked_fill(~newer, torch.inf).amin(dim=2)

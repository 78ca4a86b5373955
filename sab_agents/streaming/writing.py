"""Decides at each step whether a row writes, and to which slot.

Dimensions: B rows, S slots, H hidden size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sab_agents.core.state import SABState
from sab_agents.streaming.eviction import (
    EVICTIONS,
    PROTECTED,
    WRITES,
    Eviction,
    Write,
    next_slots,
    reservoir_slots,
)
from sab_agents.streaming.statistics import SlotStatistics


class SlotWriter:
    """The rules of writing and eviction of B rows, and what they must remember between steps.

    Args:
        eviction: which slot is taken when all are filled.
        write: "every" or "novel".
        novelty: see `is_novel`.
        write_every: steps between two writes.
        seed: of the reservoir.

    Raises:
        ValueError: a setting is out of range.
    """

    def __init__(self, eviction: Eviction, write: Write, novelty: float, write_every: int, seed: int) -> None:
        for name, value, known in (("eviction", eviction, EVICTIONS), ("write", write, WRITES)):
            if value not in known:
                raise ValueError(f"SABStream: {name} must be one of {', '.join(map(repr, known))}, but is {value!r}.")
        if not 0 <= novelty < float("inf"):
            raise ValueError(f"SABStream: novelty must be at least 0 and finite, but is {novelty!r}.")
        self.eviction: Eviction = eviction
        self.write: Write = write
        self.novelty = novelty
        self.write_every = write_every
        self.generator = torch.Generator().manual_seed(seed)
        self.offered = torch.empty(0)  # (B,) writes since the episode's start, whether the reservoir kept them or not
        self.order = torch.empty(0)  # (B, n) the slots that the next n writes take
        self.taken = torch.empty(0)  # (B,) how many of these each row has used
        self.planned = 0  # steps since they were planned
        self.limit = (
            torch.tensor([novelty], dtype=torch.float32, device="cpu") if write == "novel" else None
        )  # for compiled code

    def reset(self, state: SABState, statistics: SlotStatistics) -> None:
        """Begins with an empty memory."""
        self.offered = torch.zeros_like(state.step)
        self.plan(state, statistics)

    def choose(
        self, novel: Tensor | None, state: SABState, step: Tensor, start: Tensor, statistics: SlotStatistics
    ) -> Tensor:
        """The slot that each row writes to, (B,) int64, −1 for none.

        Args:
            novel: (B,) bool, rows whose h is worth a slot; None for all.
            state: before the step, already emptied where an episode starts.
            step: (B,) 1-based step of the episode.
            start: (B,) bool, episode starts.
            statistics: of the slots, as far as they are counted.
        """
        writes = step % self.write_every == 0
        if novel is not None:
            writes &= novel
        if self.draws:
            self.offered = self.offered.masked_fill(start, 0) + writes
            return reservoir_slots(state.slots, self.offered, self.generator).masked_fill(~writes, -1)
        if self.due:
            self.plan(state, statistics)
        slot = self.order.gather(1, self.taken.unsqueeze(1)).squeeze(1)
        self.taken = self.taken + writes
        self.planned += 1
        return slot.masked_fill(~writes, -1)

    @property
    def draws(self) -> bool:
        """Whether slots are drawn, and not planned."""
        return self.eviction == "reservoir"

    @property
    def due(self) -> bool:
        """Whether the next write needs a new plan."""
        return self.planned == self.order.shape[1]

    def plan(self, state: SABState, statistics: SlotStatistics) -> None:
        """Chooses the slots that the next writes take, some at a time: sorting all slots at each step would cost."""
        self.order = next_slots(self.eviction, state, statistics, max(1, state.slots // PROTECTED))
        self.taken = torch.zeros_like(state.step)
        self.planned = 0

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on identically."""
        return {
            "generator": self.generator.get_state(),
            "offered": self.offered,
            "order": self.order,
            "taken": self.taken,
            "planned": torch.tensor(self.planned),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Goes on where `state_dict` was taken."""
        self.generator.set_state(saved["generator"])
        self.offered, self.order, self.taken = (saved[name].clone() for name in ("offered", "order", "taken"))
        self.planned = int(saved["planned"])

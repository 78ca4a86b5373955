"""Which past steps a stream's losses credited, how far back, and how much.

Dimensions: B rows, S slots.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from sab_agents.streaming import Credit


class Entry(NamedTuple):
    """One slot that was credited by one window.

    Attributes:
        row: stream.
        loss_step: last step of the window whose loss it was, counted from the stream's first step, 0.
        credited_step: step that wrote the slot.
        norm: of the gradient that reached the slot.
    """

    row: int
    loss_step: int
    credited_step: int
    norm: float


@dataclass(frozen=True)
class CreditReport:
    """What was credited.

    Attributes:
        entries: the latest ones, oldest first.
        slots: slots credited so far in all.
        pieces: pieces replayed so far.
        dropped: links that were not followed because the memory no longer held what they led to.
        by_distance: for each power of two, {1: …, 2: …, 4: …}, the fraction of all credit that went back at least so
            many steps and less than twice as many.
    """

    entries: tuple[Entry, ...]
    slots: int
    pieces: int
    dropped: int
    by_distance: dict[int, float]

    def __str__(self) -> str:
        lines = [f"{self.slots} slots credited in {self.pieces} replayed pieces, {self.dropped} links dropped"]
        for distance, part in self.by_distance.items():
            lines.append(f"{distance:>9} … {2 * distance - 1:<9} {part:6.1%} {'█' * round(40 * part)}")
        return "\n".join(lines)


class CreditLedger:
    """Keeps the latest entries and totals; its size does not grow with the stream."""

    LENGTH, DISTANCES = 1000, 48

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque(maxlen=self.LENGTH)
        self.slots = self.pieces = self.dropped = 0
        self.weight = [0.0] * self.DISTANCES

    def add(self, credit: Credit, written_at: Tensor, episode_step: Tensor, first_step: int, loss_step: int) -> None:
        """Counts what a window credited. A norm that is not finite, of a window that overflowed, is left out.

        Args:
            credit: from `Stream.credit`.
            written_at: (B, S) of the memory before the window.
            episode_step: (B,) steps of each row's episode before the window.
            first_step: steps of the stream before the window.
            loss_step: see `Entry`.
        """
        self.pieces += credit.pieces
        self.dropped += credit.dropped
        norm = credit.norm.cpu().numpy()
        rows, slots = np.nonzero((norm != 0) & np.isfinite(norm))
        if not len(rows):
            return
        norms = norm[rows, slots].tolist()
        began = first_step - episode_step.cpu().numpy()[rows]
        credited = (began + written_at.cpu().numpy()[rows, slots]).tolist()
        self.slots += len(norms)
        for step, weight in zip(credited, norms, strict=True):
            self.weight[max(loss_step - step, 1).bit_length() - 1] += weight
        self.entries.extend(map(Entry, rows.tolist(), repeat(loss_step), credited, norms))

    def report(self) -> CreditReport:
        """Returns what was credited so far."""
        total = sum(self.weight)
        parts = {2**k: weight / total for k, weight in enumerate(self.weight) if weight > 0}
        return CreditReport(tuple(self.entries), self.slots, self.pieces, self.dropped, parts)

    def state_dict(self) -> dict[str, Any]:
        """Returns everything as values that JSON can hold."""
        return {
            "length": self.entries.maxlen,
            "entries": [list(entry) for entry in self.entries],
            "counts": [self.slots, self.pieces, self.dropped],
            "weight": self.weight,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resumes from what `state_dict` returned."""
        self.entries = deque((Entry(*entry) for entry in state_dict["entries"]), maxlen=state_dict["length"])
        self.slots, self.pieces, self.dropped = state_dict["counts"]
        self.weight = list(state_dict["weight"])

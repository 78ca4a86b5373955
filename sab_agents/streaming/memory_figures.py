"""Figures of what a memory does: whether it is written and read, by which steps, and what it is credited.

Whoever reports on a stream takes them from here, under the names that they have here.

Dimensions: T steps of a window, B rows, K slots that a step touches, S slots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor

from sab_agents.core import SABState
from sab_agents.streaming.base import Stream
from sab_agents.streaming.sab import SABStream
from sab_agents.streaming.slots import SlotState

RECORDED = ("start", "step", "read_step", "weight", "write_slot")
"""What `Reads` are made of, by its names in `WindowRecord`."""
TAKEN = 0.01
"""A read whose weights sum to less has declined, and a slot whose usage is less is not in use."""


class Reads(NamedTuple):
    """The reads and writes of some steps.

    Attributes:
        time: (T,) int64, of the steps, on any clock that all of them share.
        distance: (T, B, K) int64, steps from the write of what was read to the step that read it.
        weight: (T, B, K) attention weights.
        before: (T, B, K) bool, whether what was read was written before the window, so that only credit reaches it.
        held: (T, B) bool, whether any slot was filled when the step read.
        written: (T, B) bool, whether the step wrote.
    """

    time: Tensor
    distance: Tensor
    weight: Tensor
    before: Tensor
    held: Tensor
    written: Tensor

    @classmethod
    def of(cls, steps: Mapping[str, Tensor], filled: Tensor, first: int = 0) -> Self:
        """Returns the reads of a window.

        Args:
            steps: what `WindowRecord` describes under each of the names in `RECORDED`, (T, B, …).
            filled: (B,) bool, whether any slot was filled before the window.
            first: time of the first step.
        """
        start, step, read_step, weight, write_slot = (steps[name] for name in RECORDED)
        held, written = torch.empty_like(start), write_slot >= 0
        for t in range(len(start)):
            held[t] = filled = filled & ~start[t]
            filled = filled | written[t]
        place = torch.arange(len(start), device=start.device)
        distance = step.unsqueeze(2) - 1 - read_step
        return cls(first + place, distance, weight, distance > place.view(-1, 1, 1), held, written)

    @classmethod
    def joined(cls, windows: Sequence[Self]) -> Self:
        """Returns the steps of several windows of the same rows."""
        return cls(*(torch.cat(parts) for parts in zip(*windows, strict=True)))

    def figures(self) -> dict[str, float]:
        """Returns the figures of these steps; those of reads are missing where there were none.

        Returns:
            write_rate: fraction of the steps that wrote.
            reading_steps: fraction of the steps that read something.
            declined_reads: fraction of the steps with a filled slot that read nothing: all scores tied, or it declined.
            read_distance: mean steps back, weighted by attention.
            read_before: fraction of the attention that went to what was written before the window.
            read_memories: how many different memories a row read, the exponential of the entropy of their weights.
            read_change: mean distance (total variation) of what a step read from what its row reads on average: 0 if
                all steps read the same, almost 1 if each reads something else.
        """
        total = self.weight.sum(2)
        taken = total >= TAKEN
        found = {"write_rate": float(self.written.float().mean()), "reading_steps": float(taken.float().mean())}
        if bool(self.held.any()):
            found["declined_reads"] = float((self.held & ~taken).sum()) / float(self.held.sum())
        distance = weighted_mean(self.distance, self.weight)
        if distance is None or not bool(taken.any()):
            return found
        found["read_distance"] = distance
        found["read_before"] = float((self.weight * self.before).sum()) / float(total.sum())
        return found | self._variety(total, taken)

    def _variety(self, total: Tensor, taken: Tensor) -> dict[str, float]:
        """Returns how many memories the steps that took something read, and how much their reads differ."""
        share = torch.where(taken.unsqueeze(2), self.weight / total.unsqueeze(2), 0.0).double()
        there = share > 0
        # A memory is a row and the time at which it was written, here as one number.
        row = torch.arange(taken.shape[1], device=taken.device).view(1, -1, 1).expand_as(share)[there]
        written_at = (self.time.view(-1, 1, 1) - self.distance)[there]
        written_at = written_at - written_at.min()
        _, index = torch.unique(row * (written_at.max() + 1) + written_at, return_inverse=True)
        reads = taken.sum(0).double()
        mean = share.new_zeros(int(index.max()) + 1).index_add_(
            0, index, (share / reads.clamp(min=1).view(1, -1, 1))[there]
        )
        own = torch.zeros_like(share)
        own[there] = mean[index]
        # −Σ p log p over the memories of a row is the mean of −log p over its reads.
        entropy = (-share * own.clamp(min=1e-30).log()).sum((0, 2)) / reads.clamp(min=1)
        change = (share - own).clamp(min=0).sum(2)
        return {
            "read_memories": float(entropy[reads > 0].exp().mean()),
            "read_change": float(change[taken].mean()),
        }


def held_figures(state: SABState) -> dict[str, float]:
    """Returns the figures of a memory as it is.

    Returns:
        filled_slots: of a row, on average.
        used_slots: those of them that were read lately, see `SlotState.usage`.
        episode_steps: steps since the episode's start, mean over the rows.
        steps_since_write: the same since the last write, or since the start if nothing was written in the episode.
        held_age: mean steps since a slot was written; missing if none is filled.
        largest_h: greatest absolute value in h and the slots.
    """
    filled, rows = state.filled, state.batch_size
    age = state.step.unsqueeze(1) - state.written_at
    since = torch.where(filled, age, state.step.unsqueeze(1)).amin(1)
    found = {
        "filled_slots": float(filled.sum()) / rows,
        "steps_since_write": float(since.double().mean()),
        "episode_steps": float(state.step.double().mean()),
        "largest_h": float(torch.maximum(state.h.abs().amax(), state.memory.abs().amax())),
    }
    if bool(filled.any()):
        found["held_age"] = float(age[filled].double().mean())
    if isinstance(state, SlotState):
        found["used_slots"] = float((filled & (state.usage >= TAKEN)).sum()) / rows
    return found


def open_figures(stream: Stream) -> dict[str, float]:
    """Returns the figures of a stream that takes and learns one step at a time: its memory, and its present segment.

    Returns:
        See `held_figures`, `Reads.figures` and `credit_figures`, whose norms decay as `SlotState.credit` does. Nothing
        if the stream has no slots.
    """
    if not isinstance(stream, SABStream):
        return {}
    state, found = stream.state, held_figures(stream.state)
    found |= credit_figures(state.step.unsqueeze(1) - state.written_at, state.credit)
    window = stream.recorded()
    if not window:
        return found
    return found | Reads.of(window, stream.before.filled.any(1)).figures()


def credit_figures(distance: Tensor, norm: Tensor) -> dict[str, float]:
    """Returns the figures of what slots were credited.

    Args:
        distance: (B, S) steps back to each slot.
        norm: (B, S) of the gradient that reached it; 0 for none.

    Returns:
        credited_slots: of a row, on average.
        credit_norm: mean over them; missing, as the next, if there are none.
        credit_distance: mean steps back, weighted by the norm.
    """
    count, mean = int((norm > 0).sum()), weighted_mean(distance, norm)
    found = {"credited_slots": count / len(norm)}
    return found if mean is None else found | {"credit_norm": float(norm.sum()) / count, "credit_distance": mean}


def weighted_mean(distance: Tensor, amount: Tensor) -> float | None:
    """Returns the mean of distances, weighted by amounts of the same shape; None if there is nothing."""
    total = float(amount.sum())
    return float((distance * amount).sum()) / total if total > 0 else None

"""What the memory did in an update: how far back the agent read, and how far back credit went.

Dimensions: T steps of a segment, R rows of a rollout, S slots, K slots that a step touches.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.logger import Image, Logger, TensorBoardOutputFormat
from torch import Tensor

from sab_agents.ppo.bars import bars_by_power
from sab_agents.streaming import Credit, SABWindow

IMAGE_EVERY = 20
"""Updates between two images."""
NO_IMAGES = ("stdout", "log", "json", "csv")  # formats that cannot hold one
COLOURS = {"attention": (31, 119, 180), "credit": (255, 127, 14)}


class MemoryReport:
    """Collects the credit of one update, and tells it and the reads of its rollout by distance.

    The distance of a read is that from the step that read to the step that was read. The distance of credit is that
    from a segment's first step, so the least that it went back.

    Args:
        window: the actor's segments.
    """

    def __init__(self, window: SABWindow) -> None:
        self._window = window
        self._norms = [torch.zeros_like(window.before.filled, dtype=window.before.memory.dtype)]
        self._dropped = 0

    @classmethod
    def of(cls, segments: object) -> Self | None:
        """A report of these segments; None where the core has no slots."""
        return cls(segments) if isinstance(segments, SABWindow) else None

    def add(self, credit: Credit | None) -> None:
        """Notes what a minibatch credited."""
        if credit is not None:
            self._norms.append(credit.norm)
            self._dropped += credit.dropped

    def reads(self) -> tuple[Tensor, Tensor]:
        """Distances of the K slots that each step of the rollout scored best, and their weights, (T, R, K) each."""
        steps = self._window.steps
        return steps.step.unsqueeze(2) - 1 - steps.read_step, steps.weight

    def credits(self) -> tuple[Tensor, Tensor]:
        """Distances of the slots from before each segment, and the sums of their gradients' norms, (R, S) each.

        What overflowed counts for nothing.
        """
        before = self._window.before
        norm = torch.stack(self._norms).nan_to_num_(nan=0.0, posinf=0.0).sum(0)
        return before.step.unsqueeze(1) - before.written_at, norm

    def scalars(self) -> dict[str, float]:
        """In figures.

        Returns:
            "read_distance" and "credit_distance": means, weighted by attention and by norm; missing where there was
            none. "filled_slots" and "credited_slots" of a row, on average. "dropped_links": of the whole update.
        """
        distance, norm = self.credits()
        rows = len(norm)
        found = {
            "read_distance": _mean(*self.reads()),
            "credit_distance": _mean(distance, norm),
            "filled_slots": float(self._window.before.filled.sum()) / rows,
            "credited_slots": float((norm > 0).sum()) / rows,
            "dropped_links": float(self._dropped),
        }
        return {name: value for name, value in found.items() if value is not None}

    def log(self, logger: Logger, update: int) -> None:
        """Records the scalars; in every `IMAGE_EVERY`th update also images, if they go to TensorBoard."""
        for name, value in self.scalars().items():
            logger.record(f"memory/{name}", value)
        if update % IMAGE_EVERY == 0 and any(
            isinstance(each, TensorBoardOutputFormat) for each in logger.output_formats
        ):
            for name, image in self.images().items():
                logger.record(f"memory/{name}_by_distance", Image(image, "HWC"), exclude=NO_IMAGES)

    def images(self) -> dict[str, npt.NDArray[np.uint8]]:
        """Shares of "attention" and "credit" by distance, in powers of two; missing where there was none."""
        shares = {"attention": shares_by_distance(*self.reads()), "credit": shares_by_distance(*self.credits())}
        return {name: bars_by_power(found, COLOURS[name]) for name, found in shares.items() if found}


def shares_by_distance(distance: Tensor, amount: Tensor) -> list[float]:
    """Share of the amount at distances 1, 2 to 3, 4 to 7, …, up to the farthest that has any; empty where none has.

    Args:
        distance: int64, at least 1 where there is an amount.
        amount: of the same shape, at least 0.
    """
    there = amount > 0
    distance, amount = distance[there], amount[there]
    if not len(distance):
        return []
    power = torch.frexp(distance.double()).exponent.long() - 1
    total = amount.new_zeros(int(power.max()) + 1).index_add_(0, power, amount)
    shares: list[float] = (total / total.sum()).tolist()
    return shares


def _mean(distance: Tensor, amount: Tensor) -> float | None:
    total = float(amount.sum())
    return float((distance * amount).sum()) / total if total > 0 else None

"""What the memory did in an update: how far back the agent read, and how far back credit went.

Dimensions: T steps of a segment, R rows of a rollout, S slots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
from stable_baselines3.common.logger import Figure, Logger, TensorBoardOutputFormat
from torch import Tensor

from sab_agents.core.streaming import ClosedWindow, Credit

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

IMAGE_EVERY = 100
"""Updates between two images, which cost some 50 ms each."""


class MemoryReport:
    """Collects the credit of one update, and tells it and the reads of its rollout by distance.

    The distance of a read is that from the step that read to the step that was read. The distance of credit is that
    from a segment's first step, so the least that it went back.

    Args:
        window: the actor's segments.
    """

    def __init__(self, window: ClosedWindow) -> None:
        self._window = window
        self._norm = torch.zeros_like(window.before.filled, dtype=window.before.memory.dtype)
        self._dropped = 0

    @classmethod
    def of(cls, segments: object) -> Self | None:
        """A report of these segments; None where the core has no slots."""
        return cls(segments) if isinstance(segments, ClosedWindow) else None

    def add(self, credit: Credit | None) -> None:
        """Notes what a minibatch credited, but for what overflowed."""
        if credit is not None:
            self._norm += credit.norm.nan_to_num(nan=0.0, posinf=0.0)
            self._dropped += credit.dropped

    def reads(self) -> tuple[Tensor, Tensor]:
        """Distances of all reads of the rollout, (N,) int64, and their attention weights, (N,)."""
        steps = self._window.steps
        distance = steps.step.unsqueeze(2) - 1 - steps.read_step
        return distance.flatten(), steps.weight.flatten()

    def credits(self) -> tuple[Tensor, Tensor]:
        """Distances of the slots from before each segment, (N,) int64, and the norms of their gradients, (N,)."""
        before = self._window.before
        return (before.step.unsqueeze(1) - before.written_at).flatten(), self._norm.flatten()

    def scalars(self) -> dict[str, float]:
        """In figures.

        Returns:
            "read_distance" and "credit_distance": means, weighted by attention and by norm; missing where there was
            none. "filled_slots" and "credited_slots" of a row, on average. "dropped_links": of the whole update.
        """
        before = self._window.before
        found = {
            "read_distance": _mean(*self.reads()),
            "credit_distance": _mean(*self.credits()),
            "filled_slots": float(before.filled.sum(1).float().mean()),
            "credited_slots": float((self._norm > 0).sum(1).float().mean()),
            "dropped_links": float(self._dropped),
        }
        return {name: value for name, value in found.items() if value is not None}

    def log(self, logger: Logger, update: int) -> None:
        """Records the scalars; in every `IMAGE_EVERY`th update also an image, if it goes to TensorBoard."""
        for name, value in self.scalars().items():
            logger.record(f"memory/{name}", value)
        if update % IMAGE_EVERY == 0 and any(isinstance(each, TensorBoardOutputFormat) for each in logger.output_formats):
            image = Figure(self.drawn(), close=True)
            logger.record("memory/by_distance", image, exclude=("stdout", "log", "json", "csv"))

    def drawn(self) -> MatplotlibFigure:
        """Shares of attention and credit by distance, in powers of two."""
        from matplotlib.figure import Figure as MatplotlibFigure  # noqa: PLC0415  # slow to load, and rarely needed

        canvas = MatplotlibFigure(figsize=(6, 2.6), layout="constrained")
        for axes, title, found in zip(
            canvas.subplots(1, 2), ("attention", "credit"), (self.reads(), self.credits()), strict=True
        ):
            shares = shares_by_distance(*found)
            axes.bar(range(len(shares)), shares, color="tab:blue" if title == "attention" else "tab:orange")
            axes.set_xticks(range(len(shares)), [f"{2**power:,}" for power in range(len(shares))], rotation=60)
            axes.set_title(f"{title} by distance (from … steps)", fontsize=9)
            axes.set_ylim(0, 1)
        return canvas


def shares_by_distance(distance: Tensor, amount: Tensor) -> list[float]:
    """Share of the amount at distances 1, 2 to 3, 4 to 7, …, up to the farthest that has any; empty where none has.

    Args:
        distance: (N,) int64, at least 1 where there is an amount.
        amount: (N,) at least 0.
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

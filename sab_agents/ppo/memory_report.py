"""What the memory did in an update: how far back the agent read, and how far back credit went, in figures and bars.

Dimensions: T steps of a segment, R rows of a rollout, S slots, K slots that a step touches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.logger import Image, Logger, TensorBoardOutputFormat
from torch import Tensor

from sab_agents.streaming import (
    ClosedWindow,
    Credit,
    GradientNorms,
    Reads,
    SABWindow,
    credit_figures,
    credited,
    held_figures,
)

Bools = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]

IMAGE_EVERY = 20
"""Updates between two images."""
PRINTED = {"read_distance", "credit_distance", "filled_slots", "credited_slots", "dropped_links"}
NOT_PRINTED = ("stdout", "log")  # formats in which all other scalars would be too much
NO_IMAGES = ("stdout", "log", "json", "csv")  # formats that cannot hold one
COLOURS = {"attention": (31, 119, 180), "credit": (255, 127, 14)}

# Five rows of three dots for each glyph: an octal digit is a row.
GLYPHS = {
    "0": "75557", "1": "26227", "2": "71747", "3": "71717", "4": "55711", "5": "74717", "6": "74757", "7": "71122",
    "8": "75757", "9": "75717", "k": "45655", "M": "57755", "%": "51245",
}  # fmt: skip
ZOOM = 3
COLUMN, TALLEST, MARGIN = 18, 40, 7  # dots: width of a bar's place, height of a full bar, room for a number
WHITE, INK = 255, 60


class MemoryReport:
    """Collects the credit of one update, and reports it and the reads of its rollout by distance.

    The distance of a read is that from the step that read to the step that was read. The distance of credit is that
    from a segment's first step, so the least that it went back.

    Args:
        window: the actor's segments.
    """

    def __init__(self, window: SABWindow) -> None:
        self._window = window
        self._norms = [torch.zeros_like(window.before.filled, dtype=window.before.memory.dtype)]
        self._dropped = 0
        self._gradient: GradientNorms | None = None

    @classmethod
    def of(cls, window: ClosedWindow) -> Self | None:
        """Returns a report of these segments; None if the core has no slots."""
        return cls(window) if isinstance(window, SABWindow) else None

    def add(self, credit: Credit | None) -> None:
        """Records what a minibatch credited."""
        if credit is not None:
            self._norms.append(credit.norm)
            self._dropped += credit.dropped

    def reads(self) -> tuple[Tensor, Tensor]:
        """Returns the distances of the K best slots of each step of the rollout and their weights, (T, R, K) each."""
        steps = self._window.steps
        return steps.step.unsqueeze(2) - 1 - steps.read_step, steps.weight

    def credits(self) -> tuple[Tensor, Tensor]:
        """Returns the distances of the slots from before each segment and their gradients' summed norms, (R, S) each.

        A norm that overflowed counts as zero.
        """
        before = self._window.before
        norm = torch.stack(self._norms).nan_to_num_(nan=0.0, posinf=0.0).sum(0)
        return before.step.unsqueeze(1) - before.written_at, norm

    def pass_on(self, window: ClosedWindow) -> Credit:
        """Calls a window's `credit`, and measures what it adds if it is the first of the actor's in this update."""
        if window is not self._window or self._gradient is not None:
            return window.credit()
        credit, self._gradient = credited(self._window.core, window.credit)
        return credit

    def scalars(self) -> dict[str, float]:
        """Returns the report in figures, whose names are those of `OnlineLearner.diagnose`.

        Returns:
            Of the rollout's steps: see `Reads.figures`. Of the memory before each segment: see `held_figures`. Of
            credit: see `credit_figures`; norms are summed over the update, and "dropped_links" are counted in it.
            "window_gradient" and "credit_gradient": see `GradientNorms`; of the update's first minibatch. What there is
            nothing to compute from is missing.
        """
        steps, before = self._window.steps, self._window.before
        reads = Reads.of(vars(steps), before.filled.any(1))
        found = reads.figures() | held_figures(before) | credit_figures(*self.credits())
        found["dropped_links"] = float(self._dropped)
        if self._gradient is not None:
            found |= {"window_gradient": self._gradient.window, "credit_gradient": self._gradient.credit}
        return found

    def log(self, logger: Logger, update: int) -> None:
        """Records the scalars, and images in every `IMAGE_EVERY`th update, if they go to TensorBoard."""
        for name, value in self.scalars().items():
            logger.record(f"memory/{name}", value, exclude=None if name in PRINTED else NOT_PRINTED)
        if update % IMAGE_EVERY == 0 and any(
            isinstance(each, TensorBoardOutputFormat) for each in logger.output_formats
        ):
            for name, image in self.images().items():
                logger.record(f"memory/{name}_by_distance", Image(image, "HWC"), exclude=NO_IMAGES)

    def images(self) -> dict[str, Pixels]:
        """Returns bars of "attention" and "credit" by distance, in powers of two; missing if there was none."""
        fractions = {
            "attention": fractions_by_distance(*self.reads()),
            "credit": fractions_by_distance(*self.credits()),
        }
        return {name: bars_by_power(bars, COLOURS[name]) for name, bars in fractions.items() if bars}


def fractions_by_distance(distance: Tensor, amount: Tensor) -> list[float]:
    """Returns the fraction of the amount at distances 1, 2 to 3, 4 to 7, …, up to the farthest; empty without any.

    Args:
        distance: int64, at least 1 wherever the amount is not 0.
        amount: of the same shape, at least 0.
    """
    there = amount > 0
    distance, amount = distance[there], amount[there]
    if not len(distance):
        return []
    power = torch.frexp(distance.double()).exponent.long() - 1
    total = amount.new_zeros(int(power.max()) + 1).index_add_(0, power, amount)
    fractions: list[float] = (total / total.sum()).tolist()
    return fractions


def bars_by_power(fractions: Sequence[float], colour: tuple[int, int, int]) -> Pixels:
    """Draws bars for distances 1, 2, 4, 8, …: above each its fraction in percent, below it its first distance.

    It draws in numpy, at next to no cost for a training loop.

    Args:
        fractions: from 0 to 1, at least one.
        colour: red, green and blue, from 0 to 255.

    Returns:
        (height, width, 3).
    """
    dots = np.full((TALLEST + 2 * MARGIN, COLUMN * len(fractions), 3), WHITE, np.uint8)
    ground = MARGIN + TALLEST
    for power, fraction in enumerate(fractions):
        left = COLUMN * power
        top = ground - round(TALLEST * fraction)
        dots[top:ground, left + 2 : left + COLUMN - 2] = colour
        _write(dots, f"{100 * fraction:.0f}%", top - MARGIN + 1, left)
        _write(dots, label_of(power), ground + 1, left)
    dots[ground] = INK
    return dots.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)


def label_of(power: int) -> str:
    """Returns 2 to this power, in at most four glyphs up to 2^29: 512, 1k, 512k, 1M."""
    unit = min(power // 10, 2)
    return f"{2 ** (power - 10 * unit)}{('', 'k', 'M')[unit]}"


def text_of(text: str) -> Bools:
    """Returns text in dots, (5, 4 · glyphs − 1)."""
    rows = [[f"{int(GLYPHS[glyph][row]):03b}" for glyph in text] for row in range(5)]
    return np.array([[dot == "1" for dot in "0".join(row)] for row in rows])


def _write(dots: npt.NDArray[Any], text: str, top: int, left: int) -> None:
    """Writes text in the middle of a bar's place."""
    letters = text_of(text)[:, :COLUMN]
    start = left + (COLUMN - letters.shape[1]) // 2
    dots[top : top + 5, start : start + letters.shape[1]][letters] = INK

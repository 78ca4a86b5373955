"""One stream learnt for a long time: time of a step and memory of the process, from beginning to end."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import FuncFormatter, MaxNLocator

from sab_agents import OnlineLearner
from sab_agents.train.errors import UserError
from sab_agents.train.plots import figure, tidy

SETTLED = 10_000
"""Steps after which everything that a process loads and allocates once is there."""
POINTS = 200
"""Measurements along the stream; all tables that they go to are made before it begins."""
LINES = {"wall": ("wall clock", "#9ecae1"), "processor": ("processor time", "#08519c")}
PAPER = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Course:
    """How a long stream went.

    Attributes:
        wall: (POINTS,) seconds of the wall clock that each of the equal parts of the stream took.
        processor: (POINTS,) seconds of processor time.
        memory: (POINTS,) resident memory after each, KiB; NaN where the system does not say.
        pieces: (POINTS,) pieces that were run again in each: what was credited decides what a step costs.
        settled: resident memory after the first SETTLED steps.
        part: steps in one of them.
    """

    wall: Floats
    processor: Floats
    memory: Floats
    pieces: Floats
    settled: float
    part: int

    @property
    def steps(self) -> int:
        """All steps."""
        return self.part * len(self.wall)

    def tenths(self, what: str) -> list[float]:
        """Microseconds of one step, in each tenth of the stream."""
        parts: Floats = getattr(self, what)
        return [float(1e6 * tenth.sum() / (len(tenth) * self.part)) for tenth in np.split(parts, 10)]

    def quietest(self) -> list[float]:
        """Microseconds of processor time of a step in the fastest part of each tenth, the least disturbed."""
        return [float(1e6 * tenth.min() / self.part) for tenth in np.split(self.processor, 10)]

    @property
    def growth(self) -> int | None:
        """KiB by which resident memory grew after SETTLED steps."""
        grown = self.memory[-1] - self.settled
        return None if np.isnan(grown) else int(grown)

    def to_json(self) -> dict[str, Any]:
        """All figures."""
        return {
            "steps": self.steps,
            "microseconds_by_tenths": {what: self.tenths(what) for what in LINES},
            "last_to_first": {what: self.tenths(what)[-1] / self.tenths(what)[0] for what in LINES},
            "growth_kib": self.growth,
            "quietest_by_tenths": self.quietest(),
            "pieces_by_tenths": [int(tenth.sum()) for tenth in np.split(self.pieces, 10)],
            "memory_kib": [None if np.isnan(value) else int(value) for value in self.memory],
        }


def check_length(steps: int) -> None:
    """Refuses a stream that is too short to say anything.

    Raises:
        UserError: it is.
    """
    if steps < 2 * SETTLED:
        raise UserError(f"--steps must be at least {2 * SETTLED}, to say how memory grows after the first {SETTLED}.")


def follow(model: OnlineLearner, draw: Callable[[], tuple[npt.NDArray[np.float32], list[int]]], steps: int) -> Course:
    """Learns about so many steps; `draw` gives inputs and classes of the next ones, always as many."""
    part = steps // POINTS
    wall, processor, memory, pieces = np.zeros((4, POINTS))
    settled, place = np.nan, 0
    x, y = draw()
    gc.collect()
    for point in range(POINTS):
        start, used = time.perf_counter(), time.process_time()
        for step in range(point * part, (point + 1) * part):
            model.learn_one(x[place], y[place])
            place += 1
            if place == len(y):
                (x, y), place = draw(), 0
            if step + 1 == SETTLED:
                settled = resident()
        wall[point], processor[point] = time.perf_counter() - start, time.process_time() - used
        memory[point], pieces[point] = resident(), model.ledger.pieces
    return Course(wall, processor, memory, np.diff(pieces, prepend=0), settled, part)


def resident() -> float:
    """Resident memory of this process, KiB; NaN where the system does not say."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS"):
                return float(line.split()[1])
    except OSError:
        pass
    return float("nan")


def plot(course: Course, path: Path) -> None:
    """Time of a step and memory against the steps taken.

    Raises:
        UserError: the file cannot be written.
    """
    canvas, (left, right) = figure(10, 3.8, columns=2)
    steps = course.part * (np.arange(len(course.wall)) + 1)
    for what, (label, colour) in LINES.items():
        left.plot(steps, 1e6 * getattr(course, what) / course.part, color=colour, linewidth=1.4, label=label)
    middle = 1e6 * np.median(course.processor) / course.part
    left.axhline(middle, color="#777777", linestyle="--", linewidth=1)
    left.annotate(
        f"{middle:.0f} µs", (steps[0], middle), xytext=(2, 4), textcoords="offset points", fontsize=9, bbox=PAPER
    )
    left.set_ylim(0, 1.35e6 * float(np.percentile(course.wall, 98)) / course.part)
    left.legend(frameon=False, loc="upper right", fontsize=9)
    tidy(left, "Time of a learned step", "steps", "microseconds")
    right.plot(steps, (course.memory - course.settled) / 1024, color="#238b45", linewidth=1.8)
    right.axhline(1, color="#777777", linestyle="--", linewidth=1)
    right.annotate("1 MiB", (steps[0], 1), xytext=(2, 4), textcoords="offset points", fontsize=9)
    grown = (course.memory - course.settled) / 1024
    right.set_ylim(min(-0.5, 1.2 * float(np.nanmin(grown))), max(2.0, 1.2 * float(np.nanmax(grown))))
    tidy(right, f"Resident memory beyond that after {SETTLED:,} steps", "steps", "MiB")
    for axes in (left, right):
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlim(0, course.steps)
    try:
        canvas.savefig(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}.") from error

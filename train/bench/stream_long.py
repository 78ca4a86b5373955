"""One stream learnt for a long time: the time of a step and the memory of the process, from beginning to end.

A machine may not be as fast an hour later. In its last tenth the old stream therefore takes turns with a young one,
which learns its first tenth: the times of the two differ only because of their age.
"""

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
from sab_agents.train.figures.canvas import panels, tidy
from sab_agents.train.output import writing

SETTLED = 10_000
"""Steps after which a process has loaded and allocated everything that it needs once."""
POINTS = 200
"""Measurements along the stream; their arrays are allocated before it begins."""
TURN = 512
"""Steps that a stream takes at a time: in the last tenth, the old one and then the young one."""
LINES = {"wall": ("wall clock", "#9ecae1"), "processor": ("processor time", "#08519c")}
PAPER = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}

Floats = npt.NDArray[np.float64]
Draw = Callable[[], tuple[npt.NDArray[np.float32], list[int]]]


@dataclass(frozen=True)
class Course:
    """The course of a long stream.

    Attributes:
        wall: (POINTS,) seconds of the wall clock that each of the equal parts of the stream took.
        processor: (POINTS,) seconds of processor time.
        memory: (POINTS,) resident memory after each, KiB; NaN if not available.
        pieces: (POINTS,) pieces that were replayed in each: what was credited decides the cost of a step.
        settled: resident memory after the first SETTLED steps.
        part: steps in one of them.
        young: seconds of the wall clock and of processor time of a young stream's first tenth, learnt in turns with the
            last tenth.
    """

    wall: Floats
    processor: Floats
    memory: Floats
    pieces: Floats
    settled: float
    part: int
    young: dict[str, float]

    @property
    def steps(self) -> int:
        """All steps."""
        return self.part * len(self.wall)

    def tenths(self, what: str) -> list[float]:
        """Returns the microseconds of one step, in each tenth of the stream."""
        parts: Floats = getattr(self, what)
        return [float(1e6 * tenth.sum() / (len(tenth) * self.part)) for tenth in np.split(parts, 10)]

    def quietest(self) -> list[float]:
        """Returns the microseconds of processor time of a step in the fastest, least disturbed part of each tenth."""
        return [float(1e6 * tenth.min() / self.part) for tenth in np.split(self.processor, 10)]

    def aged(self, what: str) -> float:
        """Returns the time of a step of the last tenth, as a multiple of a young stream's step at the same time."""
        return self.tenths(what)[-1] / (1e6 * self.young[what] / (self.steps // 10))

    @property
    def growth(self) -> int | None:
        """KiB by which resident memory grew after SETTLED steps."""
        grown = self.memory[-1] - self.settled
        return None if np.isnan(grown) else int(grown)

    def to_json(self) -> dict[str, Any]:
        """Returns all figures."""
        return {
            "steps": self.steps,
            "microseconds_by_tenths": {what: self.tenths(what) for what in LINES},
            "last_to_first": {what: self.tenths(what)[-1] / self.tenths(what)[0] for what in LINES},
            "old_to_young": {what: self.aged(what) for what in LINES},
            "growth_kib": self.growth,
            "quietest_by_tenths": self.quietest(),
            "pieces_by_tenths": [int(tenth.sum()) for tenth in np.split(self.pieces, 10)],
            "memory_kib": [None if np.isnan(value) else int(value) for value in self.memory],
        }


def check_length(steps: int) -> None:
    """Raises UserError if a stream is too short to measure growth.

    Raises:
        UserError: it is.
    """
    if steps < 2 * SETTLED:
        raise UserError(f"--steps must be at least {2 * SETTLED}, to say how memory grows after the first {SETTLED}.")


class Walk:
    """A learner on its way through a stream; `draw` gives inputs and classes of the next steps."""

    def __init__(self, model: OnlineLearner, draw: Draw) -> None:
        self.model, self.draw = model, draw
        self.x, self.y = draw()
        self.place, self.taken, self.settled = 0, 0, float("nan")

    def take(self, steps: int) -> tuple[float, float]:
        """Learns this many steps; returns the seconds of the wall clock and of processor time."""
        start, used = time.perf_counter(), time.process_time()
        for _ in range(steps):
            self.model.learn_one(self.x[self.place], self.y[self.place])
            self.place += 1
            self.taken += 1
            if self.place == len(self.y):
                (self.x, self.y), self.place = self.draw(), 0
            if self.taken == SETTLED:
                self.settled = resident()
        return time.perf_counter() - start, time.process_time() - used


def follow(make: Callable[[], tuple[OnlineLearner, Draw]], steps: int) -> Course:
    """Learns about this many steps; `make` returns a new learner and its stream, always the same."""
    part = steps // POINTS
    old, young = Walk(*make()), Walk(*make())
    young.take(TURN)  # so that its allocations do not count as growth
    spent, (memory, pieces) = np.zeros((2, POINTS)), np.zeros((2, POINTS))
    beside = np.zeros(2)
    gc.collect()
    for point in range(POINTS):
        for turn in turns(part):
            spent[:, point] += old.take(turn)
            if point >= POINTS - POINTS // 10:
                beside += young.take(turn)
        memory[point], pieces[point] = resident(), old.model.ledger.pieces
    young_spent = dict(zip(LINES, beside.tolist(), strict=True))
    wall, processor = spent
    return Course(wall, processor, memory, np.diff(pieces, prepend=0), old.settled, part, young_spent)


def turns(steps: int) -> list[int]:
    """Returns this many steps as turns of TURN, the last one shorter."""
    return [min(TURN, steps - start) for start in range(0, steps, TURN)]


def resident() -> float:
    """Returns the resident memory of this process in KiB; NaN if not available."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS"):
                return float(line.split()[1])
    except OSError:
        pass
    return float("nan")


def plot(course: Course, path: Path) -> None:
    """Plots the time of a step and the memory against the steps taken.

    Raises:
        UserError: the file cannot be written.
    """
    canvas, (left, right) = panels(10, 3.8, columns=2)
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
    with writing(path):
        canvas.savefig(path)

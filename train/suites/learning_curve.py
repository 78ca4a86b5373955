"""The learning curve of an agent: its episodes, how many of the latest succeed, and when that is enough."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from sab_agents.train.suites.episodes import Ended, ending

POINTS = 40  # of a learning curve, at most


class Point(NamedTuple):
    """An episode, and when it ended: after how many steps of all copies, and how many seconds, of this training."""

    steps: int
    seconds: float
    ended: Ended


class Watch(BaseCallback):
    """Records each episode, and ends the training when the target is reached.

    Args:
        success: see `episodes.ending`.
        recent: episodes over which success is measured.
        target: fraction of them that must succeed; None never ends the training.
    """

    def __init__(self, success: float | str, recent: int, target: float | None) -> None:
        super().__init__()
        self.success, self.target = success, target
        self.points: list[Point] = []
        self.reached = False
        self._recent: deque[Ended] = deque(maxlen=recent)
        self.shown: Callable[[], None] = lambda: None
        self._started, self._first = time.perf_counter(), 0

    def _on_training_start(self) -> None:
        self._started, self._first = time.perf_counter(), self.num_timesteps

    def _on_step(self) -> bool:
        copies = np.flatnonzero(self.locals["dones"])
        for copy in copies:
            ended = ending(self.locals["infos"][copy], self.success)
            self.points.append(Point(self.num_timesteps - self._first, time.perf_counter() - self._started, ended))
            self._recent.append(ended)
        if len(copies):
            self.shown()
        if len(copies) and self.target is not None and len(self._recent) == self._recent.maxlen:
            self.reached = self.score[0] >= self.target  # of all copies that ended in this step, not of some
        return not self.reached

    def _on_rollout_end(self) -> None:
        if self._recent:
            self.logger.record("rollout/success", self.score[0])

    @property
    def score(self) -> tuple[float, float]:
        """Fraction of successes and mean return of the recent episodes, of which there must be one."""
        return float(np.mean([each.success for each in self._recent])), float(
            np.mean([each.total for each in self._recent])
        )


def curve_of(points: Sequence[Point], budget: int) -> list[dict[str, float]]:
    """Returns the learning curve: means over the episodes that ended within each of `POINTS` equal parts of the budget.

    Parts in which no episode ended are left out; `steps` and `seconds` are those of the last episode of a part.
    """
    parts: dict[int, list[Point]] = {}
    for point in points:
        parts.setdefault(min(point.steps * POINTS // budget, POINTS - 1), []).append(point)
    return [
        {
            "steps": part[-1].steps,
            "seconds": round(part[-1].seconds, 2),
            "success": float(np.mean([point.ended.success for point in part])),
            "return": float(np.mean([point.ended.total for point in part])),
        }
        for part in parts.values()
    ]

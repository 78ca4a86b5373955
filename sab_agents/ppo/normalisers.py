"""The statistics of stable-baselines3's `VecNormalize`, which ranks that learn together share."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from sab_agents.distributed import Ranks


class _Moments(NamedTuple):
    """What a statistic was when all ranks had the same."""

    mean: np.ndarray
    squares: np.ndarray  # around the mean
    weight: float

    @classmethod
    def of(cls, statistic: RunningMeanStd) -> _Moments:
        return cls(statistic.mean.copy(), statistic.var * statistic.count, float(statistic.count))


class Normalisers:
    """The statistics of one `VecNormalize` in each rank; without one, or alone, nothing is done.

    Within a rollout each rank adds to them what it sees itself; `merge` then gives all of them what all have seen.

    Args:
        ranks: those that learn together.
        env: each rank's; None if there is none.
    """

    def __init__(self, ranks: Ranks, env: VecNormalize | None) -> None:
        self._ranks = ranks
        self._statistics: list[RunningMeanStd] = []
        if env is not None and not ranks.alone:
            seen = getattr(env, "obs_rms", None) or {}  # which it lacks if only rewards are normalised
            self._statistics = [*(seen.values() if isinstance(seen, dict) else [seen]), env.ret_rms]
        self._before = [_Moments.of(statistic) for statistic in self._statistics]

    def share(self) -> None:
        """Gives every rank the statistics of rank 0."""
        for statistic in self._statistics:
            parts = (statistic.mean, statistic.var, statistic.count)
            statistic.mean, statistic.var, statistic.count = self._ranks.of_main(parts)
        self._before = [_Moments.of(statistic) for statistic in self._statistics]

    def merge(self) -> None:
        """Gives every rank the statistics of what all have seen: those of before, and what each has added since."""
        if not self._statistics:
            return
        added = [_added(*pair) for pair in zip(self._before, self._statistics, strict=True)]
        total = self._ranks.added_up(torch.from_numpy(np.concatenate(added))).numpy()
        for before, statistic in zip(self._before, self._statistics, strict=True):
            n = before.mean.size
            (count,), sums, squares, total = np.split(total, [1, 1 + n, 1 + 2 * n])
            whole = before.weight + count
            shift = sums.reshape(before.mean.shape) / whole
            statistic.mean = before.mean + shift
            statistic.var = (before.squares + squares.reshape(before.mean.shape)) / whole - np.square(shift)
            statistic.count = float(whole)
        self._before = [_Moments.of(statistic) for statistic in self._statistics]


def _added(before: _Moments, statistic: RunningMeanStd) -> np.ndarray:
    """Returns what was added: a number, the sum of deviations from the mean of before, and that of their squares."""
    shift = statistic.mean - before.mean
    squares = statistic.count * (statistic.var + np.square(shift)) - before.squares
    return np.concatenate(
        [[statistic.count - before.weight], np.ravel(statistic.count * shift), np.ravel(squares)], dtype=np.float64
    )

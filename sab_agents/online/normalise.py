"""Running statistics that bring observations and rewards to one scale, from one pass over a stream.

Source: Elsayed, Vasan & Mahmood 2024, algorithms 4 to 6; the recurrence is Welford's (1962).
Dimensions: O features of an observation.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sab_agents.checks import FEW, all_finite

EPSILON = 1e-8
"""Added to variances."""


class ObservationNormaliser:
    """Subtracts the mean of all observations so far and divides by their standard deviation, each feature by itself.

    Args:
        size: O.
    """

    def __init__(self, size: int) -> None:
        self.count = 0
        self.mean: npt.NDArray[np.float64] = np.zeros(size)
        self.squares: npt.NDArray[np.float64] = np.zeros(size)  # sum of squared distances from the mean

    @property
    def statistics(self) -> tuple[int, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Count, mean and squares: they are replaced by an update, never changed."""
        return self.count, self.mean, self.squares

    @statistics.setter
    def statistics(self, value: tuple[int, npt.NDArray[np.float64], npt.NDArray[np.float64]]) -> None:
        self.count, self.mean, self.squares = value

    def update(self, observation: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Adds one observation (O,) to the statistics and returns it normalised.

        Raises:
            ValueError: the observation is not finite; the statistics are as they were.
        """
        if not all_finite(observation):
            raise ValueError(
                f"An observation must be finite, but is {observation.tolist()}. Clean it in the environment first."
            )
        count = self.count + 1
        if observation.size <= FEW:
            mean, squares, normalised = self._counted(observation.tolist(), count)
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                difference = observation - self.mean
                mean = self.mean + difference / count
                squares = self.squares + difference * (observation - mean)
            normalised = None
        if not all_finite(squares):
            raise ValueError(
                f"An observation's distance from the mean must have a finite square, but the observation is "
                f"{observation.tolist()}. Scale or clip it in the environment first."
            )
        self.count, self.mean, self.squares = count, mean, squares
        return self.normalise(observation) if normalised is None else normalised

    def _counted(
        self, observation: list[float], count: int
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float32]]:
        """Returns mean and squares with one more observation, and it normalised: as numpy does, bit for bit."""
        means, squares, normalised = [], [], []
        for x, mean, square in zip(observation, self.mean.tolist(), self.squares.tolist(), strict=True):
            difference = x - mean
            means.append(mean + difference / count)
            distance = x - means[-1]
            squares.append(square + difference * distance)
            variance = squares[-1] / (count - 1) if count > 1 else 1.0
            normalised.append(distance / math.sqrt(variance + EPSILON))
        return np.array(means), np.array(squares), np.array(normalised, np.float32)

    def normalise(self, observation: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Returns observations (…, O) normalised by the statistics as they are."""
        variance = self.squares / (self.count - 1) if self.count > 1 else np.ones_like(self.mean)
        normalised: npt.NDArray[np.float32] = ((observation - self.mean) / np.sqrt(variance + EPSILON)).astype(
            np.float32
        )
        return normalised

    def state_dict(self) -> dict[str, Any]:
        """Returns the statistics: count, and mean and squares (O,) as tensors."""
        return {"count": self.count, "mean": torch.from_numpy(self.mean), "squares": torch.from_numpy(self.squares)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resumes bit-exactly from what `state_dict` returned."""
        self.count = state_dict["count"]
        self.mean, self.squares = (state_dict[name].numpy(force=True).copy() for name in ("mean", "squares"))


class RewardScaler:
    """Divides rewards by the standard deviation of their running discounted sum.

    The sum is u ← γ u + r, and u ← r at the last step of an episode.

    Args:
        gamma: γ, the discount.
    """

    def __init__(self, gamma: float) -> None:
        self.gamma = gamma
        self.discounted_sum = 0.0
        self.count = 0
        self.mean = 0.0
        self.squares = 0.0

    def update(self, reward: float, episode_end: bool) -> float:
        """Adds one reward to the statistics and returns it scaled.

        Raises:
            ValueError: the reward is not finite; the statistics are as they were.
        """
        if not math.isfinite(reward):
            raise ValueError(f"A reward must be finite, but is {reward}. Clean it in the environment first.")
        discounted_sum = (0.0 if episode_end else self.gamma * self.discounted_sum) + reward
        count = self.count + 1
        difference = discounted_sum - self.mean
        mean = self.mean + difference / count
        squares = self.squares + difference * (discounted_sum - mean)
        if not math.isfinite(squares):
            raise ValueError(
                f"The discounted sum of rewards must have a finite square, but a reward is {reward}. Scale or clip it "
                f"in the environment first."
            )
        self.discounted_sum, self.count, self.mean, self.squares = discounted_sum, count, mean, squares
        variance = self.squares / (self.count - 1) if self.count > 1 else 1.0
        return reward / math.sqrt(variance + EPSILON)

    def state_dict(self) -> dict[str, float]:
        """Returns the statistics."""
        return {name: getattr(self, name) for name in ("discounted_sum", "count", "mean", "squares")}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Resumes bit-exactly from what `state_dict` returned."""
        for name in self.state_dict():
            setattr(self, name, state_dict[name])

"""Distributions over actions, and the gradient of their log-probability and entropy, for one step at a time.

Dimensions: B rows, A actions, or components of an action, D parameters of a distribution.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

Array = npt.NDArray[Any]


class ActionDistribution(ABC):
    """A family of distributions, each described by a row of D outputs of a network.

    Args:
        size: D.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    @abstractmethod
    def choose(self, rows: Array, generator: np.random.Generator | None) -> Array:
        """Returns one action for each row (B, D), drawn with `generator`, or the likeliest if that is None."""

    def choose_one(self, row: Array, generator: np.random.Generator) -> Array:
        """Returns the action that `choose` would draw for one row (D,)."""
        chosen: Array = self.choose(row[None], generator)[0]
        return chosen

    @abstractmethod
    def gradient(self, row: Array, action: Array, entropy_weight: float) -> Array:
        """Returns the gradient (D,) of log π(action) + `entropy_weight` · entropy with respect to the row (D,)."""


class Categorical(ActionDistribution):
    """A finite set of actions; a row holds their logits.

    Args:
        size: D, how many actions there are.
        start: the first action; the others follow it one by one.
    """

    def __init__(self, size: int, start: int = 0) -> None:
        super().__init__(size)
        self.start = start

    def choose(self, rows: Array, generator: np.random.Generator | None) -> Array:
        """Returns actions (B,) int64; see `ActionDistribution.choose`."""
        if generator is None:
            return np.asarray(rows.argmax(axis=1)) + self.start
        heights = np.exp(rows - rows.max(axis=1, keepdims=True)).cumsum(axis=1)
        drawn = generator.random((len(rows), 1)) * heights[:, -1:]
        return np.asarray(np.minimum((heights <= drawn).sum(axis=1), self.size - 1)) + self.start

    def choose_one(self, row: Array, generator: np.random.Generator) -> Array:
        """Returns an action, int64; see `ActionDistribution.choose_one`."""
        heights = np.add.accumulate(np.exp(row - np.maximum.reduce(row))).tolist()  # faster than the methods
        drawn = generator.random() * heights[-1]
        return np.int64(self.start + min(bisect_right(heights, drawn), self.size - 1))  # type: ignore[return-value]

    def gradient(self, row: Array, action: Array, entropy_weight: float) -> Array:
        """Of log p_a it is [i = a] - p_i, of the entropy H it is -p_i (log p_i + H)."""
        shifted = row - np.maximum.reduce(row)
        log_probabilities = shifted - np.log(np.add.reduce(np.exp(shifted)))
        probabilities = np.exp(log_probabilities)
        entropy = -(probabilities @ log_probabilities)
        gradient = -probabilities * (1 + entropy_weight * (log_probabilities + entropy))
        gradient[int(action) - self.start] += 1
        return np.asarray(gradient)


class Gaussian(ActionDistribution):
    """Independent normal distributions; a row holds their means, then what softplus makes their standard deviations.

    Args:
        shape: of an action, with A components.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(2 * math.prod(shape))
        self.shape = shape

    def choose(self, rows: Array, generator: np.random.Generator | None) -> Array:
        """Returns actions (B, *shape) float32, unbounded; see `ActionDistribution.choose`."""
        mean, raw = np.split(rows, 2, axis=1)
        drawn = mean if generator is None else mean + np.logaddexp(raw, 0) * generator.standard_normal(mean.shape)
        chosen: Array = drawn.astype(np.float32).reshape(-1, *self.shape)
        return chosen

    def gradient(self, row: Array, action: Array, entropy_weight: float) -> Array:
        """With z = (a - μ) / σ, of log π it is z / σ and (z² - 1) / σ, of the entropy 0 and 1 / σ, in μ and σ."""
        mean, raw = np.split(row, 2)
        deviation = np.logaddexp(raw, 0)
        distance = (action.reshape(-1) - mean) / deviation
        slope = -np.expm1(-deviation)  # of softplus: the logistic function of raw
        gradient: Array = np.concatenate([distance, (distance**2 - 1 + entropy_weight) * slope]) / np.tile(deviation, 2)
        return gradient


def distribution_over(space: spaces.Space[Any]) -> ActionDistribution:
    """Returns the family of distributions for an action space.

    Raises:
        TypeError: the space is neither Discrete nor Box.
    """
    if isinstance(space, spaces.Discrete):
        return Categorical(int(space.n), int(space.start))
    if isinstance(space, spaces.Box):
        return Gaussian(space.shape)
    raise TypeError(
        f"StreamAC: actions must be of a Discrete or a Box space, but are of {space}. Wrap the environment."
    )

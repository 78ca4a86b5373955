"""Distributions over discrete actions that do not start at 0, in the numbers of their space."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import (
    CategoricalDistribution,
    Distribution,
    MultiCategoricalDistribution,
)
from torch import Tensor


class CategoricalFrom(CategoricalDistribution):
    """A categorical distribution over `start`, `start` + 1, …; stable-baselines3's is over 0, 1, ….

    Args:
        action_dim: how many actions there are.
        start: the first.
    """

    def __init__(self, action_dim: int, start: int) -> None:
        super().__init__(action_dim)
        self.start = start

    def log_prob(self, actions: Tensor) -> Tensor:
        """Returns the log-probabilities (n,) of actions (n,)."""
        return super().log_prob(actions - self.start)

    def sample(self) -> Tensor:
        """Draws actions (n,)."""
        return super().sample() + self.start

    def mode(self) -> Tensor:
        """Returns the likeliest actions (n,)."""
        return super().mode() + self.start


class MultiCategoricalFrom(MultiCategoricalDistribution):
    """Several categorical distributions, each over its own `start`, `start` + 1, ….

    Args:
        action_dims: how many actions each has.
        start: the first of each.
    """

    def __init__(self, action_dims: list[int], start: npt.NDArray[np.integer[Any]]) -> None:
        super().__init__(action_dims)
        self.start = torch.as_tensor(start)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Returns the log-probabilities (n,) of actions (n, k)."""
        return super().log_prob(actions - self.start.to(actions.device))

    def sample(self) -> Tensor:
        """Draws actions (n, k)."""
        drawn = super().sample()
        return drawn + self.start.to(drawn.device)

    def mode(self) -> Tensor:
        """Returns the likeliest actions (n, k)."""
        likeliest = super().mode()
        return likeliest + self.start.to(likeliest.device)


def in_numbers_of(space: spaces.Space[Any], distribution: Distribution) -> Distribution:
    """Returns a distribution over a space's own numbers, in place of stable-baselines3's, which counts from 0."""
    if isinstance(space, spaces.Discrete) and space.start != 0:
        return CategoricalFrom(int(space.n), int(space.start))
    if isinstance(space, spaces.MultiDiscrete) and space.start.any():
        return MultiCategoricalFrom(space.nvec.tolist(), space.start)
    return distribution

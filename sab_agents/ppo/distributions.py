"""Distributions over discrete actions in the numbers of their space, and drawn from without delay.

Dimensions: n rows, k choices in an action.
"""

from __future__ import annotations

from typing import Any, Self

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
from torch.distributions import Categorical

from sab_agents.kernels import all_finite


class CategoricalFrom(CategoricalDistribution):
    """A categorical distribution over `start`, `start` + 1, …; stable-baselines3's is over 0, 1, ….

    It draws what torch's own would draw, and makes one only for what else is asked: that takes as long as a step.

    Args:
        action_dim: how many actions there are.
        start: the first.
    """

    def __init__(self, action_dim: int, start: int) -> None:
        self._logits: Tensor | None = None
        self._made: Categorical | None = None
        super().__init__(action_dim)
        self.start = start

    @property
    def distribution(self) -> Any:
        """Torch's own, over 0, 1, …; None until there are logits."""
        if self._made is None and self._logits is not None:
            self._made = Categorical(logits=self._logits)
        return self._made

    @distribution.setter
    def distribution(self, made: Any) -> None:
        self._made = made

    def proba_distribution(self, action_logits: Tensor) -> Self:
        """Returns the distribution with logits (n, action_dim); this one, which a policy keeps, stays without any."""
        made = type(self)(self.action_dim, self.start)
        made._logits = action_logits
        return made

    def actions_from_params(self, action_logits: Tensor, deterministic: bool = False) -> Tensor:
        """Draws actions (n,) of the distribution with these logits."""
        return self.proba_distribution(action_logits).get_actions(deterministic=deterministic)

    def log_prob_from_params(self, action_logits: Tensor) -> tuple[Tensor, Tensor]:
        """Draws actions (n,) of the distribution with these logits, and returns their log-probabilities, too."""
        made = self.proba_distribution(action_logits)
        actions = made.get_actions()
        return actions, made.log_prob(actions)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Returns the log-probabilities (n,) of actions (n,)."""
        return super().log_prob(self._shifted(actions, -self.start))

    def sample(self) -> Tensor:
        """Draws actions (n,)."""
        return self._shifted(torch.multinomial(self._probabilities(), 1, True).squeeze(1), self.start)

    def mode(self) -> Tensor:
        """Returns the likeliest actions (n,)."""
        return self._shifted(self._probabilities().argmax(dim=1), self.start)

    def _probabilities(self) -> Tensor:
        """Returns the probabilities (n, action_dim), as torch's own computes them."""
        logits = self._logits
        if self._made is None and logits is not None and all_finite(logits):
            return torch.softmax(logits - logits.logsumexp(dim=-1, keepdim=True), dim=-1)
        made = self.distribution  # which says what is wrong with logits
        assert made is not None, "no logits yet"
        probabilities: Tensor = made.probs
        return probabilities

    @staticmethod
    def _shifted(actions: Tensor, by: int) -> Tensor:
        return actions + by if by else actions


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
    if isinstance(space, spaces.Discrete):
        return CategoricalFrom(int(space.n), int(space.start))
    if isinstance(space, spaces.MultiDiscrete) and space.start.any():
        return MultiCategoricalFrom(space.nvec.tolist(), space.start)
    return distribution

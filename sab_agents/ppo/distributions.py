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
from torch.nn import functional

from sab_agents.kernels import all_finite


class CategoricalFrom(CategoricalDistribution):
    """A categorical distribution over `start`, `start` + 1, …; stable-baselines3's is over 0, 1, ….

    It computes from logarithms of probabilities alone: torch's distribution, which checks what it is given, takes
    several times as long as the network in front of it. `distribution` makes one for those who ask.

    Args:
        action_dim: how many actions there are.
        start: the first.
    """

    _log_probs: Tensor

    def __init__(self, action_dim: int, start: int) -> None:
        super().__init__(action_dim)
        self.start = start

    def proba_distribution(self, action_logits: Tensor) -> Self:
        """Returns the distributions with logits (n, k); this one, which a policy keeps, stays without any."""
        made = type(self)(self.action_dim, self.start)
        made._log_probs = functional.log_softmax(action_logits, dim=1)
        return made

    @property
    def distribution(self) -> Categorical:  # type: ignore[override]
        """Torch's distribution over 0, 1, …."""
        return Categorical(logits=self._log_probs)

    def actions_from_params(self, action_logits: Tensor, deterministic: bool = False) -> Tensor:
        """Draws actions (n,) of the distributions with these logits."""
        return self.proba_distribution(action_logits).get_actions(deterministic=deterministic)

    def log_prob_from_params(self, action_logits: Tensor) -> tuple[Tensor, Tensor]:
        """Draws actions (n,) of the distributions with these logits, and returns their log-probabilities, too."""
        made = self.proba_distribution(action_logits)
        actions = made.get_actions()
        return actions, made.log_prob(actions)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Returns the log-probabilities (n,) of actions (n,)."""
        return self._log_probs.gather(1, self._from_zero(actions)).squeeze(1)

    def _from_zero(self, actions: Tensor) -> Tensor:
        actions = actions.long() - self.start if self.start else actions.long()
        return actions.view(-1, 1)

    def entropy(self) -> Tensor:
        """Returns the entropies (n,)."""
        return -(self._log_probs.exp() * self._log_probs.clamp(min=self._least)).sum(1)

    @property
    def _least(self) -> float:
        """The logarithm that is taken of no probability, so that its share of the entropy is 0."""
        return torch.finfo(self._log_probs.dtype).min

    def sample(self) -> Tensor:
        """Draws actions (n,)."""
        return self._shifted(torch.multinomial(self._probabilities(), 1, replacement=True).squeeze(1))

    def mode(self) -> Tensor:
        """Returns the likeliest actions (n,)."""
        return self._shifted(self._probabilities().argmax(dim=1))

    def _probabilities(self) -> Tensor:
        probabilities = self._log_probs.exp()
        if not all_finite(probabilities):
            raise ValueError(
                f"The logits of {self.action_dim} actions must be numbers, but hold NaN. Look for NaN in "
                "observations and parameters; a smaller learning_rate or max_grad_norm may keep them finite."
            )
        return probabilities

    def _shifted(self, actions: Tensor) -> Tensor:
        return actions + self.start if self.start else actions


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

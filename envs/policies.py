"""Scripted policies, which act for all copies of an environment at once.

Dimensions: n copies.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.vector.utils import batch_space

from sab_agents.envs.arrays import Array, Bools


class Policy(ABC):
    """Chooses actions from the current observations and from a memory that lasts until the end of the episode."""

    @abstractmethod
    def act(self, observations: Array, episode_start: Bools) -> Array:
        """Returns the actions of all copies.

        Args:
            observations: (n, …) current observations.
            episode_start: (n,) bool, True where the observation is the first of its episode.
        """


class Reactive(Policy):
    """A policy without memory: a function of the current observations.

    Args:
        rule: maps the observations (n, …) to the actions.
    """

    def __init__(self, rule: Callable[[Array], Array]) -> None:
        self._rule = rule

    def act(self, observations: Array, episode_start: Bools) -> Array:  # noqa: ARG002
        """See `Policy.act`."""
        return self._rule(observations)


class Remembering(Policy):
    """A policy that remembers one row for each copy.

    Args:
        update: maps the observations, the remembered rows and `episode_start` to the new rows, (n, …). At the start of
            an episode, the remembered row is still that of the previous episode; at the very first step it is zeros.
        rule: maps the observations, the new rows and `episode_start` to the actions.
    """

    def __init__(
        self, update: Callable[[Array, Array, Bools], Array], rule: Callable[[Array, Array, Bools], Array]
    ) -> None:
        self._update = update
        self._rule = rule
        self._memory: Array | None = None

    def act(self, observations: Array, episode_start: Bools) -> Array:
        """See `Policy.act`."""
        memory = self._memory
        if memory is None or len(memory) != len(observations):
            memory = np.zeros_like(self._update(observations, np.zeros(()), np.ones_like(episode_start)))
        self._memory = self._update(observations, memory, episode_start)
        return self._rule(observations, self._memory, episode_start)


class Uniform(Policy):
    """Samples every action uniformly from the action space.

    Args:
        action_space: action space of one copy.
        seed: seed of the samples.
    """

    def __init__(self, action_space: Space[Any], seed: int) -> None:
        self._space = action_space
        self._seed = seed
        self._batched: Space[Any] | None = None
        self._n = 0

    def act(self, observations: Array, episode_start: Bools) -> Array:  # noqa: ARG002
        """See `Policy.act`."""
        if self._batched is None or len(episode_start) != self._n:
            self._n = len(episode_start)
            self._batched = batch_space(self._space, self._n)
            self._batched.seed(self._seed)
        return np.asarray(self._batched.sample())

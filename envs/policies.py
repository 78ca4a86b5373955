"""Scripted policies, which act for all copies of an environment at once.

Dimensions: n copies.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import Space
from gymnasium.vector.utils import batch_space

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]


class Policy(ABC):
    """Chooses actions from what it observes and what it remembers; memory of an episode ends with the episode."""

    @abstractmethod
    def act(self, observations: Array, episode_start: Bools) -> Array:
        """Returns the actions of all copies.

        Args:
            observations: (n, …) what the copies show.
            episode_start: (n,) bool, which of the observations is the first of its episode.
        """


class Reactive(Policy):
    """A policy without memory: a function of the present observations."""

    def __init__(self, rule: Callable[[Array], Array]) -> None:
        self._rule = rule

    def act(self, observations: Array, episode_start: Bools) -> Array:  # noqa: ARG002
        """See `Policy.act`."""
        return self._rule(observations)


class Remembering(Policy):
    """A policy that remembers one row of numbers for each copy.

    Args:
        note: the rows to remember, (n, …), from the observations, the rows that are remembered and `episode_start`.
            At the start of an episode the remembered row is still that of the last episode, or zeros.
        rule: the actions from the observations, the noted rows and `episode_start`.
    """

    def __init__(
        self, note: Callable[[Array, Array, Bools], Array], rule: Callable[[Array, Array, Bools], Array]
    ) -> None:
        self._note = note
        self._rule = rule
        self._noted: Array | None = None

    def act(self, observations: Array, episode_start: Bools) -> Array:
        """See `Policy.act`."""
        held = self._noted
        if held is None or len(held) != len(observations):
            held = np.zeros_like(self._note(observations, np.zeros(()), np.ones_like(episode_start)))
        self._noted = self._note(observations, held, episode_start)
        return self._rule(observations, self._noted, episode_start)


class Uniform(Policy):
    """Samples every action from the action space."""

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

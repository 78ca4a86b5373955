"""The dynamics of an environment for n copies at once: one implementation for its single and its vector form.

Dimensions: n copies.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium import Space

from sab_agents.envs.arrays import Array, Bools, Floats, Image, Ints
from sab_agents.envs.policies import Policy

MAX_STEPS = 1_000_000
"""The most steps that a length may ask for: an episode's random numbers are drawn and stored when it begins."""


@dataclass(frozen=True)
class Returns:
    """Expected undiscounted returns of an episode; None if a return is unknown.

    Attributes:
        best: return of the best policy.
        random: return of the policy that samples its actions uniformly from the action space.
        memoryless: return of the best policy that sees only the current observation.
    """

    best: float | None
    random: float | None
    memoryless: float | None


class Dynamics(ABC):
    """Steps n copies of an environment together, in NumPy.

    The constructor takes only the settings and checks them; `allocate` then allocates the state of the copies. All
    random numbers of an episode are drawn when it begins, from the generator of its copy and in a fixed order. The
    episodes of a copy therefore depend on its generator alone, not on the number of copies.

    Attributes:
        purpose: what the environment tests, in one line.
        length_argument: name of the setting that lengthens an episode, or "" if the length is fixed.
        observation_space: observation space of one copy.
        action_space: action space of one copy.
        horizon: number of steps of the longest episode, or None if episodes never end.
        n: number of copies, 0 before `allocate`.
    """

    purpose: ClassVar[str]
    length_argument: ClassVar[str] = "length"
    observation_space: Space[Any]
    action_space: Space[Any]
    horizon: int | None
    n: int = 0

    @property
    @abstractmethod
    def returns(self) -> Returns:
        """Expected returns of the best, the random and the best memoryless policy with these settings."""

    @abstractmethod
    def allocate(self, n: int) -> None:
        """Allocates the state of n copies and sets `n`. No copy has begun an episode yet."""

    @abstractmethod
    def begin(self, copies: Ints, generators: Sequence[np.random.Generator]) -> None:
        """Begins an episode in each of the listed copies and draws all of its random numbers.

        Args:
            copies: (m,) indices of the copies, in ascending order.
            generators: the m generators of these copies.
        """

    @abstractmethod
    def advance(self, actions: Array) -> tuple[Floats, Bools, Bools]:
        """Takes one step in every copy.

        A copy whose episode ended at the previous step may be advanced once more. The result of that step is discarded,
        but the step must not raise.

        Args:
            actions: (n, …) actions that have been checked. The array may belong to the caller and must not be modified.

        Returns:
            Rewards, terminated and truncated, (n,) each, as new arrays that the caller may modify.
        """

    @abstractmethod
    def observe(self) -> Array:
        """Returns the current observations of all copies, (n, …), as a new array that the caller may modify."""

    def info(self) -> Mapping[str, Array]:
        """Returns the entries of `info` that describe the current state, (n, …) new arrays; none by default."""
        return {}

    def ending_info(self) -> Mapping[str, Array]:
        """Returns the entries of `info` for copies whose episode ends now, (n, …) new arrays; none by default."""
        return {}

    def oracle(self) -> Policy:
        """Returns a policy that reaches the best return.

        Raises:
            NotImplementedError: the environment has no scripted oracle.
        """
        raise NotImplementedError(f"{type(self).__name__} has no scripted oracle. Use a trained or a random policy.")

    def memoryless(self) -> Policy:
        """Returns a policy that reaches the memoryless return and depends only on the current observation.

        Raises:
            NotImplementedError: the environment has no scripted memoryless policy.
        """
        raise NotImplementedError(f"{type(self).__name__} has no scripted memoryless policy. Use a random policy.")

    def picture(self, copy: int) -> Image:
        """Renders one copy as an RGB image, (height, width, 3).

        Raises:
            NotImplementedError: the environment cannot be rendered as an image.
        """
        raise NotImplementedError(f"{type(self).__name__} has no image of copy {copy}. Use render_mode=None.")

    def text(self, copy: int) -> str:
        """Renders one copy as text.

        Raises:
            NotImplementedError: the environment cannot be rendered as text.
        """
        raise NotImplementedError(f"{type(self).__name__} has no text for copy {copy}. Use render_mode=None.")


class TimedDynamics(Dynamics):
    """Dynamics whose episodes all terminate after `horizon` steps; `_t` counts the steps of each copy."""

    horizon: int

    def allocate(self, n: int) -> None:
        """See `Dynamics.allocate`."""
        self.n = n
        self._t = np.zeros(n, dtype=np.int64)
        self._copies = np.arange(n)

    def _restart(self, copies: Ints) -> None:
        self._t[copies] = 0

    def _tick(self) -> tuple[Bools, Bools]:
        """Counts one step of every copy and returns terminated and truncated."""
        self._t += 1
        return self._t >= self.horizon, np.zeros(self.n, dtype=np.bool_)

    def _progress(self, copy: int) -> float:
        return float(self._t[copy]) / self.horizon

    def _step_line(self, copy: int) -> str:
        return f"step {self._t[copy]} of {self.horizon}"

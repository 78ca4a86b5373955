"""What an environment does, for n copies at once: the one implementation behind its single and its vectorised form.

Dimensions: n copies.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from gymnasium import Space

from sab_agents.envs.policies import Policy

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Returns:
    """Expected undiscounted returns of an episode.

    Attributes:
        best: of the best policy.
        random: of the policy that samples its actions uniformly from the action space.
        memoryless: of the best policy that sees only the present observation.
    """

    best: float | None
    random: float | None
    memoryless: float | None


class Dynamics(ABC):
    """Steps n copies of an environment together, in numpy.

    A constructor takes the settings alone and checks them; `allocate` then makes room for the copies. All the
    randomness of an episode is drawn when it begins, from its copy's own generator and in a fixed order. A copy's
    episodes therefore follow from its generator alone, however many copies there are.

    Attributes:
        purpose: one line, what the environment tests.
        length_argument: the name of the setting that lengthens an episode.
        observation_space: of one copy.
        action_space: of one copy.
        horizon: the steps of the longest episode, or None where there is no end.
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
        """What the best, the random and the best memoryless policy earn with these settings."""

    @abstractmethod
    def allocate(self, n: int) -> None:
        """Makes room for n copies, none of which has begun an episode; sets `n`."""

    @abstractmethod
    def begin(self, copies: Ints, generators: Sequence[np.random.Generator]) -> None:
        """Begins an episode of each of the given copies and draws all of its random numbers.

        Args:
            copies: (m,) the numbers of the copies, in ascending order.
            generators: the m generators of those copies.
        """

    @abstractmethod
    def advance(self, actions: Array) -> tuple[Floats, Bools, Bools]:
        """Takes one step with every copy.

        A copy whose episode ended at the step before may be advanced once more; what comes of it is not used, but it
        must not raise.

        Args:
            actions: (n, …) actions, which have been checked; the array may be the caller's, so it is only read.

        Returns:
            Rewards, terminated and truncated, (n,) each; new arrays, which belong to the caller.
        """

    @abstractmethod
    def observe(self) -> Array:
        """Returns what the copies show now, (n, …): a new array, which belongs to the caller."""

    def info(self) -> Mapping[str, Array]:
        """Returns what `info` says of the present state of every copy: new arrays of n entries. None by default."""
        return {}

    def ending_info(self) -> Mapping[str, Array]:
        """Returns what `info` says only of copies whose episode ends at this step: new arrays of n entries."""
        return {}

    def oracle(self) -> Policy:
        """Returns a policy that reaches the best return.

        Raises:
            NotImplementedError: this environment has none.
        """
        raise NotImplementedError(f"{type(self).__name__} has no scripted oracle. Use a trained or a random policy.")

    def memoryless(self) -> Policy:
        """Returns a policy that reaches the memoryless return and looks at nothing but the present observation.

        Raises:
            NotImplementedError: this environment has none.
        """
        raise NotImplementedError(f"{type(self).__name__} has no scripted memoryless policy. Use a random policy.")

    def picture(self, copy: int) -> Image:
        """Returns a picture of one copy, (height, width, 3).

        Raises:
            NotImplementedError: this environment has no renderer.
        """
        raise NotImplementedError(f"{type(self).__name__} draws no pictures, so copy {copy} cannot be rendered.")

    def text(self, copy: int) -> str:
        """Returns one copy as text.

        Raises:
            NotImplementedError: this environment has no renderer.
        """
        raise NotImplementedError(f"{type(self).__name__} writes no text, so copy {copy} cannot be rendered.")

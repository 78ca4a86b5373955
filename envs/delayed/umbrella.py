"""The umbrella chain of bsuite: only the first action decides the reward of the last step.

Dimensions: n copies, N length, D distractors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from gymnasium import spaces

from sab_agents.checks import int_between
from sab_agents.envs.arrays import Array, Bools, Floats, Image, Ints
from sab_agents.envs.drawing import AGENT, BAD, FLOOR, GOOD, GROUND, MARK, MAX_COLUMNS, SIGN, column_of, picture_of
from sab_agents.envs.dynamics import MAX_STEPS, Returns, TimedDynamics
from sab_agents.envs.forms import DynamicsEnv, DynamicsVectorEnv
from sab_agents.envs.policies import Policy, Reactive


class Umbrella(TimedDynamics):
    """The agent takes an umbrella or not, walks for N = `length` steps with random rewards, and then it rains or not.

    Actions: Discrete(2): the first action takes the umbrella (1) or leaves it (0); later actions have no effect.
    Observations: Box(3 + D): [need, has, 1 - t / N, distractors]. `need` is 0 or 1 with equal probability. `has` is
    also random at first, and the first action afterwards. Each of the D distractors is 0 or 1, drawn at every step.
    Rewards: after the last step 1 if has = need, else -1; after every other step 1 or -1 with equal probability.
    Episodes end (terminated) after N steps; `info["is_success"]` then says whether has = need.

    Returns (expected values: the random rewards add 0, with a variance of N - 1):
        best: 1, by choosing `need` as the first action.
        random: 0, the first action equals `need` in half of the episodes.
        memoryless: 1: the first observation shows `need`, and no later action matters, so no memory is needed to act
            well. The difficulty is to credit the first action for the last reward.

    Args:
        length: N, the number of steps.
        distractors: D, the number of random bits in the observation.

    Source: umbrella_length and umbrella_distract of Osband et al. (2020), Behaviour suite for reinforcement learning.
    """

    purpose = "credit: the first action decides the last reward, amid random rewards"

    def __init__(self, length: int = 100, distractors: int = 20) -> None:
        self.length = int_between("Umbrella", "length", length, 1, MAX_STEPS)
        self.distractors = int_between("Umbrella", "distractors", distractors, 0, 1000)
        self.horizon = self.length
        self.observation_space = spaces.Box(0.0, 1.0, shape=(3 + self.distractors,), dtype=np.float32)
        self.action_space = spaces.Discrete(2)

    @property
    def returns(self) -> Returns:
        """See the class docstring."""
        return Returns(best=1.0, random=0.0, memoryless=1.0)

    def allocate(self, n: int) -> None:
        """See `Dynamics.allocate`."""
        super().allocate(n)
        self._need = np.zeros(n, dtype=np.int64)
        self._has = np.zeros(n, dtype=np.int64)
        self._rewards = np.zeros((0, 0), dtype=np.int8)
        self._distracting = np.zeros((0, 0, 0), dtype=np.int8)

    def begin(self, copies: Ints, generators: Sequence[np.random.Generator]) -> None:
        """See `Dynamics.begin`. Draws need and has, the rewards of N - 1 steps, and N + 1 times D distractors."""
        self._restart(copies)
        N, D = self.length, self.distractors
        if not len(self._rewards):  # one more row than steps, for copies that are advanced past their end
            self._rewards = np.zeros((self.n, N + 2), dtype=np.int8)
            self._distracting = np.zeros((self.n, N + 2, D), dtype=np.int8)
        for copy, generator in zip(copies, generators, strict=True):
            self._need[copy], self._has[copy] = generator.random(2) >= 0.5
            self._rewards[copy, 1:N] = 2 * generator.integers(2, size=N - 1, dtype=np.int8) - 1
            self._distracting[copy, : N + 1] = generator.integers(2, size=(N + 1, D), dtype=np.int8)

    def advance(self, actions: Array) -> tuple[Floats, Bools, Bools]:
        """See `Dynamics.advance`."""
        np.copyto(self._has, actions, where=self._t == 0)
        terminated, truncated = self._tick()
        rewards = self._rewards[self._copies, self._t].astype(np.float64)
        if terminated.any():
            rewards[terminated] = np.where(self._has == self._need, 1.0, -1.0)[terminated]
        return rewards, terminated, truncated

    def ending_info(self) -> Mapping[str, Array]:
        """See `Dynamics.ending_info`."""
        return {"is_success": self._has == self._need}

    def observe(self) -> Array:
        """See `Dynamics.observe`."""
        observations = np.empty((self.n, 3 + self.distractors), dtype=np.float32)
        observations[:, 0] = self._need
        observations[:, 1] = self._has
        observations[:, 2] = 1 - np.minimum(self._t, self.length) / self.length
        observations[:, 3:] = self._distracting[self._copies, self._t]
        return observations

    def oracle(self) -> Policy:
        """Returns the policy that takes the umbrella if it is needed."""
        return Reactive(lambda observations: observations[:, 0].astype(np.int64))

    def memoryless(self) -> Policy:
        """Returns the oracle, which needs no memory."""
        return self.oracle()

    def picture(self, copy: int) -> Image:
        """See `Dynamics.picture`: the walk, with the weather (blue for rain) and the outcome at its end."""
        columns = min(self.length + 1, MAX_COLUMNS)
        tiles = np.full((3, columns + 2), GROUND)
        tiles[1, 1:-1] = FLOOR
        tiles[0, -2] = MARK if self._need[copy] else SIGN
        tiles[1, -2] = GOOD if self._has[copy] == self._need[copy] else BAD
        place = 1 + column_of(min(int(self._t[copy]), self.length), self.length, columns)
        tiles[1, place] = AGENT
        tiles[0, place] = MARK if self._has[copy] else tiles[0, place]
        return picture_of(tiles, self._progress(copy))

    def text(self, copy: int) -> str:
        """See `Dynamics.text`."""
        need, has = ("umbrella" if wet else "no umbrella" for wet in (self._need[copy], self._has[copy]))
        return f"needs {need}, has {has}; {self._step_line(copy)}"


class UmbrellaEnv(DynamicsEnv):
    """One copy of `Umbrella`."""

    dynamics_class = Umbrella


class UmbrellaVectorEnv(DynamicsVectorEnv):
    """n copies of `Umbrella`."""

    dynamics_class = Umbrella

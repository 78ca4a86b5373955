"""The memory chain of bsuite: bits shown at the start are queried at the end.

Dimensions: n copies, N length.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gymnasium import spaces

from sab_agents.checks import float_between, int_between
from sab_agents.envs.arrays import Array, Bools, Floats, Image, Ints
from sab_agents.envs.drawing import AGENT, BAD, FLOOR, GOOD, GROUND, MARK, MAX_COLUMNS, SIGN, column_of, picture_of
from sab_agents.envs.dynamics import MAX_STEPS, Returns, TimedDynamics
from sab_agents.envs.forms import DynamicsEnv, DynamicsVectorEnv
from sab_agents.envs.policies import Policy, Reactive, Remembering

MAX_ROWS = 12  # of an image


class MemoryChain(TimedDynamics):
    """Shows bits at the start and queries one of them N = `length` steps later.

    The dynamics of bsuite return the observation that precedes the step, so the first observation is seen twice and an
    episode takes N + 1 steps. This is kept for comparability: after k steps, s = max(k - 1, 0).

    Actions: Discrete(2): 1 answers +1, 0 answers -1; only the last action matters.
    Observations: Box(2 + num_bits): [1 - s / N, query, bits]. The bits, each 1 or -1 with equal probability, are shown
    at s = 0 and are zero otherwise. The query, the index of the queried bit, is shown at s = N - 1, before the last
    action, and is zero otherwise. With `noise`, each bit that would be zero is uniform in [-noise, noise] instead.
    Rewards: after the last step 1 if the answer equals the queried bit, else -1; after every other step 0.
    Episodes end (terminated) after N + 1 steps.

    Returns:
        best: 1, by remembering the bits.
        random: 0, the answer is correct in half of the episodes.
        memoryless: 0 for N > 1: the last observation has the query but no bits, so the answer is independent of the
            bit. 1 for N = 1, where bits and query are observed together.

    Args:
        length: N, the delay in steps.
        num_bits: number of bits.
        noise: amplitude of the noise while no bits are shown, from 0 to 1.

    Source: memory_len and memory_size of Osband et al. (2020), Behaviour suite for reinforcement learning.
    """

    purpose = "memory: the last answer is a bit that was shown at the start"

    def __init__(self, length: int = 100, num_bits: int = 1, noise: float = 0.0) -> None:
        self.length = N = int_between("MemoryChain", "length", length, 1, MAX_STEPS)
        self.num_bits = int_between("MemoryChain", "num_bits", num_bits, 1, 1000)
        self.noise = float_between("MemoryChain", "noise", noise, 0.0, 1.0)
        self.horizon = N + 1
        low = np.array([0, 0] + [-1] * self.num_bits, dtype=np.float32)
        high = np.array([1, max(1, self.num_bits - 1)] + [1] * self.num_bits, dtype=np.float32)
        self.observation_space = spaces.Box(low, high, dtype=np.float32)
        self.action_space = spaces.Discrete(2)

    @property
    def returns(self) -> Returns:
        """See the class docstring."""
        return Returns(best=1.0, random=0.0, memoryless=1.0 if self.length == 1 else 0.0)

    def allocate(self, n: int) -> None:
        """See `Dynamics.allocate`."""
        super().allocate(n)
        self._bits = np.zeros((n, self.num_bits), dtype=np.float32)
        self._query = np.zeros(n, dtype=np.int64)
        self._answer = np.zeros(n, dtype=np.int64)
        self._noise = np.zeros((0, 0, 0), dtype=np.float32)

    def begin(self, copies: Ints, generators: Sequence[np.random.Generator]) -> None:
        """See `Dynamics.begin`. Draws the bits, the query and, if `noise` is not 0, the noise, in this order."""
        self._restart(copies)
        if self.noise and not len(self._noise):
            self._noise = np.zeros((self.n, self.horizon + 2, self.num_bits), dtype=np.float32)
        for copy, generator in zip(copies, generators, strict=True):
            self._bits[copy] = np.where(generator.random(self.num_bits) < 0.5, -1, 1)
            self._query[copy] = generator.integers(self.num_bits)
            if self.noise:
                self._noise[copy, 2:-1] = generator.uniform(-self.noise, self.noise, (self.length, self.num_bits))
        self._answer[copies] = self._bits[copies, self._query[copies]] > 0

    def advance(self, actions: Array) -> tuple[Floats, Bools, Bools]:
        """See `Dynamics.advance`."""
        terminated, truncated = self._tick()
        rewards = np.zeros(self.n)
        if terminated.any():
            rewards[terminated] = np.where(actions == self._answer, 1.0, -1.0)[terminated]
        return rewards, terminated, truncated

    def observe(self) -> Array:
        """See `Dynamics.observe`."""
        s = np.maximum(self._t - 1, 0)
        observations = np.zeros((self.n, 2 + self.num_bits), dtype=np.float32)
        observations[:, 0] = 1 - np.minimum(s, self.length) / self.length
        np.multiply(self._query, s == self.length - 1, out=observations[:, 1], casting="unsafe")
        np.multiply(self._bits, (s == 0)[:, None], out=observations[:, 2:])
        if self.noise:
            observations[:, 2:] += self._noise[self._copies, np.minimum(self._t, self.horizon + 1)]
        return observations

    def oracle(self) -> Policy:
        """Returns the policy that remembers the bits of the first observation and answers with the queried one."""
        return Remembering(
            update=lambda observations, bits, start: np.where(start[:, None], observations[:, 2:], bits),
            rule=lambda observations, bits, _start: _answer(bits, observations[:, 1]),
        )

    def memoryless(self) -> Policy:
        """Returns the policy that answers with the queried entry of the current observation."""
        return Reactive(lambda observations: _answer(observations[:, 2:], observations[:, 1]))

    def picture(self, copy: int) -> Image:
        """See `Dynamics.picture`: time runs to the right, from the bits on the left to the query on the right."""
        columns = min(self.horizon, MAX_COLUMNS)
        bits = self._bits[copy][:MAX_ROWS]
        tiles = np.full((len(bits) + 2, columns + 2), GROUND)
        tiles[1:-1, 1:-1] = FLOOR
        if self._t[copy] <= 1:
            tiles[1:-1, 1] = np.where(bits > 0, GOOD, BAD)
        if self._t[copy] >= self.length:
            tiles[1:-1, -2] = MARK
            tiles[1 + min(int(self._query[copy]), len(bits) - 1), -2] = SIGN
        tiles[0, 1 + column_of(min(int(self._t[copy]), self.length), self.length, columns)] = AGENT
        return picture_of(tiles, self._progress(copy))

    def text(self, copy: int) -> str:
        """See `Dynamics.text`."""
        shown = " ".join("+" if bit > 0 else "-" for bit in self._bits[copy]) if self._t[copy] <= 1 else "hidden"
        queried = f"bit {self._query[copy]}" if self._t[copy] == self.length else "none yet"
        return f"bits {shown}; asked for {queried}; {self._step_line(copy)}"


def _answer(bits: Array, query: Array) -> Array:
    """Returns the actions that answer with the queried bits, (n,) in {0, 1}."""
    return (bits[np.arange(len(bits)), query.astype(np.int64)] > 0).astype(np.int64)


class MemoryChainEnv(DynamicsEnv):
    """One copy of `MemoryChain`."""

    dynamics_class = MemoryChain


class MemoryChainVectorEnv(DynamicsVectorEnv):
    """n copies of `MemoryChain`."""

    dynamics_class = MemoryChain

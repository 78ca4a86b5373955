"""bsuite's memory chain: bits shown at the start are asked for at the end.

Dimensions: n copies, N length.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gymnasium import spaces

from sab_agents.envs.checks import number, whole
from sab_agents.envs.delayed.timed import Timed
from sab_agents.envs.drawing import AGENT, BAD, FLOOR, GOOD, GROUND, MARK, SIGN, picture_of, squeezed
from sab_agents.envs.dynamics import Array, Bools, Floats, Image, Ints, Returns
from sab_agents.envs.policies import Policy, Reactive, Remembering
from sab_agents.envs.single import DynamicsEnv
from sab_agents.envs.vectorised import DynamicsVectorEnv

WIDEST, HIGHEST = 40, 12  # columns and rows of a picture


class MemoryChain(Timed):
    """Shows bits, and N = `length` steps later asks for one of them: remember them through the corridor.

    bsuite's dynamics return the observation of the time before the step, so that the first observation is seen twice
    and an episode takes N + 1 steps. This is kept, so that the numbers compare: after k steps s = max(k - 1, 0).

    Actions: Discrete(2): 1 answers +1, 0 answers -1; only the last counts.
    Observations: Box(2 + num_bits): [1 - s / N, query, bits]. The bits, each 1 or -1 with equal chance, are shown where
    s = 0 and else are zero; the query, the number of the bit that is asked for, is shown where s = N - 1, before the
    last action, and else is zero. With `noise` each entry of bits that would be zero is uniform in [-noise, noise].
    Rewards: after the last step 1 where the answer is the bit and -1 where it is not; else 0.
    Episodes end (terminated) after N + 1 steps.

    Returns:
        best: 1, the bit is remembered.
        random: 0, the answer is right for one of two.
        memoryless: 0 for N > 1, where the last action sees the query but no bit, and bit and answer are independent.
            With N = 1 bits and query are seen at once: 1.

    Args:
        length: N.
        num_bits: how many bits are shown.
        noise: how large the noise in the corridor is, from 0 to 1.

    Source: memory_len and memory_size of Osband et al. (2020), Behaviour suite for reinforcement learning.
    """

    purpose = "memory: the last answer is a bit that was shown at the start"

    def __init__(self, length: int = 100, num_bits: int = 1, noise: float = 0.0) -> None:
        self.length = N = whole("MemoryChain", "length", length)
        self.num_bits = whole("MemoryChain", "num_bits", num_bits, maximum=1000)
        self.noise = number("MemoryChain", "noise", noise, 0.0, 1.0)
        self.horizon = N + 1
        low = np.array([0, 0] + [-1] * self.num_bits, dtype=np.float32)
        high = np.array([1, max(1, self.num_bits - 1)] + [1] * self.num_bits, dtype=np.float32)
        self.observation_space = spaces.Box(low, high, dtype=np.float32)
        self.action_space = spaces.Discrete(2)

    @property
    def returns(self) -> Returns:
        """See the class."""
        return Returns(best=1.0, random=0.0, memoryless=1.0 if self.length == 1 else 0.0)

    def allocate(self, n: int) -> None:
        """See `Dynamics.allocate`."""
        super().allocate(n)
        self._bits = np.zeros((n, self.num_bits), dtype=np.float32)
        self._query = np.zeros(n, dtype=np.int64)
        self._answer = np.zeros(n, dtype=np.int64)
        self._noise = np.zeros((0, 0, 0), dtype=np.float32)

    def begin(self, copies: Ints, generators: Sequence[np.random.Generator]) -> None:
        """See `Dynamics.begin`; draws the bits, the query and, where there is any, the noise, in this order."""
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
        """Notes the bits of the first observation and answers the one that is asked for."""
        return Remembering(
            note=lambda seen, held, first: np.where(first[:, None], seen[:, 2:], held),
            rule=lambda seen, held, _: asked_for(held, seen[:, 1]),
        )

    def memoryless(self) -> Policy:
        """Answers what is shown of the bit that is asked for."""
        return Reactive(lambda seen: asked_for(seen[:, 2:], seen[:, 1]))

    def picture(self, copy: int) -> Image:
        """See `Dynamics.picture`: time runs to the right; the bits stand at the left, the query at the right."""
        columns = min(self.horizon, WIDEST)
        bits = self._bits[copy][:HIGHEST]
        tiles = np.full((len(bits) + 2, columns + 2), GROUND)
        tiles[1:-1, 1:-1] = FLOOR
        if self._t[copy] <= 1:
            tiles[1:-1, 1] = np.where(bits > 0, GOOD, BAD)
        if self._t[copy] >= self.length:
            tiles[1:-1, -2] = MARK
            tiles[1 + min(int(self._query[copy]), len(bits) - 1), -2] = SIGN
        tiles[0, 1 + squeezed(min(int(self._t[copy]), self.length), self.length, columns)] = AGENT
        return picture_of(tiles, self._progress(copy))

    def text(self, copy: int) -> str:
        """See `Dynamics.text`."""
        shown = " ".join("+" if bit > 0 else "-" for bit in self._bits[copy]) if self._t[copy] <= 1 else "hidden"
        asked = f"bit {self._query[copy]}" if self._t[copy] == self.length else "none yet"
        return f"bits {shown}; asked for {asked}; {self._step_line(copy)}"


def asked_for(bits: Array, query: Array) -> Array:
    """The answers, 0 or 1, when these bits are believed."""
    return (bits[np.arange(len(bits)), query.astype(np.int64)] > 0).astype(np.int64)


class MemoryChainEnv(DynamicsEnv):
    """One `MemoryChain`."""

    dynamics_class = MemoryChain


class MemoryChainVectorEnv(DynamicsVectorEnv):
    """Many `MemoryChain`."""

    dynamics_class = MemoryChain

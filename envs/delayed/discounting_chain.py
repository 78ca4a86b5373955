"""The discounting chain of bsuite: the first action chooses when the only reward arrives.

Dimensions: n copies, N length.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gymnasium import spaces

from sab_agents.checks import int_between
from sab_agents.envs.arrays import Array, Bools, Floats, Image, Ints
from sab_agents.envs.drawing import AGENT, FLOOR, GOOD, GROUND, MARK, MAX_COLUMNS, SIGN, column_of, picture_of
from sab_agents.envs.dynamics import MAX_STEPS, Returns, TimedDynamics
from sab_agents.envs.forms import DynamicsEnv, DynamicsVectorEnv
from sab_agents.envs.policies import Policy, Reactive

PERCENT = np.array([1, 3, 10, 30, 100])  # of the episode that has passed when each chain pays
CHAINS = len(PERCENT)
BONUS = 0.1


class DiscountingChain(TimedDynamics):
    """The first action chooses one of five chains, which pay 1 after 1, 3, 10, 30 or 100 % of the N = `length` steps.

    One chain pays 0.1 more. An agent that discounts little finds it wherever it is; other agents prefer a chain that
    pays soon.

    Actions: Discrete(5): the first action chooses the chain; later actions have no effect.
    Observations: Box(2): [chain, t / N], where chain is -1 before the choice and then 0 … 4.
    Rewards: 1, or 1.1 in the chain `bonus_chain`, after step ⌈N p / 100⌉ with p = 1, 3, 10, 30, 100; else 0. With
    N = 100 these are the published steps 1, 3, 10, 30 and 100.
    Episodes end (terminated) after N steps.

    Returns (undiscounted):
        best: 1.1, the chain with the bonus.
        random: 1.02, the mean over the five chains, (5 + 0.1) / 5.
        memoryless: 1.1. Only the first action matters, and the first observation is always the same, so no memory is
            needed to act well.

    Args:
        length: N, the number of steps.
        bonus_chain: the chain that pays more, 0 … 4; the published environment draws it once per experiment.

    Source: discounting_chain of Osband et al. (2020), Behaviour suite for reinforcement learning.
    """

    purpose = "discounting: one choice, and the best reward comes latest"

    def __init__(self, length: int = 100, bonus_chain: int = 4) -> None:
        self.length = int_between("DiscountingChain", "length", length, 1, MAX_STEPS)
        self.bonus_chain = int_between("DiscountingChain", "bonus_chain", bonus_chain, 0, CHAINS - 1)
        self.horizon = self.length
        self.pays_after = -(-self.length * PERCENT // 100)
        self._amounts = 1.0 + BONUS * (np.arange(CHAINS) == self.bonus_chain)
        self.observation_space = spaces.Box(
            np.array([-1, 0], dtype=np.float32), np.array([CHAINS - 1, 1], dtype=np.float32), dtype=np.float32
        )
        self.action_space = spaces.Discrete(CHAINS)

    @property
    def returns(self) -> Returns:
        """See the class docstring."""
        return Returns(best=1 + BONUS, random=1 + BONUS / CHAINS, memoryless=1 + BONUS)

    def allocate(self, n: int) -> None:
        """See `Dynamics.allocate`."""
        super().allocate(n)
        self._chain = np.full(n, -1)

    def begin(self, copies: Ints, generators: Sequence[np.random.Generator]) -> None:  # noqa: ARG002
        """See `Dynamics.begin`. Nothing is random."""
        self._restart(copies)
        self._chain[copies] = -1

    def advance(self, actions: Array) -> tuple[Floats, Bools, Bools]:
        """See `Dynamics.advance`."""
        np.copyto(self._chain, actions, where=self._t == 0)
        terminated, truncated = self._tick()
        rewards = (self._t == self.pays_after[self._chain]) * self._amounts[self._chain]
        return rewards, terminated, truncated

    def observe(self) -> Array:
        """See `Dynamics.observe`."""
        observations = np.empty((self.n, 2), dtype=np.float32)
        observations[:, 0] = self._chain
        observations[:, 1] = np.minimum(self._t, self.length) / self.length
        return observations

    def oracle(self) -> Policy:
        """Returns the policy that chooses the chain with the bonus."""
        return Reactive(lambda observations: np.full(len(observations), self.bonus_chain))

    def memoryless(self) -> Policy:
        """Returns the oracle, which needs no memory."""
        return self.oracle()

    def picture(self, copy: int) -> Image:
        """See `Dynamics.picture`: the five chains, where each of them pays (green with the bonus), and the agent."""
        columns = min(self.length + 1, MAX_COLUMNS)
        tiles = np.full((CHAINS, columns + 4), GROUND)
        chain, t = int(self._chain[copy]), min(int(self._t[copy]), self.length)
        for row, paid in enumerate(self.pays_after):
            tiles[row, 3:-1] = MARK if row == chain else FLOOR
            tiles[row, 3 + column_of(int(paid), self.length, columns)] = GOOD if row == self.bonus_chain else SIGN
        tiles[(CHAINS // 2, 1) if chain < 0 else (chain, 3 + column_of(t, self.length, columns))] = AGENT
        return picture_of(tiles, self._progress(copy))

    def text(self, copy: int) -> str:
        """See `Dynamics.text`."""
        chain = int(self._chain[copy])
        chosen = "no chain chosen" if chain < 0 else f"chain {chain}, pays after step {self.pays_after[chain]}"
        return f"{chosen}; {self._step_line(copy)}"


class DiscountingChainEnv(DynamicsEnv):
    """One copy of `DiscountingChain`."""

    dynamics_class = DiscountingChain


class DiscountingChainVectorEnv(DynamicsVectorEnv):
    """n copies of `DiscountingChain`."""

    dynamics_class = DiscountingChain

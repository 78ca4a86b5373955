"""First-step credit: the first action decides the reward at the end of the episode.

Dimensions: n copies, N length.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gymnasium import spaces

from sab_agents.checks import int_between
from sab_agents.envs.arrays import Array, Bools, Floats, Image, Ints
from sab_agents.envs.drawing import AGENT, BAD, FLOOR, GOOD, GROUND, MARK, MAX_COLUMNS, column_of, picture_of
from sab_agents.envs.dynamics import MAX_STEPS, Returns, TimedDynamics
from sab_agents.envs.forms import DynamicsEnv, DynamicsVectorEnv
from sab_agents.envs.policies import Policy, Reactive


class FirstStepCredit(TimedDynamics):
    """Action 0 at the first step earns a reward after N = `length` steps; no observation in between predicts it.

    A learner whose gradients are cut in between can only find this out if it assigns credit to its memory of the first
    step. The previous action is observed, so that there is something to remember.

    Actions: Discrete(2); only the first action matters.
    Observations: Box(2): the previous action, [1, 0] or [0, 1]; [0, 0] at the first step.
    Rewards: 1 after the last step if the first action was 0, else 0.
    Episodes end (terminated) after N steps.

    Returns:
        best: 1.
        random: 1/2, the first action is 0 in half of the episodes.
        memoryless: 1, by always choosing 0. Memory is needed to predict the reward, not to act well.

    Args:
        length: N, the number of steps.

    Source: pull request 478 of PufferLib (2026), where N = 128 and gradients are cut at 64 steps.
    """

    purpose = "credit: the first action decides the last reward, and nothing else does"

    def __init__(self, length: int = 128) -> None:
        self.length = int_between("FirstStepCredit", "length", length, 1, MAX_STEPS)
        self.horizon = self.length
        self.observation_space = spaces.Box(0.0, 1.0, shape=(2,), dtype=np.float32)
        self.action_space = spaces.Discrete(2)

    @property
    def returns(self) -> Returns:
        """See the class docstring."""
        return Returns(best=1.0, random=0.5, memoryless=1.0)

    def allocate(self, n: int) -> None:
        """See `Dynamics.allocate`."""
        super().allocate(n)
        self._first = np.zeros(n, dtype=np.int64)
        self._previous = np.zeros(n, dtype=np.int64)

    def begin(self, copies: Ints, generators: Sequence[np.random.Generator]) -> None:  # noqa: ARG002
        """See `Dynamics.begin`. Nothing is random."""
        self._restart(copies)
        self._previous[copies] = -1

    def advance(self, actions: Array) -> tuple[Floats, Bools, Bools]:
        """See `Dynamics.advance`."""
        np.copyto(self._first, actions, where=self._t == 0)
        np.copyto(self._previous, actions)
        terminated, truncated = self._tick()
        return (terminated & (self._first == 0)).astype(np.float64), terminated, truncated

    def observe(self) -> Array:
        """See `Dynamics.observe`."""
        observations = np.zeros((self.n, 2), dtype=np.float32)
        np.equal(self._previous[:, None], np.arange(2), out=observations, casting="unsafe")
        return observations

    def oracle(self) -> Policy:
        """Returns the policy that always chooses 0."""
        return Reactive(lambda observations: np.zeros(len(observations), dtype=np.int64))

    def memoryless(self) -> Policy:
        """Returns the oracle, which needs no memory."""
        return self.oracle()

    def picture(self, copy: int) -> Image:
        """See `Dynamics.picture`: the previous action on the left, and one lane to the end for each first action."""
        columns = min(self.length + 1, MAX_COLUMNS)
        tiles = np.full((5, columns + 5), GROUND)
        t = int(self._t[copy])
        lanes = [1, 3]  # rows of action 0 and of action 1
        tiles[lanes, 1] = FLOOR
        tiles[lanes, 4:-1] = FLOOR
        tiles[lanes, -2] = GOOD, BAD
        if t:
            tiles[lanes[self._previous[copy]], 1] = MARK
            tiles[lanes[self._first[copy]], 4 + column_of(min(t, self.length), self.length, columns)] = AGENT
        else:
            tiles[2, 3] = AGENT
        return picture_of(tiles, self._progress(copy))

    def text(self, copy: int) -> str:
        """See `Dynamics.text`."""
        t, previous, first = self._t[copy], self._previous[copy], self._first[copy]
        taken = f"first action {first}, previous action {previous}" if t else "no action yet"
        return f"{taken}; {self._step_line(copy)}"


class FirstStepCreditEnv(DynamicsEnv):
    """One copy of `FirstStepCredit`."""

    dynamics_class = FirstStepCredit


class FirstStepCreditVectorEnv(DynamicsVectorEnv):
    """n copies of `FirstStepCredit`."""

    dynamics_class = FirstStepCredit

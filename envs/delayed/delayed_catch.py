"""Catch with one reward at the end of the episode for all balls that were caught.

Dimensions: n copies, N length.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gymnasium import spaces

from sab_agents.checks import int_between
from sab_agents.envs.arrays import Array, Bools, Floats, Image, Ints
from sab_agents.envs.drawing import AGENT, FLOOR, SIGN, picture_of
from sab_agents.envs.dynamics import MAX_STEPS, Returns, TimedDynamics
from sab_agents.envs.forms import DynamicsEnv, DynamicsVectorEnv
from sab_agents.envs.policies import Policy, Reactive

SIDE = 7  # rows and columns of the board
BOTTOM = SIDE - 1


class DelayedCatch(TimedDynamics):
    """N = `length` balls fall one after the other; the reward for all caught balls arrives after the last one.

    The board has 7 rows and 7 columns. A ball appears in the top row in a random column and falls one row per step. The
    paddle in the bottom row starts each episode in the middle and moves at most one column per step. A ball that
    reaches the bottom row is caught if the paddle is in the same cell; the next ball appears one step later.

    Actions: Discrete(3): 0 left, 1 stay, 2 right; a move into a wall has no effect.
    Observations: Box(49): the board row by row, 1 at the ball and at the paddle, else 0.
    Rewards: the number of caught balls after the last step, else 0.
    Episodes end (terminated) after 7 N - 1 steps, when the last ball reaches the bottom row.

    Returns:
        best: N. A ball falls for six steps, and no column is more than six steps away.
        random: N / 7. The moves of the paddle are independent of the ball, whose column is uniform over seven.
        memoryless: N. Each observation shows the ball and the paddle, which is enough to move towards the ball.

    Args:
        length: N, the number of balls.

    Source: after Mnih et al. (2014); with delayed rewards Arjona-Medina et al. (2019), Raposo et al. (2021).
    """

    purpose = "credit: many good actions, and one reward for all at the end"

    def __init__(self, length: int = 10) -> None:
        self.length = int_between("DelayedCatch", "length", length, 1, MAX_STEPS)
        self.horizon = SIDE * self.length - 1
        self.observation_space = spaces.Box(0.0, 1.0, shape=(SIDE * SIDE,), dtype=np.float32)
        self.action_space = spaces.Discrete(3)

    @property
    def returns(self) -> Returns:
        """See the class docstring."""
        return Returns(best=float(self.length), random=self.length / SIDE, memoryless=float(self.length))

    def allocate(self, n: int) -> None:
        """See `Dynamics.allocate`."""
        super().allocate(n)
        self._paddle = np.zeros(n, dtype=np.int64)
        self._caught = np.zeros(n, dtype=np.int64)
        self._columns = np.zeros((0, 0), dtype=np.int8)

    def begin(self, copies: Ints, generators: Sequence[np.random.Generator]) -> None:
        """See `Dynamics.begin`. Draws the columns of the N balls."""
        self._restart(copies)
        self._paddle[copies] = SIDE // 2
        self._caught[copies] = 0
        if not len(self._columns):  # one more ball than fall, for copies that are advanced past their end
            self._columns = np.zeros((self.n, self.length + 1), dtype=np.int8)
        for copy, generator in zip(copies, generators, strict=True):
            self._columns[copy, :-1] = generator.integers(SIDE, size=self.length, dtype=np.int8)

    def _ball(self) -> tuple[Ints, Array]:
        """Returns the rows and the columns of the balls, (n,) each."""
        return self._t % SIDE, self._columns[self._copies, self._t // SIDE]

    def advance(self, actions: Array) -> tuple[Floats, Bools, Bools]:
        """See `Dynamics.advance`."""
        self._paddle += actions
        self._paddle -= 1
        np.maximum(self._paddle, 0, out=self._paddle)
        np.minimum(self._paddle, BOTTOM, out=self._paddle)
        terminated, truncated = self._tick()
        row, column = self._ball()
        self._caught += (row == BOTTOM) & (column == self._paddle)
        return np.where(terminated, self._caught, 0.0), terminated, truncated

    def observe(self) -> Array:
        """See `Dynamics.observe`."""
        row, column = self._ball()
        boards = np.zeros((self.n, SIDE * SIDE), dtype=np.float32)
        boards[self._copies, SIDE * row + column] = 1
        boards[self._copies, SIDE * BOTTOM + self._paddle] = 1
        return boards

    def oracle(self) -> Policy:
        """Returns the policy that moves towards the column of the ball."""
        return Reactive(_move_towards_ball)

    def memoryless(self) -> Policy:
        """Returns the oracle, which needs no memory."""
        return self.oracle()

    def picture(self, copy: int) -> Image:
        """See `Dynamics.picture`."""
        row, column = (int(values[copy]) for values in self._ball())
        tiles = np.full((SIDE, SIDE), FLOOR)
        tiles[BOTTOM, self._paddle[copy]] = AGENT
        tiles[row, column] = SIGN
        return picture_of(tiles, self._progress(copy))

    def text(self, copy: int) -> str:
        """See `Dynamics.text`: "o" is the ball, "=" the paddle."""
        row, column = (int(values[copy]) for values in self._ball())
        board = [["."] * SIDE for _ in range(SIDE)]
        board[BOTTOM][self._paddle[copy]] = "="
        board[row][column] = "o"
        return "\n".join(["".join(line) for line in board] + [f"caught {self._caught[copy]}; {self._step_line(copy)}"])


def _move_towards_ball(observations: Array) -> Array:
    """Returns the moves that bring the paddles closer to the balls; no move if the ball is in the bottom row."""
    boards = observations.reshape(-1, SIDE, SIDE)
    falling = boards[:, :BOTTOM].any(axis=(1, 2))
    ball, paddle = boards[:, :BOTTOM].any(axis=1).argmax(axis=1), boards[:, BOTTOM].argmax(axis=1)
    return np.where(falling, 1 + np.sign(ball - paddle), 1)


class DelayedCatchEnv(DynamicsEnv):
    """One copy of `DelayedCatch`."""

    dynamics_class = DelayedCatch


class DelayedCatchVectorEnv(DynamicsVectorEnv):
    """n copies of `DelayedCatch`."""

    dynamics_class = DelayedCatch

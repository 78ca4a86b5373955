"""Catch whose rewards arrive only at the end of a run of catches.

Dimensions: n copies, N length.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gymnasium import spaces

from sab_agents.envs.checks import whole
from sab_agents.envs.delayed.timed import Timed
from sab_agents.envs.drawing import AGENT, FLOOR, SIGN, picture_of
from sab_agents.envs.dynamics import Array, Bools, Floats, Image, Ints, Returns
from sab_agents.envs.policies import Policy, Reactive
from sab_agents.envs.single import DynamicsEnv
from sab_agents.envs.vectorised import DynamicsVectorEnv

SIDE = 7  # rows and columns of the board
BOTTOM = SIDE - 1


class DelayedCatch(Timed):
    """N = `length` balls fall one after the other; the reward for all that were caught arrives after the last.

    The board has 7 rows and 7 columns. A ball appears at the top in a random column and falls one row a step; the
    paddle on the bottom row moves one column a step, from the middle at first, and then from where it is. A ball that
    comes to the bottom row is caught if the paddle is there; a step later the next one appears.

    Actions: Discrete(3): 0 left, 1 stay, 2 right; a move into a wall changes nothing.
    Observations: Box(49): the board, row after row, with 1 where the ball is and 1 where the paddle is, else 0.
    Rewards: after the last step the number of balls that were caught; else 0.
    Episodes end (terminated) after 7 N - 1 steps, when the last ball is down.

    Returns:
        best: N. A ball takes six steps to the bottom, and no column is farther than six steps.
        random: N / 7. The paddle's moves do not depend on the ball, whose column is uniform among seven.
        memoryless: N. Each observation shows ball and paddle, all that is needed to move to the ball.

    Args:
        length: N.

    Source: after Mnih et al. (2014); with delayed rewards Arjona-Medina et al. (2019), Raposo et al. (2021).
    """

    purpose = "credit: many good actions, and one reward for all at the end"

    def __init__(self, length: int = 10) -> None:
        self.length = whole("DelayedCatch", "length", length)
        self.horizon = SIDE * self.length - 1
        self.observation_space = spaces.Box(0.0, 1.0, shape=(SIDE * SIDE,), dtype=np.float32)
        self.action_space = spaces.Discrete(3)

    @property
    def returns(self) -> Returns:
        """See the class."""
        return Returns(best=float(self.length), random=self.length / SIDE, memoryless=float(self.length))

    def allocate(self, n: int) -> None:
        """See `Dynamics.allocate`."""
        super().allocate(n)
        self._paddle = np.zeros(n, dtype=np.int64)
        self._caught = np.zeros(n, dtype=np.int64)
        self._columns = np.zeros((0, 0), dtype=np.int8)

    def begin(self, copies: Ints, generators: Sequence[np.random.Generator]) -> None:
        """See `Dynamics.begin`; draws the columns of the N balls."""
        self._restart(copies)
        self._paddle[copies] = SIDE // 2
        self._caught[copies] = 0
        if not len(self._columns):  # a ball more than fall, for a copy that is advanced past its end
            self._columns = np.zeros((self.n, self.length + 1), dtype=np.int8)
        for copy, generator in zip(copies, generators, strict=True):
            self._columns[copy, :-1] = generator.integers(SIDE, size=self.length, dtype=np.int8)

    def _ball(self) -> tuple[Ints, Array]:
        """Row and column of the balls."""
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
        """Moves towards the ball's column."""
        return Reactive(towards_the_ball)

    def memoryless(self) -> Policy:
        """The oracle needs no memory."""
        return self.oracle()

    def picture(self, copy: int) -> Image:
        """See `Dynamics.picture`."""
        row, column = (int(values[copy]) for values in self._ball())
        tiles = np.full((SIDE, SIDE), FLOOR)
        tiles[BOTTOM, self._paddle[copy]] = AGENT
        tiles[row, column] = SIGN
        return picture_of(tiles, self._progress(copy))

    def text(self, copy: int) -> str:
        """See `Dynamics.text`: o the ball, = the paddle."""
        row, column = (int(values[copy]) for values in self._ball())
        board = [["."] * SIDE for _ in range(SIDE)]
        board[BOTTOM][self._paddle[copy]] = "="
        board[row][column] = "o"
        return "\n".join(["".join(line) for line in board] + [f"caught {self._caught[copy]}; {self._step_line(copy)}"])


def towards_the_ball(seen: Array) -> Array:
    """The moves that bring the paddle nearer to the balls; a ball on the bottom row needs no more moves."""
    boards = seen.reshape(-1, SIDE, SIDE)
    falling = boards[:, :BOTTOM].any(axis=(1, 2))
    ball, paddle = boards[:, :BOTTOM].any(axis=1).argmax(axis=1), boards[:, BOTTOM].argmax(axis=1)
    return np.where(falling, 1 + np.sign(ball - paddle), 1)


class DelayedCatchEnv(DynamicsEnv):
    """One `DelayedCatch`."""

    dynamics_class = DelayedCatch


class DelayedCatchVectorEnv(DynamicsVectorEnv):
    """Many `DelayedCatch`."""

    dynamics_class = DelayedCatch

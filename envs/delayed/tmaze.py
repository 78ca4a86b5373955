"""The Passive and the Active T-Maze of Ni, Ma, Eysenbach & Bacon (2023).

Dimensions: n copies, L corridor length, C = start + L + 3 cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from gymnasium import spaces

from sab_agents.checks import int_between
from sab_agents.envs.arrays import Array, Bools, Floats, Image, Ints
from sab_agents.envs.drawing import AGENT, BAD, FLOOR, GOOD, GROUND, MARK, MAX_COLUMNS, SIGN, column_of, picture_of
from sab_agents.envs.dynamics import MAX_STEPS, Dynamics, Returns
from sab_agents.envs.forms import DynamicsEnv, DynamicsVectorEnv
from sab_agents.envs.policies import Policy, Reactive, Remembering

RIGHT, UP, LEFT, DOWN = range(4)
NEGLIGIBLE = 1000  # steps after which a probability of 4 ** -steps is zero in float64


class TMaze(Dynamics):
    """The base class of both mazes: a corridor from the oracle at x = 0 to the junction at x = `start` + L.

    Apart from the time, a copy has one discrete state: the side of the goal, the cell, and whether the oracle has been
    visited. Tables give the next state for each action and the observation of each state.
    """

    length_argument: ClassVar[str] = "corridor_length"
    start: ClassVar[int]
    horizon: int

    def __init__(self, corridor_length: int = 100) -> None:
        self.corridor_length = int_between(type(self).__name__, "corridor_length", corridor_length, 1, MAX_STEPS)
        self.observation_space = spaces.Box(-1.0, 1.0, shape=(2,), dtype=np.float32)
        self.action_space = spaces.Discrete(4)
        self.horizon = self.corridor_length + 2 * self.start + 1
        self.junction = self.start + self.corridor_length

    def _build_tables(self) -> None:
        """Tabulates the states: for each goal, C before the oracle is visited, C after it, and one while visiting it.

        Cells are numbered by x, followed by the cells above and below the junction.
        """
        junction, above, below = self.junction, self.junction + 1, self.junction + 2
        C = junction + 3
        moved = np.repeat(np.arange(C), 4).reshape(C, 4)
        moved[:junction, RIGHT] += 1
        moved[1 : junction + 1, LEFT] -= 1
        moved[junction, [UP, DOWN]] = above, below
        moved[above, DOWN] = moved[below, UP] = junction
        side, seeing = 2 * C + 1, 2 * C
        unseen = np.where(moved == 0, seeing, moved)
        table = np.concatenate([unseen, moved + C, moved[:1] + C])
        cell = np.concatenate([np.arange(C), np.arange(C), [0]])
        y = (cell == above).astype(np.int64) - (cell == below)
        shown = np.zeros((2, side, 2), dtype=np.float32)
        shown[..., 0] = cell >= junction
        shown[..., 1] = y
        shown[:, seeing, 1] = -1, 1
        self._first = np.array([0, side]) + (seeing if self.start == 0 else self.start)
        self._next = np.concatenate([table, table + side]).ravel()
        self._shown = shown.reshape(-1, 2)
        self._x = np.tile(np.minimum(cell, junction), 2)
        self._y = np.tile(y, 2)
        self._side = side

    def allocate(self, n: int) -> None:
        """See `Dynamics.allocate`."""
        self.n = n
        self._build_tables()
        self._state = np.zeros(n, dtype=np.int64)
        self._place = np.zeros(n, dtype=np.int64)
        self._reached = np.zeros(n, dtype=np.int64)
        self._due = np.zeros(n, dtype=np.int64)  # the x that a copy without a wasted step has reached

    def begin(self, copies: Ints, generators: Sequence[np.random.Generator]) -> None:
        """See `Dynamics.begin`. Draws one number; the goal is above if it is at least 0.5."""
        self._begin_at(copies, np.array([generator.random() >= 0.5 for generator in generators], dtype=np.int64))

    def _begin_at(self, copies: Ints, above: Ints) -> None:
        """Begins episodes whose goals are above where `above` is 1, and below where it is 0."""
        self._state[copies] = self._first[above]
        self._due[copies] = -self.start

    def advance(self, actions: Array) -> tuple[Floats, Bools, Bools]:
        """See `Dynamics.advance`."""
        np.multiply(self._state, 4, out=self._place)
        self._place += actions
        self._next.take(self._place, out=self._state, mode="clip")
        self._due += 1
        self._x.take(self._state, out=self._reached, mode="clip")
        rewards = np.multiply(self._reached < self._due, -1 / self.corridor_length)
        terminated = self._due >= self.horizon - self.start
        if terminated.any():
            rewards[terminated] = self._at_goal()[terminated]
        return rewards, terminated, np.zeros(self.n, dtype=np.bool_)

    def _at_goal(self) -> Bools:
        """Returns whether each copy is in the cell of its goal, (n,)."""
        at_goal: Bools = self._y[self._state] == np.where(self._state >= self._side, 1, -1)
        return at_goal

    def ending_info(self) -> Mapping[str, Array]:
        """See `Dynamics.ending_info`."""
        return {"is_success": self._at_goal()}

    def observe(self) -> Array:
        """See `Dynamics.observe`."""
        return self._shown.take(self._state, axis=0, mode="clip")

    def oracle(self) -> Policy:
        """Returns the policy that remembers the goal shown by the oracle, moves right, and turns at the junction."""

        def update(observations: Array, goal: Array, start: Bools) -> Array:
            at_oracle = (observations[:, 0] == 0) & (observations[:, 1] != 0)
            return np.where(start | at_oracle, observations[:, 1], goal)

        return Remembering(update, self._act)

    def memoryless(self) -> Policy:
        """Returns the policy that moves right, and up at the junction."""
        return Reactive(lambda observations: np.where(observations[:, 0] == 0, RIGHT, UP))

    def _act(self, observations: Array, goal: Array, start: Bools) -> Array:
        actions = np.where(observations[:, 0] == 0, RIGHT, np.where(goal > 0, UP, DOWN))
        return np.where(start, LEFT, actions) if self.start else actions

    def picture(self, copy: int) -> Image:
        """See `Dynamics.picture`: the corridor in at most 40 columns; a lamp shows that the oracle is visited."""
        state = self._state[copy]
        columns = min(self.junction + 1, MAX_COLUMNS)
        tiles = np.full((5, columns + 2), GROUND)
        tiles[2, 1:-1] = FLOOR
        above = state >= self._side
        tiles[1, -2], tiles[3, -2] = (GOOD, BAD) if above else (BAD, GOOD)
        tiles[2, 1] = MARK
        tiles[1, 1] = SIGN if self._shown[state, 0] == 0 and self._shown[state, 1] else GROUND
        tiles[2 - self._y[state], 1 + column_of(self._x[state], self.junction, columns)] = AGENT
        return picture_of(tiles, self._elapsed(copy) / self.horizon)

    def text(self, copy: int) -> str:
        """See `Dynamics.text`: "o" is the oracle, "A" the agent, "G" the goal."""
        state = self._state[copy]
        columns = min(self.junction + 1, MAX_COLUMNS)
        rows = [[" "] * (columns - 1) + ["."], ["o"] + ["."] * (columns - 1), [" "] * (columns - 1) + ["."]]
        rows[0 if state >= self._side else 2][-1] = "G"
        rows[1 - self._y[state]][column_of(self._x[state], self.junction, columns)] = "A"
        lines = ["".join(row) for row in rows]
        return "\n".join(
            [*lines, f"x {self._x[state]} of {self.junction}, step {self._elapsed(copy)} of {self.horizon}"]
        )

    def _elapsed(self, copy: int) -> int:
        return int(self._due[copy]) + self.start


class PassiveTMaze(TMaze):
    """A T-Maze that shows the goal at the first step: the agent must remember it to the end of the corridor.

    The agent starts at the oracle, x = 0. The junction is L = `corridor_length` steps to the right. The goal is in the
    cell above or below the junction, with equal probability.

    Actions: Discrete(4): 0 right, 1 up, 2 left, 3 down; a move into a wall has no effect.
    Observations: Box(2): [0, goal] at the first step, where goal is 1 for above and -1 for below; [0, 0] in the
    corridor; [1, 0] at the junction, [1, 1] above and [1, -1] below it.
    Rewards: after step t = 1 … L, -1/L if x < t, else 0; after the last step, 1 at the goal, else 0.
    Episodes end (terminated) after L + 1 steps; `info["is_success"]` then says whether the agent is at the goal.

    Returns:
        best: 1: L moves right and one to the goal, without a penalty.
        random: -1 + (1 - 4^-L) / (3 L) + 4^-(L + 1). Step t has no penalty only if all t moves so far were right, which
            has probability 4^-t, and Σ 4^-t = (1 - 4^-L) / 3. The goal takes L moves right and the correct turn.
        memoryless: 1/2. Only one path reaches a side in L + 1 steps: L moves right and a turn. At the junction the
            observation is the same for both goals, so the turn is correct in half of the episodes.

    Args:
        corridor_length: L.

    Source: Ni et al. (2023), When do transformers shine in RL?, after Bakker (2001).
    """

    purpose = "memory: the first observation decides the last action"
    start = 0

    @property
    def returns(self) -> Returns:
        """See the class docstring."""
        L = self.corridor_length
        return Returns(best=1.0, random=-1 + (1 - 0.25**L) / (3 * L) + 0.25 ** (L + 1), memoryless=0.5)


class ActiveTMaze(TMaze):
    """A T-Maze that shows the goal only after a first step away from it, which pays at the end of the episode.

    The agent starts at x = 1. The oracle is one step to the left at x = 0, and the junction L = `corridor_length` steps
    to the right of the start. The rest is as in `PassiveTMaze`.

    Actions: Discrete(4): 0 right, 1 up, 2 left, 3 down; a move into a wall has no effect.
    Observations: Box(2): [0, goal] at the first visit to the oracle, where goal is 1 for above and -1 for below; [0, 0]
    in the corridor and at later visits; [1, 0] at the junction, [1, 1] above and [1, -1] below it.
    Rewards: after step t = 1 … L + 2, -1/L if x < t - 1, else 0; after the last step, 1 at the goal, else 0.
    Episodes end (terminated) after L + 3 steps; `info["is_success"]` then says whether the agent is at the goal.

    Returns:
        best: 1: one move left, L + 1 moves right and one to the goal: x = t - 1 throughout, without a penalty.
        random: -(L + 2)/L + Σ p_t / L + g. The probability p_t of x ≥ t - 1 after step t and the probability g of
            reaching the goal follow from how far the agent lags behind moving right; see `_random_return`.
        memoryless: 1/2. Nothing depends on the goal before the oracle is visited, so without a visit a turn is correct
            in half of the episodes. After a visit, only one path reaches a side in time, and its turn is made at the
            junction, where the observation is the same for both goals.

    Args:
        corridor_length: L.

    Source: Ni et al. (2023), When do transformers shine in RL?
    """

    purpose = "credit: a step away from the goal pays at the very end; and memory"
    start = 1

    @property
    def returns(self) -> Returns:
        """See the class docstring."""
        return Returns(best=1.0, random=self._random_return(), memoryless=0.5)

    def _random_return(self) -> float:
        """Returns the expected return of random moves, by how far they lag behind moving right: x = t + 1 - lag.

        A move right keeps the lag, a move up or down adds 1, a move left adds 2. A lag above 2 costs a penalty, and the
        agent then never reaches a side in time.
        """
        L = self.corridor_length
        # In the corridor the lag after t steps is 0, 1, 2 with these counts among 4 ** t paths: only moves right; one
        # move up or down; one move left or two up or down.
        lags = [(1, 2 * t, 2 * t * t - t) for t in range(1, min(L, NEGLIGIBLE) + 1)]
        on_time = sum(sum(lag) * 0.25**t for t, lag in enumerate(lags, start=1))
        # At step L, lag 0 has reached the junction. Two more steps and the turn follow; a blocked move stays in place.
        none, one, two = (2.0**-L * count * 2.0**-L for count in (1, 2 * L, 2 * L * L - L))
        at_side, at_junction, before = none / 4, (none + one) / 4, none / 4 + one / 2 + two / 4
        on_time += 2 * at_side + at_junction + before
        at_side, at_junction = (3 * at_side + at_junction) / 4, (2 * at_side + at_junction + before) / 4
        on_time += 2 * at_side + at_junction
        goal = (3 * at_side + at_junction) / 4
        return -(L + 2 - on_time) / L + goal


class PassiveTMazeEnv(DynamicsEnv):
    """One copy of `PassiveTMaze`."""

    dynamics_class = PassiveTMaze


class PassiveTMazeVectorEnv(DynamicsVectorEnv):
    """n copies of `PassiveTMaze`."""

    dynamics_class = PassiveTMaze


class ActiveTMazeEnv(DynamicsEnv):
    """One copy of `ActiveTMaze`."""

    dynamics_class = ActiveTMaze


class ActiveTMazeVectorEnv(DynamicsVectorEnv):
    """n copies of `ActiveTMaze`."""

    dynamics_class = ActiveTMaze

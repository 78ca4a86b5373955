"""The Passive and the Active T-Maze of Ni, Ma, Eysenbach & Bacon (2023).

Dimensions: n copies, L length of the corridor, C = start + L + 3 cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from gymnasium import spaces

from sab_agents.envs.checks import whole
from sab_agents.envs.drawing import AGENT, BAD, FLOOR, GOOD, GROUND, MARK, SIGN, picture_of, squeezed
from sab_agents.envs.dynamics import Array, Bools, Dynamics, Floats, Image, Ints, Returns
from sab_agents.envs.policies import Policy, Reactive, Remembering
from sab_agents.envs.single import DynamicsEnv
from sab_agents.envs.vectorised import DynamicsVectorEnv

RIGHT, UP, LEFT, DOWN = range(4)
WIDEST = 40  # columns of a picture
MANY = 1000  # steps after which a chance of 4 to the power of -steps is zero in float64


class TMaze(Dynamics):
    """What the two mazes share: a corridor from the oracle at x = 0 to the junction at x = `start` + L.

    All that a copy is, but for the time, is one state: the goal's side, the cell, and whether the oracle has been
    visited. Tables then say what each action makes of it and what it shows.
    """

    length_argument: ClassVar[str] = "corridor_length"
    start: ClassVar[int]
    horizon: int

    def __init__(self, corridor_length: int = 100) -> None:
        self.corridor_length = whole(type(self).__name__, "corridor_length", corridor_length)
        self.observation_space = spaces.Box(-1.0, 1.0, shape=(2,), dtype=np.float32)
        self.action_space = spaces.Discrete(4)
        self.horizon = self.corridor_length + 2 * self.start + 1
        self.junction = self.start + self.corridor_length

    def _build_tables(self) -> None:
        """Tabulates the states: for each goal C cells not yet having seen the oracle, C having seen it, one seeing it.

        Cells are numbered by x, then come the cells above and below the junction.
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
        self._due = np.zeros(n, dtype=np.int64)  # the x that a copy which wastes no step has reached by now

    def begin(self, copies: Ints, generators: Sequence[np.random.Generator]) -> None:
        """See `Dynamics.begin`; draws one number, and the goal is above where it is at least 0.5."""
        above = np.array([generator.random() >= 0.5 for generator in generators], dtype=np.int64)
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
        """Whether each copy stands on the goal's side."""
        found: Bools = self._y[self._state] == np.where(self._state >= self._side, 1, -1)
        return found

    def ending_info(self) -> Mapping[str, Array]:
        """See `Dynamics.ending_info`."""
        return {"is_success": self._at_goal()}

    def observe(self) -> Array:
        """See `Dynamics.observe`."""
        return self._shown.take(self._state, axis=0, mode="clip")

    def oracle(self) -> Policy:
        """Notes the goal when the oracle shows it, goes right, and turns to the noted side at the junction."""
        return Remembering(
            note=lambda seen, held, first: np.where(first | ((seen[:, 0] == 0) & (seen[:, 1] != 0)), seen[:, 1], held),
            rule=self._informed,
        )

    def memoryless(self) -> Policy:
        """Goes right, and up at the junction."""
        return Reactive(lambda seen: np.where(seen[:, 0] == 0, RIGHT, UP))

    def _informed(self, seen: Array, goal: Array, first: Bools) -> Array:
        actions = np.where(seen[:, 0] == 0, RIGHT, np.where(goal > 0, UP, DOWN))
        return np.where(first, LEFT, actions) if self.start else actions

    def picture(self, copy: int) -> Image:
        """See `Dynamics.picture`: the corridor, in 40 columns at most; a lamp is lit while the oracle tells."""
        state = self._state[copy]
        columns = min(self.junction + 1, WIDEST)
        tiles = np.full((5, columns + 2), GROUND)
        tiles[2, 1:-1] = FLOOR
        above = state >= self._side
        tiles[1, -2], tiles[3, -2] = (GOOD, BAD) if above else (BAD, GOOD)
        tiles[2, 1] = MARK
        tiles[1, 1] = SIGN if self._shown[state, 0] == 0 and self._shown[state, 1] else GROUND
        tiles[2 - self._y[state], 1 + squeezed(self._x[state], self.junction, columns)] = AGENT
        return picture_of(tiles, self._elapsed(copy) / self.horizon)

    def text(self, copy: int) -> str:
        """See `Dynamics.text`: o the oracle, A the agent, G the goal."""
        state = self._state[copy]
        columns = min(self.junction + 1, WIDEST)
        rows = [[" "] * (columns - 1) + ["."], ["o"] + ["."] * (columns - 1), [" "] * (columns - 1) + ["."]]
        rows[0 if state >= self._side else 2][-1] = "G"
        rows[1 - self._y[state]][squeezed(self._x[state], self.junction, columns)] = "A"
        lines = ["".join(row) for row in rows]
        return "\n".join(
            [*lines, f"x {self._x[state]} of {self.junction}, step {self._elapsed(copy)} of {self.horizon}"]
        )

    def _elapsed(self, copy: int) -> int:
        return int(self._due[copy]) + self.start


class PassiveTMaze(TMaze):
    """T-Maze whose goal is shown at the start: remember it to the end of the corridor, and turn to its side.

    The agent starts at the oracle, x = 0. The junction lies L = `corridor_length` steps to the right, the two cells
    where the goal may be above and below the junction; the goal is above or below with equal chance.

    Actions: Discrete(4): 0 right, 1 up, 2 left, 3 down; a move into a wall changes nothing.
    Observations: Box(2): [0, goal] at the first step, goal = 1 above, -1 below; [0, 0] in the corridor; [1, 0] at the
    junction, [1, 1] above and [1, -1] below it.
    Rewards: after step t = 1 … L, -1/L where x < t; after the last, 1 at the goal's side and else 0.
    Episodes end (terminated) after L + 1 steps; `info["is_success"]` then says whether on the goal's side.

    Returns:
        best: 1. L steps right and one to the goal's side, with no penalty.
        random: -1 + (1 - 4^-L) / (3 L) + 4^-(L + 1). Step t is free of penalty only when all t moves so far were right,
            which has the chance 4^-t, and Σ 4^-t = (1 - 4^-L) / 3; the goal takes L moves right, then the right one.
        memoryless: 1/2. A side is reached in L + 1 steps on one way alone, L moves right and a turn, and at the
            junction the observation is the same for both goals, so the turn is right for one of two.

    Args:
        corridor_length: L.

    Source: Ni et al. (2023), When do transformers shine in RL?, after Bakker (2001).
    """

    purpose = "memory: the first observation decides the last action"
    start = 0

    @property
    def returns(self) -> Returns:
        """See the class."""
        L = self.corridor_length
        return Returns(best=1.0, random=-1 + (1 - 0.25**L) / (3 * L) + 0.25 ** (L + 1), memoryless=0.5)


class ActiveTMaze(TMaze):
    """T-Maze whose goal is shown only to whoever first goes one step back: a short way that pays at the end.

    The agent starts at x = 1, the oracle lies one step to the left at x = 0, and the junction L = `corridor_length`
    steps to the right of the start. All else is as in `PassiveTMaze`.

    Actions: Discrete(4): 0 right, 1 up, 2 left, 3 down; a move into a wall changes nothing.
    Observations: Box(2): [0, goal] when the agent first comes to the oracle, goal = 1 above, -1 below; [0, 0] in the
    corridor and at later visits; [1, 0] at the junction, [1, 1] above and [1, -1] below it.
    Rewards: after step t = 1 … L + 2, -1/L where x < t - 1; after the last, 1 at the goal's side and else 0.
    Episodes end (terminated) after L + 3 steps; `info["is_success"]` then says whether on the goal's side.

    Returns:
        best: 1. Left, L + 1 steps right and one to the goal's side: x = t - 1 all along, with no penalty.
        random: -(L + 2)/L + Σ p_t / L + g, where p_t, the chance that x ≥ t - 1 after step t, and g, that of the goal,
            follow from how far the agent lags behind L straight steps right; `_random_return` has the terms.
        memoryless: 1/2. Until the oracle is seen nothing depends on the goal, so that without a visit a turn is right
            for one of two. After a visit no step is to spare: a side is reached on one way alone, whose turn is made
            at the junction, where the observation is the same for both goals.

    Args:
        corridor_length: L.

    Source: Ni et al. (2023), When do transformers shine in RL?
    """

    purpose = "credit: a step away from the goal pays at the very end; and memory"
    start = 1

    @property
    def returns(self) -> Returns:
        """See the class."""
        return Returns(best=1.0, random=self._random_return(), memoryless=0.5)

    def _random_return(self) -> float:
        """The expected return of random moves, by how far they lag behind going right: x = t + 1 - lag.

        A move right keeps the lag, one up or down adds 1, one left adds 2; a penalty is due where the lag exceeds 2,
        and who has lagged so far never reaches a side in time.
        """
        L = self.corridor_length
        # In the corridor the lag after t steps is 0, 1, 2 with these chances: no step but right; one up or down; one
        # left or two up or down.
        lags = [(1, 2 * t, 2 * t * t - t) for t in range(1, min(L, MANY) + 1)]
        on_time = sum(sum(lag) * 0.25**t for t, lag in enumerate(lags, start=1))
        # Step L brings lag 0 to the junction. Two more steps, then the turn; blocked moves stay where they are.
        none, one, two = (2.0**-L * chance * 2.0**-L for chance in (1, 2 * L, 2 * L * L - L))
        at_side, at_junction, before = none / 4, (none + one) / 4, none / 4 + one / 2 + two / 4
        on_time += 2 * at_side + at_junction + before
        at_side, at_junction = (3 * at_side + at_junction) / 4, (2 * at_side + at_junction + before) / 4
        on_time += 2 * at_side + at_junction
        goal = (3 * at_side + at_junction) / 4
        return -(L + 2 - on_time) / L + goal


class PassiveTMazeEnv(DynamicsEnv):
    """One `PassiveTMaze`."""

    dynamics_class = PassiveTMaze


class PassiveTMazeVectorEnv(DynamicsVectorEnv):
    """Many `PassiveTMaze`."""

    dynamics_class = PassiveTMaze


class ActiveTMazeEnv(DynamicsEnv):
    """One `ActiveTMaze`."""

    dynamics_class = ActiveTMaze


class ActiveTMazeVectorEnv(DynamicsVectorEnv):
    """Many `ActiveTMaze`."""

    dynamics_class = ActiveTMaze

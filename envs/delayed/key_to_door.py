"""Key-to-Door: a key that is worth nothing by itself opens a door much later, after a long room of apples.

Dimensions: n copies, N length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from gymnasium import spaces

from sab_agents.envs.checks import whole
from sab_agents.envs.delayed.timed import Timed
from sab_agents.envs.drawing import AGENT, BAD, FLOOR, GOOD, GROUND, MARK, SIGN, picture_of
from sab_agents.envs.dynamics import Array, Bools, Floats, Image, Ints, Returns
from sab_agents.envs.policies import Policy, Reactive
from sab_agents.envs.single import DynamicsEnv
from sab_agents.envs.vectorised import DynamicsVectorEnv

SIDE = 5  # rows and columns of a room
CELLS = SIDE * SIDE
CENTRE = CELLS // 2
RIGHT, UP, LEFT, DOWN = range(4)
SHORT = 10  # steps in the room of the key and in the room of the door
DOOR = 5.0  # reward
NOTHING = -1
ROW, COLUMN = np.divmod(np.arange(CELLS), SIDE)
MOVED = np.stack(
    [
        np.arange(CELLS) + (COLUMN < SIDE - 1),
        np.arange(CELLS) - SIDE * (ROW > 0),
        np.arange(CELLS) - (COLUMN > 0),
        np.arange(CELLS) + SIDE * (ROW < SIDE - 1),
    ],
    axis=1,
)
DISTANCE = np.abs(ROW[:, None] - ROW) + np.abs(COLUMN[:, None] - COLUMN)
SETTLED = 2000  # steps after which an apple comes at a constant rate, to rounding


class KeyToDoor(Timed):
    """Three rooms of 5 x 5 cells: ten steps with a key, N = `length` with apples, ten with a door.

    The agent enters each room at its centre, when the time in the room before is up. In the first lies a key. In the
    second one apple after the other appears, each when the one before has been taken. In the third is a door, which
    pays only those who took the key. Key, door and each new apple lie in any cell but the agent's, with equal chance.

    Actions: Discrete(4): 0 right, 1 up, 2 left, 3 down; a move into a wall changes nothing. Coming to a cell takes what
    lies there.
    Observations: Box(23): room (3), agent's row (5), agent's column (5), row (5) and column (5) of the key, the apple
    or the door, each one-hot; the last ten are zero where there is nothing: a key that is taken, a door that is open.
    Whether the agent has the key is not shown after the first room.
    Rewards: 1 for each apple, 5 for the door with the key, which opens once; the key itself gives nothing.
    Episodes end (terminated) after N + 20 steps; `info["is_success"]` then says whether the door is open.

    Returns:
        best: 5 + A(N). Ten steps are enough for the key and for the door, at most four steps away. A, the expected
            number of apples of an agent that goes straight to each, follows from A_k(c), that with k steps left in
            cell c: the mean over all other cells a, at the distance d, of 1 + A_(k - d)(a), or 0 where d > k. No
            way is better: the next apple does not depend on when or how one was taken.
        random: 5 p² + R(N). p is the chance that ten random moves from the centre come to a cell that was drawn
            among the others, R the expected number of apples that N random moves come to; both follow from the
            joint chances of agent and object, moved step by step.
        memoryless: as the best. Going to whatever lies in the room needs no memory. What is hard is to credit the key,
            N steps and many apples before the door.

    Args:
        length: N, the steps in the room of the apples.

    Source: after Mesnard et al. (2021), Counterfactual credit assignment, and Hung et al. (2019), Optimizing agent
        behavior over long time scales by transporting value; here with symbols for pictures and smaller rooms.
    """

    purpose = "credit: a key without a reward, then many rewards, then a door that needs the key"

    def __init__(self, length: int = 60) -> None:
        self.length = whole("KeyToDoor", "length", length)
        self.horizon = self.length + 2 * SHORT
        self.observation_space = spaces.Box(0.0, 1.0, shape=(3 + 4 * SIDE,), dtype=np.float32)
        self.action_space = spaces.Discrete(4)

    @property
    def returns(self) -> Returns:
        """See the class."""
        best = DOOR + most_apples(self.length)
        return Returns(best=best, random=DOOR * found_by_chance() ** 2 + random_apples(self.length), memoryless=best)

    def allocate(self, n: int) -> None:
        """See `Dynamics.allocate`."""
        super().allocate(n)
        self._agent = np.full(n, CENTRE)
        self._object = np.full(n, NOTHING)
        self._has_key = np.zeros(n, dtype=np.bool_)
        self._taken = np.zeros(n, dtype=np.int64)
        self._places = np.zeros((0, 0), dtype=np.int8)

    def begin(self, copies: Ints, generators: Sequence[np.random.Generator]) -> None:
        """See `Dynamics.begin`; draws N + 3 places: of the key, the door and as many apples as could be taken and one.

        A place 0 … 23 counts the cells from the one after the agent's, at that time, and round.
        """
        self._restart(copies)
        if not len(self._places):
            self._places = np.zeros((self.n, self.length + 3), dtype=np.int8)
        for copy, generator in zip(copies, generators, strict=True):
            self._places[copy] = generator.integers(CELLS - 1, size=self.length + 3, dtype=np.int8)
        self._agent[copies] = CENTRE
        self._object[copies] = self._placed(copies, 0)
        self._has_key[copies] = False
        self._taken[copies] = 0

    def _placed(self, copies: Ints, number: int | Ints) -> Ints:
        """The cells of objects that appear now."""
        cells: Ints = (self._agent[copies] + 1 + self._places[copies, number]) % CELLS
        return cells

    def advance(self, actions: Array) -> tuple[Floats, Bools, Bools]:
        """See `Dynamics.advance`."""
        self._agent = MOVED[self._agent, actions]
        rewards = np.zeros(self.n)
        found = np.flatnonzero(self._agent == self._object)
        if len(found):
            self._take(found, rewards)
        terminated, truncated = self._tick()
        for room, time in ((1, SHORT), (2, SHORT + self.length)):
            entering = np.flatnonzero(self._t == time)
            if len(entering):
                self._agent[entering] = CENTRE
                self._object[entering] = self._placed(entering, 3 - room)
        return rewards, terminated, truncated

    def _take(self, found: Ints, rewards: Floats) -> None:
        """Takes what lies where the agents of these copies are."""
        room = self._room()[found]
        keys, apples, doors = (found[room == number] for number in range(3))
        self._has_key[keys] = True
        self._object[keys] = NOTHING
        self._taken[apples] += 1
        self._object[apples] = self._placed(apples, 2 + self._taken[apples])
        rewards[apples] = 1
        opened = doors[self._has_key[doors]]
        self._object[opened] = NOTHING
        rewards[opened] = DOOR

    def _room(self) -> Ints:
        return (self._t >= SHORT).astype(np.int64) + (self._t >= SHORT + self.length)

    def ending_info(self) -> Mapping[str, Array]:
        """See `Dynamics.ending_info`; of doors, only an open one is not there any more."""
        return {"is_success": self._object == NOTHING}

    def observe(self) -> Array:
        """See `Dynamics.observe`."""
        observations = np.zeros((self.n, 3 + 4 * SIDE), dtype=np.float32)
        observations[self._copies, self._room()] = 1
        observations[self._copies, 3 + ROW[self._agent]] = 1
        observations[self._copies, 3 + SIDE + COLUMN[self._agent]] = 1
        there = self._object != NOTHING
        observations[self._copies, 3 + 2 * SIDE + ROW[self._object]] = there
        observations[self._copies, 3 + 3 * SIDE + COLUMN[self._object]] = there
        return observations

    def oracle(self) -> Policy:
        """Goes to what lies in the room."""
        return Reactive(towards_the_object)

    def memoryless(self) -> Policy:
        """The oracle needs no memory."""
        return self.oracle()

    def picture(self, copy: int) -> Image:
        """See `Dynamics.picture`: the room; key blue, apple green, door red; the lamp above is lit with the key."""
        room = int(self._room()[copy])
        tiles = np.full((SIDE + 2, SIDE + 2), GROUND)
        inside = tiles[1:-1, 1:-1]
        inside[:] = FLOOR
        tiles[0, 1 + room] = FLOOR
        tiles[0, -2] = SIGN if self._has_key[copy] else FLOOR
        cells = inside.reshape(-1).copy()
        if self._object[copy] != NOTHING:
            cells[self._object[copy]] = (MARK, GOOD, BAD)[room]
        cells[self._agent[copy]] = AGENT
        inside[:] = cells.reshape(SIDE, SIDE)
        return picture_of(tiles, self._progress(copy))

    def text(self, copy: int) -> str:
        """See `Dynamics.text`: A the agent, k the key, o an apple, D the door."""
        room = int(self._room()[copy])
        cells = ["."] * CELLS
        if self._object[copy] != NOTHING:
            cells[self._object[copy]] = "koD"[room]
        cells[self._agent[copy]] = "A"
        lines = ["".join(cells[start : start + SIDE]) for start in range(0, CELLS, SIDE)]
        key = "has the key" if self._has_key[copy] else "has no key"
        return "\n".join([*lines, f"room {room + 1} of 3, {key}; {self._step_line(copy)}"])


def towards_the_object(seen: Array) -> Array:
    """The moves to the object, rows first; right where there is none."""
    agent_row, agent_column, row, column = (
        seen[:, 3 + part * SIDE : 3 + (part + 1) * SIDE].argmax(axis=1) for part in range(4)
    )
    sideways = np.where(column < agent_column, LEFT, RIGHT)
    return np.where(row < agent_row, UP, np.where(row > agent_row, DOWN, sideways))


@lru_cache(maxsize=256)
def most_apples(steps: int) -> float:
    """A(N) of `KeyToDoor`, from the centre."""
    counted = min(steps, SETTLED)
    expected = np.zeros((counted + 1, CELLS))
    for left in range(1, counted + 1):
        after = left - DISTANCE
        gains = np.where(after >= 0, 1 + expected[np.maximum(after, 0), np.arange(CELLS)], 0)
        expected[left] = (gains.sum(axis=1) - np.diagonal(gains)) / (CELLS - 1)
    return continued(expected[:, CENTRE], steps)


@lru_cache(maxsize=256)
def random_apples(steps: int) -> float:
    """R(N) of `KeyToDoor`."""
    joint, walk = random_walk()
    expected = [0.0]
    for _ in range(min(steps, SETTLED)):
        joint = walk @ joint
        taken = np.diagonal(joint).copy()
        expected.append(expected[-1] + float(taken.sum()))
        # The next apple is in any other cell.
        joint += (taken / (CELLS - 1))[:, None]
        np.fill_diagonal(joint, 0)
    return continued(np.array(expected), steps)


def found_by_chance() -> float:
    """The chance p of `KeyToDoor`."""
    joint, walk = random_walk()
    for _ in range(SHORT):
        joint = walk @ joint
        np.fill_diagonal(joint, 0)
    return 1 - float(joint.sum())


def random_walk() -> tuple[Floats, Floats]:
    """The chances of agent's and object's cells on entering a room, and of the agent's next cell from its present."""
    joint = np.zeros((CELLS, CELLS))
    joint[CENTRE] = 1 / (CELLS - 1)
    joint[CENTRE, CENTRE] = 0
    walk = np.zeros((CELLS, CELLS))
    for action in range(4):
        walk[MOVED[:, action], np.arange(CELLS)] += 1 / 4
    return joint, walk


def continued(expected: Floats, steps: int) -> float:
    """The expectation after this many steps, which grows by the same amount at each step beyond the last."""
    beyond = steps + 1 - len(expected)
    return float(expected[-1] + beyond * (expected[-1] - expected[-2]))


class KeyToDoorEnv(DynamicsEnv):
    """One `KeyToDoor`."""

    dynamics_class = KeyToDoor


class KeyToDoorVectorEnv(DynamicsVectorEnv):
    """Many `KeyToDoor`."""

    dynamics_class = KeyToDoor

"""Key-to-Door: a key without a reward opens a door much later, after a long room of apples.

Dimensions: n copies, N length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from gymnasium import spaces

from sab_agents.checks import int_between
from sab_agents.envs.arrays import Array, Bools, Floats, Image, Ints
from sab_agents.envs.drawing import AGENT, BAD, FLOOR, GOOD, GROUND, MARK, SIGN, picture_of
from sab_agents.envs.dynamics import MAX_STEPS, Returns, TimedDynamics
from sab_agents.envs.forms import DynamicsEnv, DynamicsVectorEnv
from sab_agents.envs.policies import Policy, Reactive

SIDE = 5  # rows and columns of a room
CELLS = SIDE * SIDE
CENTRE = CELLS // 2
RIGHT, UP, LEFT, DOWN = range(4)
SHORT = 10  # steps in the room of the key and in the room of the door
DOOR = 5.0  # reward for opening the door
NOTHING = -1
ROW, COLUMN = np.divmod(np.arange(CELLS), SIDE)
NEXT_CELL = np.stack(
    [
        np.arange(CELLS) + (COLUMN < SIDE - 1),
        np.arange(CELLS) - SIDE * (ROW > 0),
        np.arange(CELLS) - (COLUMN > 0),
        np.arange(CELLS) + SIDE * (ROW < SIDE - 1),
    ],
    axis=1,
)
DISTANCE = np.abs(ROW[:, None] - ROW) + np.abs(COLUMN[:, None] - COLUMN)
SETTLED = 2000  # steps after which the expected number of apples grows at a constant rate, up to rounding


class KeyToDoor(TimedDynamics):
    """Three rooms of 5 x 5 cells: ten steps with a key, N = `length` steps with apples, ten steps with a door.

    The agent enters each room at its centre, when the time in the previous room is over. The first room has a key. The
    second room has one apple at a time; the next one appears when it is taken. The third room has a door, which only
    pays an agent that has the key. The key, the door and each new apple appear in any cell except the agent's, with
    equal probability.

    Actions: Discrete(4): 0 right, 1 up, 2 left, 3 down; a move into a wall has no effect. An agent that enters a cell
    takes the object in it.
    Observations: Box(23), one-hot each: room (3), row (5) and column (5) of the agent, row (5) and column (5) of the
    object. The last ten are zero if there is no object: the key is taken, or the door is open. After the first room,
    the observation does not show whether the agent has the key.
    Rewards: 1 for each apple, 5 for opening the door with the key, which is possible once; 0 for the key.
    Episodes end (terminated) after N + 20 steps; `info["is_success"]` then says whether the door is open.

    Returns:
        best: 5 + A(N). Ten steps suffice for the key and for the door, which are at most four steps away. A is the
            expected number of apples of an agent that takes a shortest path to each. It follows from A_k(c), the same
            with k steps left in cell c: the mean over all other cells a, at distance d, of 1 + A_(k - d)(a), or 0 if
            d > k. No policy is better, because the next apple does not depend on when or how the last one was taken.
        random: 5 p² + R(N). p is the probability that ten random moves from the centre reach a cell drawn among the
            other cells, R the expected number of apples that N random moves reach. Both follow from the joint
            distribution of agent and object, propagated step by step.
        memoryless: the same as best. Moving to the object needs no memory. The difficulty is to credit the key, N steps
            and many apples before the door.

    Args:
        length: N, the number of steps in the room with the apples.

    Source: after Mesnard et al. (2021), Counterfactual credit assignment, and Hung et al. (2019), Optimizing agent
        behavior over long time scales by transporting value; here with one-hot codes instead of images, and smaller
        rooms.
    """

    purpose = "credit: a key without a reward, then many rewards, then a door that needs the key"

    def __init__(self, length: int = 60) -> None:
        self.length = int_between("KeyToDoor", "length", length, 1, MAX_STEPS)
        self.horizon = self.length + 2 * SHORT
        self.observation_space = spaces.Box(0.0, 1.0, shape=(3 + 4 * SIDE,), dtype=np.float32)
        self.action_space = spaces.Discrete(4)

    @property
    def returns(self) -> Returns:
        """See the class docstring."""
        best = DOOR + most_apples(self.length)
        random = DOOR * _random_hit_probability() ** 2 + random_apples(self.length)
        return Returns(best=best, random=random, memoryless=best)

    def allocate(self, n: int) -> None:
        """See `Dynamics.allocate`."""
        super().allocate(n)
        self._agent = np.full(n, CENTRE)
        self._object = np.full(n, NOTHING)
        self._has_key = np.zeros(n, dtype=np.bool_)
        self._taken = np.zeros(n, dtype=np.int64)
        self._places = np.zeros((0, 0), dtype=np.int8)

    def begin(self, copies: Ints, generators: Sequence[np.random.Generator]) -> None:
        """See `Dynamics.begin`. Draws N + 3 places: of the key, of the door, and of one more apple than can be taken.

        A place 0 … 23 is the number of cells after the one that follows the agent's cell, cyclically, at the time when
        the object appears.
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
        """Returns the cells of objects that appear now, (m,)."""
        cells: Ints = (self._agent[copies] + 1 + self._places[copies, number]) % CELLS
        return cells

    def advance(self, actions: Array) -> tuple[Floats, Bools, Bools]:
        """See `Dynamics.advance`."""
        self._agent = NEXT_CELL[self._agent, actions]
        rewards = np.zeros(self.n)
        at_object = np.flatnonzero(self._agent == self._object)
        if len(at_object):
            self._take(at_object, rewards)
        terminated, truncated = self._tick()
        for room, time in ((1, SHORT), (2, SHORT + self.length)):
            entering = np.flatnonzero(self._t == time)
            if len(entering):
                self._agent[entering] = CENTRE
                self._object[entering] = self._placed(entering, 3 - room)
        return rewards, terminated, truncated

    def _take(self, copies: Ints, rewards: Floats) -> None:
        """Takes the objects of these copies and writes the rewards."""
        room = self._room()[copies]
        keys, apples, doors = (copies[room == number] for number in range(3))
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
        """See `Dynamics.ending_info`. The door is open if the last room has no object any more."""
        return {"is_success": self._object == NOTHING}

    def observe(self) -> Array:
        """See `Dynamics.observe`."""
        observations = np.zeros((self.n, 3 + 4 * SIDE), dtype=np.float32)
        observations[self._copies, self._room()] = 1
        observations[self._copies, 3 + ROW[self._agent]] = 1
        observations[self._copies, 3 + SIDE + COLUMN[self._agent]] = 1
        present = self._object != NOTHING
        observations[self._copies, 3 + 2 * SIDE + ROW[self._object]] = present
        observations[self._copies, 3 + 3 * SIDE + COLUMN[self._object]] = present
        return observations

    def oracle(self) -> Policy:
        """Returns the policy that moves to the object."""
        return Reactive(_move_towards_object)

    def memoryless(self) -> Policy:
        """Returns the oracle, which needs no memory."""
        return self.oracle()

    def picture(self, copy: int) -> Image:
        """See `Dynamics.picture`: the room with a blue key, green apple or red door; a lamp above shows the key."""
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
        """See `Dynamics.text`: "A" is the agent, "k" the key, "o" an apple, "D" the door."""
        room = int(self._room()[copy])
        cells = ["."] * CELLS
        if self._object[copy] != NOTHING:
            cells[self._object[copy]] = "koD"[room]
        cells[self._agent[copy]] = "A"
        lines = ["".join(cells[start : start + SIDE]) for start in range(0, CELLS, SIDE)]
        key = "has the key" if self._has_key[copy] else "has no key"
        return "\n".join([*lines, f"room {room + 1} of 3, {key}; {self._step_line(copy)}"])


def _move_towards_object(observations: Array) -> Array:
    """Returns the moves towards the objects, rows first; any move if there is no object."""
    agent_row, agent_column, row, column = (
        observations[:, 3 + part * SIDE : 3 + (part + 1) * SIDE].argmax(axis=1) for part in range(4)
    )
    sideways = np.where(column < agent_column, LEFT, RIGHT)
    return np.where(row < agent_row, UP, np.where(row > agent_row, DOWN, sideways))


@lru_cache(maxsize=256)
def most_apples(steps: int) -> float:
    """Returns A(N) of `KeyToDoor` from the centre for N = `steps`."""
    computed = min(steps, SETTLED)
    expected = np.zeros((computed + 1, CELLS))
    for left in range(1, computed + 1):
        after = left - DISTANCE
        gains = np.where(after >= 0, 1 + expected[np.maximum(after, 0), np.arange(CELLS)], 0)
        expected[left] = (gains.sum(axis=1) - np.diagonal(gains)) / (CELLS - 1)
    return _extrapolated(expected[:, CENTRE], steps)


@lru_cache(maxsize=256)
def random_apples(steps: int) -> float:
    """Returns R(N) of `KeyToDoor` for N = `steps`."""
    joint, walk = _random_walk()
    expected = [0.0]
    for _ in range(min(steps, SETTLED)):
        joint = walk @ joint
        taken = np.diagonal(joint).copy()
        expected.append(expected[-1] + float(taken.sum()))
        # The next apple appears in any other cell.
        joint += (taken / (CELLS - 1))[:, None]
        np.fill_diagonal(joint, 0)
    return _extrapolated(np.array(expected), steps)


def _random_hit_probability() -> float:
    """Returns p of `KeyToDoor`."""
    joint, walk = _random_walk()
    for _ in range(SHORT):
        joint = walk @ joint
        np.fill_diagonal(joint, 0)
    return 1 - float(joint.sum())


def _random_walk() -> tuple[Floats, Floats]:
    """Returns the joint distribution of agent and object on entering a room, and the transitions of a random agent.

    Returns:
        (25, 25) probabilities of [agent, object], and (25, 25) probabilities of [next cell, cell].
    """
    joint = np.zeros((CELLS, CELLS))
    joint[CENTRE] = 1 / (CELLS - 1)
    joint[CENTRE, CENTRE] = 0
    walk = np.zeros((CELLS, CELLS))
    for action in range(4):
        walk[NEXT_CELL[:, action], np.arange(CELLS)] += 1 / 4
    return joint, walk


def _extrapolated(expected: Floats, steps: int) -> float:
    """Returns the expected value after `steps` steps, which grows linearly beyond the last computed one."""
    beyond = steps + 1 - len(expected)
    return float(expected[-1] + beyond * (expected[-1] - expected[-2]))


class KeyToDoorEnv(DynamicsEnv):
    """One copy of `KeyToDoor`."""

    dynamics_class = KeyToDoor


class KeyToDoorVectorEnv(DynamicsVectorEnv):
    """n copies of `KeyToDoor`."""

    dynamics_class = KeyToDoor

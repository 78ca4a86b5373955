"""The Endless T-Maze of Shchendrigin et al. (2026): corridor after corridor, each with a new cue for its own turn.

Dimensions: n copies, L greatest length of a corridor, C corridors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from gymnasium import spaces

from sab_agents.checks import int_between, one_of
from sab_agents.envs.arrays import Array, Bools, Floats, Image, Ints
from sab_agents.envs.drawing import AGENT, BAD, FLOOR, GOOD, GROUND, MAX_COLUMNS, SIGN, column_of, picture_of
from sab_agents.envs.dynamics import MAX_STEPS, Dynamics, Returns
from sab_agents.envs.forms import DynamicsEnv, DynamicsVectorEnv
from sab_agents.envs.policies import Policy, Reactive, Remembering

FORWARD, LEFT, RIGHT = range(3)
PATIENCE = 6  # steps that an episode may take, for each step that it needs
LONG = 100  # steps forward to the last junction from which on a random agent is in time but for a probability of e⁻⁴⁰
Lengths = Literal["fixed", "uniform"]


class EndlessTMaze(Dynamics):
    """T-mazes in a chain: at the start of each corridor a new cue says where to turn at its end, and voids all others.

    The agent walks through a corridor to its junction. A turn, right or wrong, leads to the start of the next corridor,
    which shows the next cue: left or right, with equal probability and independent of all others. A memory that keeps
    the first cue, or does not know which one is the newest, fails: what was stored must be replaced.

    Actions: Discrete(3): 0 forward, 1 turn left, 2 turn right. In the corridor, a turn has no effect. At the junction,
    everything but the cued turn is a wrong turn.
    Observations: Box(3): [x / length, left, right]: how far the agent is in its corridor, 0 at the start and 1 at the
    junction; at the start, 1 for the cued turn; otherwise two zeros. The number of the corridor is not shown.
    Rewards: 1 for the cued turn, -1 for a wrong one, -1/L for a turn in the corridor.
    Episodes end (terminated) after C = `corridors` turns and, with `wrong_turn_ends`, after the first wrong turn, at
    the junction of that turn; `info["is_success"]` then says whether C turns were right, `info["right_turns"]` how many
    were. They are truncated after 6 C (L + 1) steps, six times as many as the longest way to the end has.

    Returns:
        best: C, one for each turn.
        random: with `wrong_turn_ends`, corridor k = 0, 1, … is reached with probability 3^-k, otherwise always. It
            costs two turns in the corridor for each step forward, and the turn at its end pays 1/3 - 2/3. This gives
            -(1/3 + 2 E length / L) Σ_k P(reached). If the chain is short, C L < 100, truncated episodes count, and the
            distribution of the agent is propagated step by step.
        memoryless: 0: the junction's observation does not depend on the cue, so of the turns of an agent that always
            arrives, half are right: with v for what follows, a corridor is worth (1 + v)/2 - 1/2 or, if a wrong turn
            does not end the episode, v; and v = 0 after the last one. To walk on one of the cues alone and to wait on
            the other does not pay: the steps to the limit cost more than 5, a wrong turn costs 1.

    Args:
        corridor_length: L, steps from a corridor's start to its junction.
        corridors: C, from 1 to 1,000,000. So many that the end does not matter make the endless chain of the name.
        lengths: "fixed", or "uniform": each corridor's length is drawn, from 1 to L with equal probability.
        wrong_turn_ends: whether a wrong turn ends the episode. Without it, the walk goes on in the next corridor.

    Source: Shchendrigin, Cherepanov, Kovalev & Panov (2026), Memory retention is not enough to master memory tasks in
        reinforcement learning, and the code to it: actions, observations, the two kinds of lengths, a wrong turn that
        ends the episode, and six times the steps are theirs. Different here: a wrong turn
        costs 1, as their description has it (their code: 0.01), so that guessing earns 0; a turn in the corridor costs
        1/L (theirs: 0.01), so that waiting never pays; x is divided by the length of its own corridor, so that the
        junction is seen also where lengths are drawn (theirs: by the greatest length); a walk may go on after a wrong
        turn.
    """

    purpose = "memory: in each corridor the newest cue decides, and the ones before mislead"
    length_argument = "corridor_length"
    horizon: int

    def __init__(
        self,
        corridor_length: int = 10,
        corridors: int = 5,
        lengths: str = "fixed",
        wrong_turn_ends: bool = True,
    ) -> None:
        owner = "EndlessTMaze"
        self.corridor_length = int_between(owner, "corridor_length", corridor_length, 1, MAX_STEPS)
        self.corridors = int_between(owner, "corridors", corridors, 1, MAX_STEPS)
        self.lengths: Lengths = one_of(owner, "lengths", lengths, get_args(Lengths))
        if not isinstance(wrong_turn_ends, bool | np.bool_):
            raise TypeError(f"{owner}: wrong_turn_ends must be a bool, but is {wrong_turn_ends!r}. Pass True or False.")
        self.wrong_turn_ends = bool(wrong_turn_ends)
        self.horizon = PATIENCE * self.corridors * (self.corridor_length + 1)
        self.observation_space = spaces.Box(0.0, 1.0, shape=(3,), dtype=np.float32)
        self.action_space = spaces.Discrete(3)

    @property
    def returns(self) -> Returns:
        """See the class docstring."""
        short = self.corridors * self.corridor_length < LONG
        random = self._random_return_in_time() if short else self._random_return()
        return Returns(best=float(self.corridors), random=random, memoryless=0.0)

    def _random_return(self) -> float:
        """Returns the expected return of random actions without a limit of steps."""
        L, C = self.corridor_length, self.corridors
        mean_length = L if self.lengths == "fixed" else (L + 1) / 2
        reached = (1 - 3.0**-C) / (1 - 1 / 3) if self.wrong_turn_ends else C
        return -(1 / 3 + 2 * mean_length / L) * reached

    def _random_return_in_time(self) -> float:
        """Returns the expected return of random actions, from the distribution over corridors and steps to go."""
        L, C = self.corridor_length, self.corridors
        entered = np.zeros(L + 1)  # by the steps to the junction
        entered[L if self.lengths == "fixed" else slice(1, None)] = 1.0 if self.lengths == "fixed" else 1 / L
        present = np.zeros((C, L + 1))
        present[0] = entered
        total = 0.0
        for _ in range(self.horizon):
            turning, walking = present[:, 0], present[:, 1:]
            total += turning.sum() * (1 / 3 - 2 / 3) - walking.sum() * 2 / 3 / L
            after = np.zeros_like(present)
            after[:, 1:] = walking * 2 / 3
            after[:, :-1] += walking / 3
            after[1:] += turning[:-1, None] * entered / (3 if self.wrong_turn_ends else 1)
            present = after
        return float(total)

    def allocate(self, n: int) -> None:
        """See `Dynamics.allocate`."""
        self.n = n
        self._copies = np.arange(n)
        self._t = np.zeros(n, dtype=np.int64)
        self._x = np.zeros(n, dtype=np.int64)
        self._corridor = np.zeros(n, dtype=np.int64)
        self._right_turns = np.zeros(n, dtype=np.int64)
        self._cues = np.zeros((0, 0), dtype=np.int8)
        self._lengths = np.full((n, 1), self.corridor_length)

    def begin(self, copies: Ints, generators: Sequence[np.random.Generator]) -> None:
        """See `Dynamics.begin`. Draws C cues, 0 for left and 1 for right, then C lengths if they are uniform."""
        C, uniform = self.corridors, self.lengths == "uniform"
        if not len(self._cues):
            self._cues = np.zeros((self.n, C), dtype=np.int8)
            if uniform:
                self._lengths = np.ones((self.n, C), dtype=np.int64)
        for copy, generator in zip(copies, generators, strict=True):
            self._cues[copy] = generator.integers(2, size=C, dtype=np.int8)
            if uniform:
                self._lengths[copy] = generator.integers(1, self.corridor_length + 1, size=C)
        for counts in (self._t, self._x, self._corridor, self._right_turns):
            counts[copies] = 0

    def advance(self, actions: Array) -> tuple[Floats, Bools, Bools]:
        """See `Dynamics.advance`."""
        turning = self._x == self._length()
        right = turning & (actions == LEFT + self._cue())
        wrong = turning & ~right
        forward = ~turning & (actions == FORWARD)
        rewards = right.astype(np.float64) - wrong - (~turning & ~forward) / self.corridor_length
        terminated = turning & (self._corridor == self.corridors - 1)
        if self.wrong_turn_ends:
            terminated |= wrong
        next_corridor = turning & ~terminated
        self._right_turns += right
        self._corridor += next_corridor
        self._x = np.where(next_corridor, 0, self._x + forward)
        self._t += 1
        return rewards, terminated, (self._t >= self.horizon) & ~terminated

    def _length(self) -> Ints:
        """Returns the length of each copy's corridor, (n,)."""
        lengths: Ints = self._lengths[:, 0] if self.lengths == "fixed" else self._lengths[self._copies, self._corridor]
        return lengths

    def _cue(self) -> Ints:
        """Returns the cue of each copy's corridor, (n,)."""
        if not len(self._cues):
            return np.zeros(self.n, dtype=np.int64)
        cues: Ints = self._cues[self._copies, self._corridor].astype(np.int64)
        return cues

    def ending_info(self) -> Mapping[str, Array]:
        """See `Dynamics.ending_info`."""
        return {"is_success": self._right_turns == self.corridors, "right_turns": self._right_turns.copy()}

    def observe(self) -> Array:
        """See `Dynamics.observe`."""
        observations = np.zeros((self.n, 3), dtype=np.float32)
        observations[:, 0] = self._x / self._length()
        observations[self._copies, 1 + self._cue()] = self._x == 0
        return observations

    def oracle(self) -> Policy:
        """Returns the policy that goes forward and turns by the newest cue."""

        def update(observations: Array, cue: Array, _start: Bools) -> Array:
            shown = observations[:, 1:].any(axis=1)
            return np.where(shown, LEFT + observations[:, 1:].argmax(axis=1), cue).astype(np.int64)

        return Remembering(update, lambda observations, cue, _start: np.where(observations[:, 0] < 1, FORWARD, cue))

    def memoryless(self) -> Policy:
        """Returns the policy that goes forward, and turns left at every junction."""
        return Reactive(lambda observations: np.where(observations[:, 0] < 1, FORWARD, LEFT))

    def picture(self, copy: int) -> Image:
        """See `Dynamics.picture`: one corridor in at most 40 columns, with its cue while it is shown."""
        length, x = int(self._length()[copy]), int(self._x[copy])
        columns = min(length + 1, MAX_COLUMNS)
        tiles = np.full((5, columns + 2), GROUND)
        tiles[2, 1:-1] = FLOOR
        left = self._cue()[copy] == 0
        tiles[1, -2], tiles[3, -2] = (GOOD, BAD) if left else (BAD, GOOD)
        if x == 0:
            tiles[1 if left else 3, 1] = SIGN
        tiles[2, 1 + column_of(x, length, columns)] = AGENT
        return picture_of(tiles, float(self._corridor[copy]) / self.corridors)

    def text(self, copy: int) -> str:
        """See `Dynamics.text`."""
        length, x = int(self._length()[copy]), int(self._x[copy])
        side = ("left", "right")[self._cue()[copy]]
        place = "at the junction" if x == length else f"x {x} of {length}, {length - x} to the junction"
        return (
            f"corridor {self._corridor[copy] + 1} of {self.corridors}, {place}; the cue is {side}; "
            f"{self._right_turns[copy]} right turns; step {self._t[copy]} of {self.horizon}"
        )


class EndlessTMazeEnv(DynamicsEnv):
    """One copy of `EndlessTMaze`."""

    dynamics_class = EndlessTMaze


class EndlessTMazeVectorEnv(DynamicsVectorEnv):
    """n copies of `EndlessTMaze`."""

    dynamics_class = EndlessTMaze

"""The Passive T-Maze with a handwritten digit as its sign, among other digits.

Dimensions: n copies, L corridor length, P pixels of a digit, S side of its image.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from gymnasium import spaces

from sab_agents.envs.arrays import Array, Bools, Ints
from sab_agents.envs.datasets.digit_cues import SIDES, DigitCues, check_digits
from sab_agents.envs.datasets.files import data_folder
from sab_agents.envs.delayed.tmaze import RIGHT, UP, PassiveTMaze
from sab_agents.envs.forms import DynamicsEnv, DynamicsVectorEnv
from sab_agents.envs.policies import Policy, Reactive, Remembering

POSITION = 3
"""Channels before the pixels: at the junction, above or below it, and the sign's flag."""
BRIGHT = 255


class DigitTMaze(PassiveTMaze):
    """A T-Maze whose sign is a handwritten digit: the goal is above if it is even, below if it is odd.

    Moves, rewards and the end of an episode are those of `PassiveTMaze`: the agent starts at the sign, x = 0, and the
    junction is L = `corridor_length` steps to the right. Each step in the corridor shows another digit, drawn for that
    step, which means nothing. What must be remembered is not given but must be learnt, from a reward L steps later: in
    an untrained state the parity of a digit among others cannot be told. Digits are drawn with classes equally likely,
    from one split: agents are trained on "train" and tested on "test", whose digits they never saw.

    Actions: Discrete(4): 0 right, 1 up, 2 left, 3 down; a move into a wall has no effect.
    Observations: Box(3 + P): 1 at the junction and beside it, else 0; 1 above the junction, -1 below it, else 0; 1 at
    the sign, at the first step, else 0; and the pixels of a digit from 0 to 1, all 0 at the junction and beside it.
    With `image`, Box(S + 2, S + 2, 1) uint8 for convolutional nets: the digit inside a frame one pixel wide, whose top
    is bright at the sign, its left side at the junction and beside it, and the upper or lower half of its right side
    above or below the junction.
    Rewards: after step t = 1 … L, -1/L if x < t, else 0; after the last step, 1 at the goal, else 0.
    Episodes end (terminated) after L + 1 steps; `info["is_success"]` then says whether the agent is at the goal.

    Returns:
        best: 1, by knowing every image of the split: L moves right and one to the goal, without a penalty.
        random: that of `PassiveTMaze`: both goals are equally likely, and moves do not depend on digits.
        memoryless: 1/2. Only one path reaches a side in L + 1 steps, and its turn is made at the junction, which shows
            no digit; as many classes are even as odd.

    Args:
        corridor_length: L.
        dataset: "digits" (8 by 8, from scikit-learn) or "mnist" (28 by 28).
        split: "train", "validation" or "test"; no image is in two of them.
        data_dir: folder with the files of "mnist"; None reads the environment variable SAB_DATA_DIR; if that is not
            set either, the files are downloaded.
        image: whether an observation is an image.

    Source: the maze of Ni et al. (2023), with a sign of our own.
    """

    purpose = "credit: the parity of a handwritten digit decides the last action"

    def __init__(
        self,
        corridor_length: int = 100,
        dataset: str = "digits",
        split: str = "train",
        data_dir: str | os.PathLike[str] | None = None,
        image: bool = False,
    ) -> None:
        super().__init__(corridor_length)
        check_digits("DigitTMaze", dataset, split)
        if not isinstance(image, bool):
            raise TypeError(f"DigitTMaze: image must be True or False, but is {image!r}. Pass a bool.")
        data_folder(data_dir)
        self.dataset, self.split, self.data_dir, self.image = dataset, split, data_dir, image
        S = SIDES[dataset]
        if image:
            self.observation_space = spaces.Box(0, BRIGHT, (S + 2, S + 2, 1), np.uint8)
        else:
            low = np.zeros(POSITION + S * S, np.float32)
            low[1] = -1
            self.observation_space = spaces.Box(low, np.ones_like(low), dtype=np.float32)

    def allocate(self, n: int) -> None:
        """See `Dynamics.allocate`."""
        super().allocate(n)
        self._cues = self._read()
        self._copies = np.arange(n)
        self._seen = np.zeros((n, self.horizon + 2), dtype=np.int64)  # places of the digits that each step shows

    def _read(self) -> DigitCues:
        return DigitCues(self.dataset, self.split, self.data_dir)

    def begin(self, copies: Ints, generators: Sequence[np.random.Generator]) -> None:
        """See `Dynamics.begin`. Draws the digits of all steps, of which the first is the sign."""
        for copy, generator in zip(copies, generators, strict=True):
            self._seen[copy] = self._cues.draw_places(generator, self.horizon + 2)
        self._begin_at(copies, _above(self._cues.labels[self._seen[copies, 0]]))

    def observe(self) -> Array:
        """See `Dynamics.observe`."""
        step = np.minimum(self._due + self.start, self.horizon + 1)
        at_junction = self._x[self._state] == self.junction
        pixels = self._cues.pixels[self._seen[self._copies, step]] * ~at_junction[:, None]
        y = self._y[self._state]
        sign = step == 0
        if not self.image:
            position = np.stack([at_junction, y, sign], axis=1).astype(np.float32)
            return np.concatenate([position, pixels], axis=1)
        S = SIDES[self.dataset]
        seen = np.zeros((self.n, S + 2, S + 2, 1), np.uint8)
        seen[:, 1:-1, 1:-1, 0] = np.rint(pixels * BRIGHT).reshape(-1, S, S)
        half = S // 2 + 1
        seen[:, 0, :, 0] = BRIGHT * sign[:, None]
        seen[:, :, 0, 0] |= (BRIGHT * at_junction[:, None]).astype(np.uint8)
        seen[:, :half, -1, 0] |= (BRIGHT * (y > 0)[:, None]).astype(np.uint8)
        seen[:, half:, -1, 0] |= (BRIGHT * (y < 0)[:, None]).astype(np.uint8)
        return seen

    def oracle(self) -> Policy:
        """Returns the policy that looks up the sign's class, moves right, and turns at the junction."""
        cues = self._read()
        S = SIDES[self.dataset]
        levels = np.rint(cues.pixels * BRIGHT).astype(np.uint8)
        goals = {pixels.tobytes(): goal for pixels, goal in zip(levels, 2 * _above(cues.labels) - 1, strict=True)}

        def update(observations: Array, goal: Array, start: Bools) -> Array:
            if self.image:
                pixels = observations[:, 1:-1, 1:-1, 0].reshape(-1, S * S)
            else:
                pixels = np.rint(observations[:, POSITION:] * BRIGHT).astype(np.uint8)
            sign = [goals[row.tobytes()] if first else 0 for row, first in zip(pixels, start, strict=True)]
            return np.where(start, sign, goal)

        def rule(observations: Array, goal: Array, start: Bools) -> Array:
            return self._act(self._position(observations), goal, start)

        return Remembering(update, rule)

    def memoryless(self) -> Policy:
        """Returns the policy that moves right, and up at the junction."""
        return Reactive(lambda observations: np.where(self._position(observations)[:, 0] == 0, RIGHT, UP))

    def _position(self, observations: Array) -> Array:
        """Returns whether each copy is at the junction, (n, 1)."""
        at: Array = observations[:, -2, 0] if self.image else observations[:, :1]
        return at


def _above(classes: Ints) -> Ints:
    """Returns 1 where the goal is above: at even digits."""
    above: Ints = 1 - classes % 2
    return above


class DigitTMazeEnv(DynamicsEnv):
    """One copy of `DigitTMaze`."""

    dynamics_class = DigitTMaze


class DigitTMazeVectorEnv(DynamicsVectorEnv):
    """n copies of `DigitTMaze`."""

    dynamics_class = DigitTMaze

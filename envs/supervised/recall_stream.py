"""Delayed recall as an endless stream: a cue, noise for a long time, a question, and the next cue.

Dimensions: B rows (parallel streams), C symbols, I = C + 1 + distractors input size.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sab_agents.envs.supervised.checks import check_whole


class RecallStep(NamedTuple):
    """One step of all rows.

    Attributes:
        x: (B, I) float32.
        y: (B,) int64, the symbol that the row's episode began with.
        asked: (B,) bool, rows whose symbol is asked for at this step.
        episode_start: (B,) bool, rows whose cue is shown at this step.
    """

    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.int64]
    asked: npt.NDArray[np.bool_]
    episode_start: npt.NDArray[np.bool_]


class RecallStream:
    """Shows one of C symbols, then `delay` - 1 distractors, then asks for the symbol: episodes of `delay` + 1 steps.

    Channels: C for the cue (one-hot), one for the question, the others for a distractor drawn at each step (one-hot)
    plus Gaussian noise. Rows begin at different places of their episode, so that some row is asked at almost any time.
    A memoryless learner is right once in C answers.

    Args:
        delay: steps from the cue to the question, at least 1.
        rows: B.
        symbols: C, at least 2.
        distractors: different distractors, at least 1.
        noise: standard deviation of the noise on the distractors' channels.
        seed: of everything.

    Raises:
        TypeError: a count is no int.
        ValueError: an argument is out of range.
    """

    def __init__(
        self, delay: int, *, rows: int = 1, symbols: int = 8, distractors: int = 8, noise: float = 0.0, seed: int = 0
    ) -> None:
        for name, value, least in (("delay", delay, 1), ("rows", rows, 1), ("symbols", symbols, 2)):
            check_whole("RecallStream", name, value, least)
        check_whole("RecallStream", "distractors", distractors, 1)
        if not 0 <= noise < np.inf:
            raise ValueError(f"RecallStream: noise must be at least 0 and finite, but is {noise!r}.")
        self.delay, self.rows, self.symbols, self.distractors, self.noise = delay, rows, symbols, distractors, noise
        self.generator = np.random.default_rng(seed)
        self.position = self.generator.integers(0, delay + 1, rows)
        self.position[0] = 0
        self.cue = self.generator.integers(0, symbols, rows)
        self.seen = np.zeros(rows, dtype=np.bool_)

    @property
    def input_size(self) -> int:
        """I."""
        return self.symbols + 1 + self.distractors

    def step(self) -> RecallStep:
        """The next step. A row that began in the middle of an episode is not asked for a cue it never saw."""
        generator, rows = self.generator, np.arange(self.rows)
        start, end = self.position == 0, self.position == self.delay
        self.cue = np.where(start, generator.integers(0, self.symbols, self.rows), self.cue)
        self.seen |= start
        x = np.zeros((self.rows, self.input_size), dtype=np.float32)
        between = ~start & ~end
        token = self.symbols + 1 + generator.integers(0, self.distractors, self.rows)
        x[rows[between], token[between]] = 1
        if self.noise:
            drawn = generator.standard_normal((self.rows, self.distractors), dtype=np.float32)
            x[:, self.symbols + 1 :] += self.noise * drawn * between[:, None]
        x[rows[start], self.cue[start]] = 1
        x[end, self.symbols] = 1
        self.position = np.where(end, 0, self.position + 1)
        return RecallStep(x, self.cue, end & self.seen, start)

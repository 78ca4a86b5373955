"""Endless streams of rounds: a cue is shown and must be named when the question comes.

Dimensions: B rows, I input size, C classes of cues.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal, NamedTuple, get_args

import numpy as np

from sab_agents.checks import at_least, one_of
from sab_agents.envs.arrays import Bools, Floats32, Ints

Asked = Literal["newest", "oldest"]
"""Which of a round's two cues is asked."""


class CueStep(NamedTuple):
    """One step of all rows of a `CueStream`.

    Attributes:
        x: (B, I) inputs.
        y: (B,) the class that is right, of rows that are asked at this step; of the others any class.
        asked: (B,) rows that are asked at this step.
        episode_start: (B,) rows whose round begins at this step; none if the stream does not say starts.
    """

    x: Floats32
    y: Ints
    asked: Bools
    episode_start: Bools


class CueStream(ABC):
    """Round after round, a cue is shown and must be named when the question comes; a subclass says what is seen.

    A round is the cue, then steps in between, then the question, `delay` steps after the cue; the next round follows at
    once. With `asked`, a round has two independent cues, with steps in between: the second comes 1 to
    `delay` steps after the first, which is drawn, and the question `delay` steps after the second. It is always the
    newest or always the oldest of the round's two cues that must be named. The rows start at different steps of their
    rounds, so that questions are spread over time.

    With episode starts, `episode_start` marks each round's first cue, and a learner that empties its memory there
    holds nothing else when it is asked. Without them a learner must itself find which of all cues so far is meant.

    Args:
        delay: number of steps from the cue, or from the second of two, to the question, at least 1.
        rows: B, the number of parallel streams.
        says_starts: whether `episode_start` marks the beginning of each round; otherwise it is never True.
        jitter: each round draws its delay, uniform among the whole numbers that differ from `delay` by at most this
            fraction of it; at least 0 and below 1.
        min_delay: each round draws its delay from this many steps to `delay`, as evenly on a logarithmic scale as whole
            numbers allow, so that a stream has short and very long ones; None for those of `jitter`, which must be 0
            otherwise.
        asked: "newest" or "oldest" of two cues in each round; None for rounds of one cue.
        seed: seed of all random numbers.

    Raises:
        TypeError: a count is not an int, or `says_starts` is not a bool.
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        delay: int,
        *,
        rows: int = 1,
        says_starts: bool = True,
        jitter: float = 0.0,
        min_delay: int | None = None,
        asked: Asked | None = None,
        seed: int = 0,
    ) -> None:
        owner = type(self).__name__
        self.delay = at_least(owner, "delay", delay, 1)
        self.rows = at_least(owner, "rows", rows, 1)
        if not 0 <= jitter < 1:
            raise ValueError(
                f"{owner}: jitter must be at least 0 and below 1, but is {jitter!r}. Pass a fraction of the delay."
            )
        self.min_delay = None if min_delay is None else at_least(owner, "min_delay", min_delay, 1)
        if self.min_delay is not None and (self.min_delay > self.delay or jitter):
            raise ValueError(
                f"{owner}: min_delay must be at most delay, without jitter, but is {min_delay}, with a delay of "
                f"{delay} and a jitter of {jitter!r}. Lower it, or leave one out."
            )
        if not isinstance(says_starts, bool):
            raise TypeError(f"{owner}: says_starts must be a bool, but is {says_starts!r}. Pass True or False.")
        self.says_starts = says_starts
        self.asked = None if asked is None else one_of(owner, "asked", asked, get_args(Asked))
        # A product such as 100 * 0.29 may be rounded to below a whole number.
        self.spread = min(int(delay * jitter + 1e-9), delay - 1)
        self.generator = np.random.default_rng(seed)
        self.second = np.zeros(rows, dtype=np.int64)  # of each round, the step of its second cue; 0 if it has only one
        self.end = np.zeros(rows, dtype=np.int64)  # of each round, the step of its question
        self._draw_rounds(np.ones(rows, dtype=np.bool_))
        self.position = np.minimum(self.generator.integers(0, delay + 1, rows), self.end)
        self.position[0] = 0
        self.cue = np.zeros(rows, dtype=np.int64)
        self.seen = np.zeros(rows, dtype=np.bool_)

    @property
    @abstractmethod
    def classes(self) -> int:
        """C."""

    @property
    @abstractmethod
    def input_size(self) -> int:
        """I."""

    @property
    def memoryless(self) -> float:
        """Accuracy of the best learner that sees only the current input, which is the same at every question."""
        return 1 / self.classes

    @abstractmethod
    def draw(self, shown: Bools, between: Bools) -> tuple[Floats32, Ints]:
        """Draws what the rows see: a cue where one is `shown`, something `between`, or else the question.

        Returns:
            Inputs (B, I), and the classes of the cues (B,), of rows that are shown none any class.
        """

    def step(self) -> CueStep:
        """Returns the next step. A row that started inside a round is not asked for a cue that it never saw."""
        start = self.position == 0
        end = self.position == self.end
        shown = start if self.asked is None else start | (self.position == self.second)
        x, drawn = self.draw(shown, ~shown & ~end)
        self.cue = np.where(start if self.asked == "oldest" else shown, drawn, self.cue)
        self.seen |= start
        self.position = np.where(end, 0, self.position + 1)
        self._draw_rounds(end)
        return CueStep(x, self.cue, end & self.seen, start if self.says_starts else np.zeros_like(start))

    def _draw_rounds(self, begins: Bools) -> None:
        """Draws when the second cue and the question of rounds that begin next come, as far as that is random."""
        if not begins.any():
            return
        if self.asked is not None:
            gap = self.generator.integers(1, self.delay + 1, self.rows)
            self.second = np.where(begins, gap, self.second)
        delay: int | Ints = self.delay
        if self.spread:
            delay = self.generator.integers(self.delay - self.spread, self.delay + self.spread + 1, self.rows)
        if self.min_delay is not None:
            shares = self.generator.random(self.rows)
            delay = np.floor(self.min_delay * ((self.delay + 1) / self.min_delay) ** shares).astype(np.int64)
        self.end = np.where(begins, self.second + delay, self.end)


def check_noise(owner: str, noise: float) -> float:
    """Returns a standard deviation.

    Raises:
        ValueError: it is negative or not finite.
    """
    if not 0 <= noise < math.inf:
        raise ValueError(f"{owner}: noise must be at least 0 and finite, but is {noise!r}. Pass a standard deviation.")
    return noise

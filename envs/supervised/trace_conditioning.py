"""Trace conditioning: a stimulus announces another one, which comes later; predict the discounted sum of the latter.

Dimensions: B rows, I features of an input, T steps of a block.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np

from sab_agents.checks import at_least, int_between
from sab_agents.envs.arrays import Floats, Floats32, Ints

CS_STEPS, US_STEPS, DISTRACTOR_STEPS = 4, 2, 4  # for which a stimulus is on
PAUSE = (80, 120)  # the least and the greatest number of steps from the unconditioned stimulus to the next trial
MAX_DISTRACTORS = 10
NEGLIGIBLE = 1e-9  # weight of what comes after a block, in the returns of the block before


class ConditioningStep(NamedTuple):
    """One step of all rows of a `TraceConditioning`.

    Attributes:
        x: (B, I) inputs: the unconditioned stimulus, the conditioned one, the distractors; each 0 or 1.
        y: (B,) returns, see `TraceConditioning`.
    """

    x: Floats32
    y: Floats32


class TraceConditioning:
    """An endless stream of trials of trace conditioning, after experiments in which rabbits learn when to blink.

    A trial begins with the conditioned stimulus (CS, a tone), which is on for 4 steps. The unconditioned one (US, a
    puff of air) comes `interval` steps after its onset, the inter-stimulus interval, and is on for 2 steps. Each
    trial's interval is uniform among the whole numbers that differ from `interval` by at most a third of it. The next
    trial begins 80 to 120 steps after the onset of the US. Distractor k = 1, 2, … has nothing to do with this: while it
    is off, it switches on with probability 1/(10 k) at each step, for 4 steps. Starts of trials are not given.

    At each step the return is to be predicted, G_t = Σ_k γ^k US_{t + 1 + k} with γ = 1 - 1/`interval`; the score is the
    mean squared error. Between the CS and the US the input says nothing about what comes, and after the US it looks as
    it did before the CS. So a memoryless learner knows which stimuli are on, and no more: `memoryless` is its score,
    computed, and `best` that of a learner that remembers everything and cannot foresee what is drawn.

    The return of a step is known when all that it depends on has been drawn. A learner that gets it at that very step
    is told something of the near future, and one that followed its last targets would appear to foresee it. Score
    predictions while no target is given, as `sab-agents suite run conditioning/trace` does.

    Args:
        interval: from the onset of the CS to that of the US, in steps, at least 2. Published: 10, 20, 40, 80.
        rows: B. The first row begins with a trial, the others in the middle of a pause.
        distractors: from 0 to 10; published: 0 and 10.
        seed: seed of all random numbers.

    Raises:
        TypeError: a count is not an int.
        ValueError: an argument is out of range.

    Source: Rafiee et al. (2022), From eye-blinks to state construction: diagnostic benchmarks for online representation
        learning, and the code to it. There, a return is learnt by TD; here it is computed.
    """

    def __init__(self, interval: int = 10, *, rows: int = 1, distractors: int = 10, seed: int = 0) -> None:
        owner = type(self).__name__
        self.interval = at_least(owner, "interval", interval, 2)
        self.rows = at_least(owner, "rows", rows, 1)
        self.distractors = int_between(owner, "distractors", distractors, 0, MAX_DISTRACTORS)
        self.discount = 1 - 1 / interval
        self.intervals = range(interval - interval // 3, interval + interval // 3 + 1)
        self.generator = np.random.default_rng(at_least(owner, "seed", seed, 0))
        self.block = math.ceil(math.log(NEGLIGIBLE) / math.log(self.discount))
        self._started = np.zeros((self.intervals[-1] + US_STEPS, rows, 2))  # what trials of this block show in the next
        self._trial = self.generator.integers(0, PAUSE[1], rows)  # of each row, the step of its next trial in the block
        self._trial[0] = 0
        self._probabilities = 1 / (10 * np.arange(1, distractors + 1))
        self._left = np.zeros((rows, distractors), dtype=np.int64)  # steps for which each distractor stays on
        self._next_signals = self._draw_block()
        self._begin_block()

    @property
    def input_size(self) -> int:
        """I = 2 + distractors."""
        return 2 + self.distractors

    @property
    def longest_trial(self) -> int:
        """The greatest number of steps from the beginning of a trial to that of the next."""
        return self.intervals[-1] + PAUSE[1]

    @cached_property
    def memoryless(self) -> float:
        """Squared error of the best learner that sees only the current input."""

        def seen(steps: Ints, interval: int) -> Ints:
            us = (steps >= interval) & (steps < interval + US_STEPS)
            return 2 * us + (steps < CS_STEPS)

        return self._squared_error(seen)

    @cached_property
    def best(self) -> float:
        """Squared error of the best learner that remembers all inputs."""

        def remembered(steps: Ints, interval: int) -> Ints:
            return np.where(steps < interval, steps, self.intervals[-1] + steps - interval)

        return self._squared_error(remembered)

    def step(self) -> ConditioningStep:
        """Returns the next step."""
        if self._t == self.block:
            self._begin_block()
        self._left = np.maximum(self._left - 1, -1)  # at 0 a distractor goes off, and it may go on again from the next
        starts = (self._left < 0) & (self.generator.random(self._left.shape) < self._probabilities)
        self._left[starts] = DISTRACTOR_STEPS
        x = np.concatenate([self._signals[self._t], self._left > 0], axis=1).astype(np.float32)
        y = self._returns[self._t].astype(np.float32)
        self._t += 1
        return ConditioningStep(x, y)

    def _begin_block(self) -> None:
        """Goes on to the next block and computes its returns with the help of the one after it."""
        self._signals, self._next_signals = self._next_signals, self._draw_block()
        self._returns: Floats = np.zeros((self.block, self.rows))
        value = np.zeros(self.rows)
        for us in self._next_signals[::-1, :, 0]:
            value = us + self.discount * value
        for t in reversed(range(self.block)):
            self._returns[t] = value
            value = self._signals[t, :, 0] + self.discount * value
        self._t = 0

    def _draw_block(self) -> Floats:
        """Draws the trials that begin in the next block and returns its US and CS, (T, B, 2)."""
        signals = np.zeros((self.block + len(self._started), self.rows, 2))
        signals[: len(self._started)] = self._started
        for row in range(self.rows):
            trial = int(self._trial[row])
            while trial < self.block:
                interval = int(self.generator.integers(self.intervals[0], self.intervals[-1] + 1))
                signals[trial : trial + CS_STEPS, row, 1] = 1
                signals[trial + interval : trial + interval + US_STEPS, row, 0] = 1
                trial += interval + int(self.generator.integers(PAUSE[0], PAUSE[1] + 1))
            self._trial[row] = trial - self.block
        self._started = signals[self.block :]
        return signals[: self.block]

    def _squared_error(self, known: Callable[[Ints, int], Ints]) -> float:
        """Returns the mean squared error of the best learner that knows only a class of steps: the variance within.

        In a trial of T steps, step p has the return r_p + γ^(T - p) G, where r_p is of the trial's own US, and G, the
        return at the first step of the next trial, is independent of both. So E G and E G² follow from r_0 and γ^T.

        Args:
            known: the classes, from 0, of the steps of a trial (counted from its CS) with this interval.
        """
        trials = [
            (interval, interval + pause) for interval in self.intervals for pause in range(PAUSE[0], PAUSE[1] + 1)
        ]
        own, tails = zip(*(self._own_returns(interval, length) for interval, length in trials), strict=True)
        first, tail = np.array([each[0] for each in own]), np.array([each[0] for each in tails])
        mean = first.mean() / (1 - tail.mean())
        square = ((first**2).mean() + 2 * (first * tail).mean() * mean) / (1 - (tail**2).mean())
        classes = np.concatenate([known(np.arange(length), interval) for interval, length in trials])
        r, weight = np.concatenate(own), np.concatenate(tails)
        returns = np.bincount(classes, r + weight * mean)
        squares = (r**2 + 2 * r * weight * mean + weight**2 * square).sum()
        counts = np.maximum(np.bincount(classes), 1)
        return float((squares - (returns**2 / counts).sum()) / len(classes))

    def _own_returns(self, interval: int, length: int) -> tuple[Floats, Floats]:
        """Returns what a trial's own US adds to the return at each of its steps, and the weight of what comes after."""
        steps = np.arange(length)
        ahead = interval + np.arange(US_STEPS) - steps[:, None] - 1
        own: Floats = np.where(ahead >= 0, self.discount ** np.maximum(ahead, 0), 0.0).sum(axis=1)
        weight: Floats = self.discount ** (length - steps).astype(np.float64)
        return own, weight

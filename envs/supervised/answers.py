"""How an action is a prediction: its space, its reward, and the actions that say what a policy knows.

Dimensions: n copies, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt
from gymnasium import Space, spaces

from sab_agents.envs.dynamics import Array, Bools, Floats

LARGEST = 100.0
"""The bound of log-probabilities as actions: exp(-100) is already below what float32 holds as a normal number."""


class Answers(ABC):
    """A kind of prediction.

    Attributes:
        space: of one copy's action.
        has_loss: whether minus the reward is the loss that the task's metric is made of.
        has_classes: whether a prediction is right or wrong.
        random: the expected reward of a uniformly random action at a scored step.
    """

    space: Space[np.generic] | spaces.Discrete | spaces.Box
    has_loss: bool
    has_classes: bool

    @abstractmethod
    def judge(self, actions: Array, targets: Array) -> tuple[Floats, Bools]:
        """Returns the rewards and which predictions are right, (n,) each, for targets (n,)."""

    @abstractmethod
    def certain(self, targets: Array) -> Array:
        """Returns the best actions of one who knows the targets (n,)."""

    @abstractmethod
    def expecting(self, probabilities: Array) -> Array:
        """Returns the best actions of one who knows each class's chance, (n, C)."""

    @property
    @abstractmethod
    def random(self) -> float:
        """See the class."""


class Classes(Answers):
    """The action is a class; the reward is 1 for the right one, else 0."""

    has_loss, has_classes = False, True

    def __init__(self, C: int) -> None:
        self.space = spaces.Discrete(C)
        self._C = C

    def judge(self, actions: Array, targets: Array) -> tuple[Floats, Bools]:
        """See `Answers.judge`."""
        right = np.equal(actions, targets)
        return right.astype(np.float64), right

    def certain(self, targets: Array) -> Array:
        """See `Answers.certain`."""
        return targets

    def expecting(self, probabilities: Array) -> Array:
        """See `Answers.expecting`."""
        return np.asarray(probabilities.argmax(axis=1))

    @property
    def random(self) -> float:
        """One class in C is right."""
        return 1 / self._C


class LogProbs(Answers):
    """The action is a number for each class, which are normalised; the reward is the target's log-probability.

    Any numbers from -100 to 100 will do, logits as well as log-probabilities: the log of their softmax, in float64, is
    what counts. The prediction is right where the target's number is the largest (the first of equal ones).
    """

    has_loss, has_classes = True, True

    def __init__(self, C: int) -> None:
        self.space = spaces.Box(-LARGEST, LARGEST, (C,), np.float32)
        self._C = C

    def judge(self, actions: Array, targets: Array) -> tuple[Floats, Bools]:
        """See `Answers.judge`."""
        numbers = actions.astype(np.float64)
        numbers -= numbers.max(axis=1, keepdims=True)
        of_target = np.take_along_axis(numbers, targets[:, None], axis=1)[:, 0]
        right = np.equal(numbers.argmax(axis=1), targets)
        return of_target - np.log(np.exp(numbers).sum(axis=1)), right

    def certain(self, targets: Array) -> Array:
        """See `Answers.certain`."""
        return np.where(np.equal(targets[:, None], np.arange(self._C)), LARGEST, -LARGEST).astype(np.float32)

    def expecting(self, probabilities: Array) -> Array:
        """See `Answers.expecting`."""
        return np.log(np.maximum(probabilities, np.exp(-LARGEST))).clip(-LARGEST).astype(np.float32)

    @property
    def random(self) -> float:
        """Minus the expectation of log Σ exp of C uniform numbers; that of the target's own number is 0."""
        return -expected_log_sum_exp(self._C, LARGEST)


class Value(Answers):
    """The action is a number from -1 to 1; the reward is minus its squared distance from the target."""

    has_loss, has_classes = True, False

    def __init__(self, variance: float) -> None:
        self.space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self._variance = variance

    def judge(self, actions: Array, targets: Array) -> tuple[Floats, Bools]:
        """See `Answers.judge`."""
        distances = actions[:, 0].astype(np.float64) - targets
        return -(distances**2), np.zeros(len(targets), np.bool_)

    def certain(self, targets: Array) -> Array:
        """See `Answers.certain`."""
        return targets[:, None].clip(-1, 1).astype(np.float32)

    def expecting(self, probabilities: Array) -> Array:
        """Has no classes to expect.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"Value: the prediction is a number, but chances of {probabilities.shape[1]} classes came.")

    @property
    def random(self) -> float:
        """Minus the variances of a uniform number from -1 to 1 and of a target whose mean is 0."""
        return -(1 / 3 + self._variance)


def expected_log_sum_exp(C: int, bound: float) -> float:
    """Returns the expectation of log(exp a₁ + … + exp a_C) for a uniform in [-bound, bound].

    For X > 0, E log X = ∫ (exp(-s) - E exp(-sX)) ds/s over s > 0. With s = exp v and independent a, the second term is
    φ(v)^C, φ(v) = E exp(-exp(v + a)), the mean of g(w) = exp(-exp w) over [v - bound, v + bound].
    """
    step = 1 / 256
    reach = round((bound + 64) / step)  # beyond, both terms are equal to rounding
    shift = round(bound / step)
    w = np.arange(-reach - shift, reach + shift + 1) * step
    g = np.exp(-np.exp(w.clip(-700, 7)))
    sums: npt.NDArray[np.float64] = np.concatenate([[0.0], ((g[1:] + g[:-1]) * (step / 2)).cumsum()])
    phi = (sums[2 * shift :] - sums[: len(sums) - 2 * shift]) / (2 * bound)
    return float((g[shift : len(g) - shift] - phi**C).sum() * step)

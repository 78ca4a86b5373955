"""Action modes of the sequence environments: how an action is a prediction, and which reward it earns.

Dimensions: n copies, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from gymnasium import spaces

from sab_agents.checks import one_of
from sab_agents.envs.arrays import Array, Bools, Floats

BOUND = 100.0
"""The bound of log-probabilities as actions: exp(-100) is already below the normal range of float32."""


class ActionMode(ABC):
    """A kind of prediction.

    Attributes:
        space: action space of one copy.
        has_loss: whether the negative reward is the loss from which the metric of the task is computed.
        has_classes: whether a prediction is correct or wrong.
    """

    space: spaces.Discrete | spaces.Box
    has_loss: bool
    has_classes: bool

    @abstractmethod
    def judge(self, actions: Array, targets: Array) -> tuple[Floats, Bools]:
        """Returns the rewards and which predictions are correct, (n,) each, for targets (n,)."""

    @abstractmethod
    def best_for_targets(self, targets: Array) -> Array:
        """Returns the best actions if the targets (n,) are known."""

    @abstractmethod
    def best_for_probabilities(self, probabilities: Array) -> Array:
        """Returns the best actions if only the probabilities of the classes, (n, C), are known."""

    @property
    @abstractmethod
    def random_reward(self) -> float:
        """Expected reward of a uniformly random action at a scored step."""


class ClassActions(ActionMode):
    """The action is a class; the reward is 1 if it is the target, else 0.

    Args:
        C: number of classes.
    """

    has_loss, has_classes = False, True

    def __init__(self, C: int) -> None:
        self.space = spaces.Discrete(C)
        self._C = C

    def judge(self, actions: Array, targets: Array) -> tuple[Floats, Bools]:
        """See `ActionMode.judge`."""
        correct = np.equal(actions, targets)
        return correct.astype(np.float64), correct

    def best_for_targets(self, targets: Array) -> Array:
        """See `ActionMode.best_for_targets`."""
        return targets

    def best_for_probabilities(self, probabilities: Array) -> Array:
        """See `ActionMode.best_for_probabilities`."""
        return np.asarray(probabilities.argmax(axis=1))

    @property
    def random_reward(self) -> float:
        """One class in C is the target."""
        return 1 / self._C


class LogProbActions(ActionMode):
    """The action is one logit per class; the reward is the log-probability of the target.

    Any values from -100 to 100 are valid, log-probabilities included: the reward is their log-softmax at the target,
    computed in float64. The prediction is correct if the target has the largest value (the first of equal ones).

    Args:
        C: number of classes.
    """

    has_loss, has_classes = True, True

    def __init__(self, C: int) -> None:
        self.space = spaces.Box(-BOUND, BOUND, (C,), np.float32)
        self._C = C

    def judge(self, actions: Array, targets: Array) -> tuple[Floats, Bools]:
        """See `ActionMode.judge`."""
        logits = actions.astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        target_logits = np.take_along_axis(logits, targets[:, None], axis=1)[:, 0]
        correct = np.equal(logits.argmax(axis=1), targets)
        return target_logits - np.log(np.exp(logits).sum(axis=1)), correct

    def best_for_targets(self, targets: Array) -> Array:
        """See `ActionMode.best_for_targets`."""
        return np.where(np.equal(targets[:, None], np.arange(self._C)), BOUND, -BOUND).astype(np.float32)

    def best_for_probabilities(self, probabilities: Array) -> Array:
        """See `ActionMode.best_for_probabilities`."""
        return np.log(np.maximum(probabilities, np.exp(-BOUND))).clip(-BOUND).astype(np.float32)

    @property
    def random_reward(self) -> float:
        """The negative expectation of log Σ exp of C uniform values; the expected value of the target is 0."""
        return -expected_log_sum_exp(self._C, BOUND)


class ValueActions(ActionMode):
    """The action is a value from -1 to 1; the reward is the negative squared error.

    Args:
        variance: variance of the target, whose mean is 0.
    """

    has_loss, has_classes = True, False

    def __init__(self, variance: float) -> None:
        self.space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self._variance = variance

    def judge(self, actions: Array, targets: Array) -> tuple[Floats, Bools]:
        """See `ActionMode.judge`. No prediction counts as correct."""
        errors = actions[:, 0].astype(np.float64) - targets
        return -(errors**2), np.zeros(len(targets), np.bool_)

    def best_for_targets(self, targets: Array) -> Array:
        """See `ActionMode.best_for_targets`."""
        return targets[:, None].clip(-1, 1).astype(np.float32)

    def best_for_probabilities(self, probabilities: Array) -> Array:
        """Raises, because a value has no classes.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            f"ValueActions: the prediction must be a value, but probabilities of {probabilities.shape[1]} classes were "
            "passed. Use best_for_targets."
        )

    @property
    def random_reward(self) -> float:
        """The negative variances of a uniform value from -1 to 1 and of the target."""
        return -(1 / 3 + self._variance)


def class_action_mode(owner: str, action_mode: object, C: int) -> ActionMode:
    """Returns the action mode of this name over C classes.

    Raises:
        ValueError: the name is neither "class" nor "log_probs".
    """
    modes = {"class": ClassActions, "log_probs": LogProbActions}
    return modes[one_of(owner, "action_mode", action_mode, modes)](C)


def expected_log_sum_exp(C: int, bound: float) -> float:
    """Returns the expectation of log(exp a₁ + … + exp a_C) for independent a uniform in [-bound, bound].

    For X > 0, E log X = ∫ (exp(-s) - E exp(-sX)) ds/s over s > 0. With s = exp v and independent a, the second term is
    φ(v)^C, where φ(v) = E exp(-exp(v + a)) is the mean of g(w) = exp(-exp w) over [v - bound, v + bound].
    """
    step = 1 / 256
    reach = round((bound + 64) / step)  # beyond it, both terms are equal up to rounding
    shift = round(bound / step)
    w = np.arange(-reach - shift, reach + shift + 1) * step
    g = np.exp(-np.exp(w.clip(-700, 7)))
    sums: Floats = np.concatenate([[0.0], ((g[1:] + g[:-1]) * (step / 2)).cumsum()])
    phi = (sums[2 * shift :] - sums[: len(sums) - 2 * shift]) / (2 * bound)
    return float((g[shift : len(g) - shift] - phi**C).sum() * step)

"""Linear classifiers at several rates, mixed with another classifier so that the best of them decides.

Dimensions: I features, C labels, K linear classifiers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

RATES = (0.01, 0.1, 0.5, 2.0, 8.0)
"""Of the linear classifiers, as fractions of the step that would move the outputs by what they lack. The lowest
averages over hundreds of samples, the highest follows the last few."""

SHARE = 0.01
"""Part of all weight that is spread evenly after each sample, so that who was wrong for long is soon heard again."""

LEAST = 1e-6
"""Probability below which no mistake is punished further."""


class LinearMixture:
    """Mixes a classifier's probabilities with those of softmax regressions that learn from every sample.

    The mixture is the mean of all probabilities, weighted by how probable each classifier found the labels so far;
    older ones are gradually forgotten. Its log loss exceeds that of the best classifier by a constant for each time
    that the best one changes, so that one that is worse costs next to nothing. Each regression makes one gradient step
    a sample, divided by the square of the input's length, and so needs no scaled features.

    Attributes:
        weights: (1 + K,) of the classifier and of the linear ones; they sum to 1.

    Source: "fixed share" by Herbster & Warmuth 1998; normalised steps by Nagumo & Noda 1967.
    """

    def __init__(self) -> None:
        K = len(RATES)
        self.weights = np.full(1 + K, 1 / (1 + K))
        self._rates = np.array(RATES)
        self._linear = np.zeros((0, 1))  # (C · K, 1 + I), by labels, then classifiers; the bias first
        self._allot(0, 0)

    def _allot(self, labels: int, features: int) -> None:
        """Makes room for labels and features, whose weights begin at 0."""
        before, rows = self._linear, labels * len(RATES)
        self._linear, self._step = np.zeros((rows, 1 + features)), np.empty((rows, 1 + features))
        self._linear[: len(before), : before.shape[1]] = before
        # Of the last `mixed`.
        self._x = np.ones(1 + features)
        self._each = np.empty((labels, 1 + len(RATES)))

    def mixed(self, x: npt.NDArray[np.float32], probabilities: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Returns the probability of each label.

        Args:
            x: (I,) features; later calls may have more of them.
            probabilities: (C,) by the other classifier; later calls may have more labels.
        """
        if (len(probabilities), len(x) + 1) != (len(self._each), len(self._x)):
            self._allot(len(probabilities), len(x))
        each, K = self._each, len(RATES)
        self._x[1:] = x
        outputs = (self._linear @ self._x).reshape(-1, K)
        outputs -= np.maximum.reduce(outputs)
        np.exp(outputs, out=outputs)
        np.divide(outputs, np.add.reduce(outputs), out=each[:, 1:])
        each[:, 0] = probabilities
        mixed: npt.NDArray[np.float64] = each @ self.weights
        return mixed

    def learn(self, label: int, *, known: bool) -> None:
        """Learns the label of the sample that `mixed` was called for last.

        Args:
            label: from 0.
            known: whether the other classifier could have predicted it; a label that is new says nothing about who is
                right.
        """
        each, x = self._each, self._x
        if known:
            weights = self.weights
            weights *= np.maximum(each[label], LEAST)
            weights *= (1 - SHARE) / np.add.reduce(weights)
            weights += SHARE / len(weights)
        lacking = -each[:, 1:]
        lacking[label] += 1
        lacking *= self._rates / (x @ x)
        self._linear += np.multiply.outer(lacking.ravel(), x, out=self._step)

"""Linear classifiers at several rates, mixed with another classifier so that the best of them decides.

Dimensions: I features, C labels, K linear classifiers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sab_agents.kernels import MixtureKernel, MixtureState, mixture_kernel

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
    older ones are gradually forgotten. Its log loss exceeds that of the best classifier by about 0.01 a sample, and by
    7 for each time that another one becomes the best, so that one that is worse costs next to nothing. Each regression
    makes one gradient step a sample, divided by the square of the input's length, and so needs no scaled features.

    Args:
        views: of a sample, each with regressions of its own; see `mixed`.

    Attributes:
        weights: (1 + K,) of the other classifier and of the linear ones; they sum to 1.

    Source: "fixed share" by Herbster & Warmuth 1998; normalised steps by Nagumo & Noda 1967.
    """

    def __init__(self, views: int = 1) -> None:
        K = views * len(RATES)
        self._rates, self.weights = np.array(RATES * views), np.full(1 + K, 1 / (1 + K))
        self._linear = np.zeros((0, K, 1))  # (C, K, 1 + I), the bias first
        self._make_room(0, views, 0)

    def __getstate__(self) -> dict[str, Any]:
        """Returns what a copy is made of."""
        return {**self.__dict__, "_kernel": None}

    def _make_room(self, labels: int, views: int, features: int) -> None:
        """Makes room for more labels and features, whose weights begin at 0."""
        former = self._linear
        self._linear = np.zeros((labels, len(self._rates), 1 + features))
        self._linear[: len(former), :, : former.shape[2]] = former
        # Of the last `mixed`, see `MixtureState`.
        self._x, self._other = np.zeros((views, features), np.float32), np.zeros(labels, np.float32)
        self._each, self._mixed = np.zeros((labels, len(self.weights))), np.zeros(labels)
        self._kernel: MixtureKernel | None = None  # bound to these arrays at the first call

    def _bound(self) -> MixtureKernel:
        arrays = self.weights, self._linear, self._x, self._other, self._each, self._mixed
        weights, linear, x, other, each, mixed = map(torch.from_numpy, arrays)
        state = MixtureState(torch.from_numpy(self._rates), SHARE, LEAST, weights, linear, x, other, each, mixed)
        self._kernel = mixture_kernel(state)
        return self._kernel

    def mixed(
        self, x: npt.NDArray[np.float32], probabilities: npt.NDArray[np.float32], hidden: int | None = None
    ) -> npt.NDArray[np.float64]:
        """Returns the probability of each label; the next call overwrites them.

        Args:
            x: (I,) features; later calls may have more of them.
            probabilities: (C,) by the other classifier; later calls may have more labels.
            hidden: a feature that all views but the first have 0 in place of; None for none.
        """
        views, features = self._x.shape
        if len(probabilities) != len(self._mixed) or len(x) != features:
            self._make_room(len(probabilities), views, len(x))
        self._x[:], self._other[:] = x, probabilities
        if hidden is not None:
            self._x[1:, hidden] = 0
        (self._kernel or self._bound()).mix()
        return self._mixed

    def learn(self, label: int, *, known: bool) -> None:
        """Learns the label of the sample that `mixed` was called for last.

        Args:
            label: from 0.
            known: whether the other classifier could have predicted it; a label that is new says nothing about who is
                right.
        """
        (self._kernel or self._bound()).learn(label, known)

"""Linear classifiers at several rates, mixed with another classifier so that the best of them decides.

Dimensions: I features, C labels, K linear classifiers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

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
    older ones are gradually forgotten. Its log loss exceeds that of the best classifier by a constant for each time
    that the best one changes, so that one that is worse costs next to nothing. Each regression makes one gradient step
    a sample, divided by the square of the input's length, and so needs no scaled features.

    Args:
        views: of a sample, each with regressions of its own; see `mixed`.

    Source: "fixed share" by Herbster & Warmuth 1998; normalised steps by Nagumo & Noda 1967.
    """

    def __init__(self, views: int = 1) -> None:
        K = views * len(RATES)
        self._state = MixtureState(
            rates=np.array(RATES * views),
            share=SHARE,
            least=LEAST,
            weights=np.full(1 + K, 1 / (1 + K)),
            linear=np.zeros((0, K, 1)),
            x=np.empty((views, 0), np.float32),
            other=np.empty(0, np.float32),
            each=np.empty((0, 1 + K)),
            mixed=np.empty(0),
        )
        self._kernel: MixtureKernel | None = None  # bound to the state at the first call

    def __getstate__(self) -> dict[str, Any]:
        """Returns what a copy is made of."""
        return {**self.__dict__, "_kernel": None}

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """(1 + K,) of the other classifier and of the linear ones; they sum to 1."""
        return self._state.weights

    def _make_room(self, labels: int, features: int) -> None:
        """Makes room for more labels and features, whose weights begin at 0."""
        state = self._state
        linear = np.zeros((labels, len(state.rates), 1 + features))
        linear[: len(state.linear), :, : state.linear.shape[2]] = state.linear
        self._state = state._replace(
            linear=linear,
            x=np.empty((len(state.x), features), np.float32),
            other=np.empty(labels, np.float32),
            each=np.empty((labels, len(state.weights))),
            mixed=np.empty(labels),
        )
        self._kernel = None

    def _bound(self) -> MixtureKernel:
        self._kernel = mixture_kernel(self._state)
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
        if len(probabilities) != len(self._state.mixed) or len(x) != self._state.x.shape[1]:
            self._make_room(len(probabilities), len(x))
        state = self._state
        state.x[:], state.other[:] = x, probabilities
        if hidden is not None:
            state.x[1:, hidden] = 0
        (self._kernel or self._bound()).mix()
        return state.mixed

    def learn(self, label: int, *, known: bool) -> None:
        """Learns the label of the sample that `mixed` was called for last.

        Args:
            label: from 0.
            known: whether the other classifier could have predicted it; a label that is new says nothing about who is
                right.
        """
        (self._kernel or self._bound()).learn(label, known)

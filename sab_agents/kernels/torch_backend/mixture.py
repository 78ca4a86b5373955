"""A mixture of linear classifiers with another one, in NumPy."""

from __future__ import annotations

import numpy as np

from sab_agents.kernels.types import MixtureState


class PlainMixture:
    """Computes what `mixture_kernel` says."""

    def __init__(self, state: MixtureState) -> None:
        self._state = state
        self._views, features = state.x.shape
        labels, K = len(state.mixed), len(state.rates)
        self._x = np.ones((self._views, 1 + features))
        self._linear = state.linear.reshape(labels, self._views, K // self._views, 1 + features)
        self._rates = state.rates.reshape(self._views, -1)

    def mix(self) -> None:
        """Computes `each` and `mixed` from the rest."""
        state = self._state
        self._x[:, 1:] = state.x
        outputs = (self._linear @ self._x[:, :, None]).reshape(len(state.mixed), -1)
        outputs -= np.maximum.reduce(outputs)
        np.exp(outputs, out=outputs)
        np.divide(outputs, np.add.reduce(outputs), out=state.each[:, 1:])
        state.each[:, 0] = state.other
        np.matmul(state.each, state.weights, out=state.mixed)

    def learn(self, label: int, known: bool) -> None:
        """Changes `weights`, if the label was known, and `linear`."""
        state, x = self._state, self._x
        if known:
            weights = state.weights
            weights *= np.maximum(state.each[label], state.least)
            weights *= (1 - state.share) / np.add.reduce(weights)
            weights += state.share / len(weights)
        lacking = -state.each[:, 1:]
        lacking[label] += 1
        steps = lacking.reshape(len(lacking), *self._rates.shape) * (self._rates / np.square(x).sum(1, keepdims=True))
        np.add(self._linear, steps[..., None] * x[:, None], out=self._linear)

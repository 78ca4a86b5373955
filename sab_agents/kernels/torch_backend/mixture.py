"""A mixture of linear classifiers with another one, in torch."""

from __future__ import annotations

import torch

from sab_agents.kernels.types import MixtureState


class PlainMixture:
    """Computes what `mixture_kernel` says."""

    def __init__(self, state: MixtureState) -> None:
        self._state = state
        views, features = state.x.shape
        self._x = state.linear.new_ones(views, 1 + features)
        self._linear = state.linear.view(len(state.mixed), views, -1, 1 + features)
        self._rates = state.rates.view(views, -1)

    def mix(self) -> None:
        """Computes `each` and `mixed` from the rest."""
        state = self._state
        self._x[:, 1:] = state.x
        outputs = (self._linear @ self._x.unsqueeze(2)).view(len(state.mixed), -1)
        state.each[:, 1:] = torch.softmax(outputs, dim=0)
        state.each[:, 0] = state.other
        torch.mv(state.each, state.weights, out=state.mixed)

    def learn(self, label: int, known: bool) -> None:
        """Changes `weights`, if the label was known, and `linear`."""
        state, x = self._state, self._x
        if known:
            weights = state.weights
            weights *= state.each[label].clamp(min=state.least)
            weights *= (1 - state.share) / weights.sum()
            weights += state.share / len(weights)
        lacking = -state.each[:, 1:]
        lacking[label] += 1
        steps = lacking.view(-1, *self._rates.shape) * (self._rates / x.square().sum(dim=1, keepdim=True))
        self._linear += steps.unsqueeze(3) * x.unsqueeze(1)

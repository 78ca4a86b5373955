"""A mixture of linear classifiers with another one, in torch."""

from __future__ import annotations

import torch
from torch import Tensor

from sab_agents.kernels.types import MixtureState


class PlainMixture:
    """Computes what `mixture_kernel` says."""

    def __init__(self, state: MixtureState) -> None:
        self._state = state
        (views, features), K = state.x.shape, state.linear.shape[1]
        self._labels = len(state.mixed)
        self._linear = state.linear.view(self._labels, views, -1, 1 + features)
        self._readout = state.readout.unsqueeze(1)
        self._rates = state.rates[:K].view(views, -1), state.rates[K:].unsqueeze(0)

    def mix(self) -> None:
        """Computes `each` and `mixed` from the rest."""
        state, C = self._state, self._labels
        x, output = _with_bias(state.x), _with_bias(state.output.unsqueeze(0))
        head = state.head[:C].double() @ state.output.double() + state.bias[:C].double()
        linear, readout = self._linear @ x.unsqueeze(2), self._readout @ output.unsqueeze(2)
        scores = torch.cat([head.unsqueeze(1), linear.view(C, -1), readout.view(C, -1)], dim=1)
        state.each.copy_(torch.softmax(scores, dim=0))
        torch.mv(state.each, state.weights, out=state.mixed)

    def learn(self, label: int, known: bool) -> None:
        """Changes `weights`, if the label was known, `linear` and `readout`."""
        state, (rates, readout_rates) = self._state, self._rates
        if known:
            weights = state.weights
            weights *= state.each[label].clamp(min=state.least)
            weights *= (1 - state.share) / weights.sum()
            weights += state.share / len(weights)
        lacking = -state.each[:, 1:]
        lacking[label] += 1
        _step(self._linear, lacking[:, : rates.numel()], rates, state.x)
        _step(self._readout, lacking[:, rates.numel() :], readout_rates, state.output.unsqueeze(0))


def _with_bias(x: Tensor) -> Tensor:
    return torch.cat([x.new_ones(len(x), 1), x], dim=1).double()


def _step(weights: Tensor, lacking: Tensor, rates: Tensor, x: Tensor) -> None:
    """Adds the steps of classifiers (C, G, K / G, 1 + I) whose probabilities lack (C, K), for inputs (G, I)."""
    x = _with_bias(x)
    steps = lacking.reshape(-1, *rates.shape) * (rates / x.square().sum(dim=1, keepdim=True))
    weights += steps.unsqueeze(3) * x.unsqueeze(1)

"""Linear classifiers at several rates, mixed with a core and its head so that the best of them decides.

Dimensions: I features, F outputs of a core, C labels, K linear classifiers of the features, R of these outputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sab_agents.kernels import MixtureKernel, MixtureState, mixture_kernel

RATES = (0.01, 0.1, 0.5, 2.0, 8.0)
"""Of the linear classifiers, as fractions of the step that would move the outputs by what they lack. The lowest
averages over hundreds of samples, the highest follows the last few."""

READOUT_RATES = (0.1, 0.5, 2.0)
"""The same of the readouts, linear classifiers of the core's outputs."""

SHARE = 0.003
"""Part of all weight that is spread evenly after each sample, so that who was wrong for long is soon heard again."""

LEAST = 1e-6
"""Probability below which no mistake is punished further."""


class LinearMixture:
    """Mixes the probabilities of a core and its head with those of softmax regressions that learn from every sample.

    The mixture is the mean of all probabilities, weighted by how probable each classifier found the labels so far;
    older ones are gradually forgotten. Its log loss exceeds that of the best classifier by about 0.003 a sample, and by
    8 for each time that another one becomes the best, so that one that is worse costs next to nothing. Each regression
    makes one gradient step a sample, divided by the square of the input's length, and so needs no scaled features. Some
    have the features as their input; others, the readouts, have the core's outputs, as its head has, which learns
    less often.

    Args:
        views: of a sample, each with regressions of its own; see `mixed`.

    Attributes:
        weights: (1 + K + R,) of the core, of the regressions and of the readouts; they sum to 1.

    Source: "fixed share" by Herbster & Warmuth 1998; normalised steps by Nagumo & Noda 1967.
    """

    def __init__(self, views: int = 1) -> None:
        K, R = views * len(RATES), len(READOUT_RATES)
        self._rates, self.weights = np.array(RATES * views + READOUT_RATES), np.full(1 + K + R, 1 / (1 + K + R))
        self._linear, self._readout = np.zeros((0, K, 1)), np.zeros((0, R, 1))  # (C, …, 1 + I or F), the bias first
        self._make_room(0, views, 0, 0)

    def __getstate__(self) -> dict[str, Any]:
        """Returns what a copy is made of."""
        return {**self.__dict__, "_kernel": None, "_head": None}

    def _make_room(self, labels: int, views: int, features: int, size: int) -> None:
        """Makes room for more labels and features, whose weights begin at 0."""
        self._linear = _widened(self._linear, labels, features)
        self._readout = _widened(self._readout, labels, size)
        # Of the last `mixed`, see `MixtureState`.
        self._x, self._output = np.zeros((views, features), np.float32), np.zeros(size, np.float32)
        self._each, self._mixed = np.zeros((labels, len(self.weights))), np.zeros(labels)
        self._kernel: MixtureKernel | None = None  # bound to these arrays at the first call
        self._head: tuple[int, int] | None = None  # where its weights lie

    def _bound(self, head: nn.Linear) -> MixtureKernel:
        """Returns the kernel, bound to these arrays and to the head as it lies now."""
        weights = head._parameters  # `__getattr__` would be noticed at every step
        weight, bias = weights["weight"], weights["bias"]
        assert weight is not None
        assert bias is not None
        if self._kernel is None or self._head != (weight.data_ptr(), bias.data_ptr()):
            layer, offset = (each.detach().to("cpu", torch.float32).contiguous() for each in (weight, bias))
            state = MixtureState(
                rates=torch.from_numpy(self._rates),
                share=SHARE,
                least=LEAST,
                weights=torch.from_numpy(self.weights),
                linear=torch.from_numpy(self._linear),
                readout=torch.from_numpy(self._readout),
                x=torch.from_numpy(self._x),
                output=torch.from_numpy(self._output),
                head=layer,
                bias=offset,
                each=torch.from_numpy(self._each),
                mixed=torch.from_numpy(self._mixed),
            )
            self._kernel = mixture_kernel(state)
            self._head = layer.data_ptr(), offset.data_ptr()  # elsewhere if it was converted
        return self._kernel

    def mixed(
        self,
        x: npt.NDArray[np.float32],
        output: npt.NDArray[np.floating[Any]],
        head: nn.Linear,
        labels: int,
        hidden: int | None = None,
    ) -> npt.NDArray[np.float64]:
        """Returns the probability of each label; the next call overwrites them.

        Args:
            x: (I,) features; later calls may have more of them.
            output: (F,) of the core.
            head: from these to the labels, of which it may have room for more.
            labels: C; later calls may have more.
            hidden: a feature that all views but the first have 0 in place of; None for none.
        """
        views, features = self._x.shape
        if labels != len(self._mixed) or len(x) != features:
            self._make_room(labels, views, len(x), len(output))
        kernel = self._bound(head)
        self._x[:], self._output[:] = x, output
        if hidden is not None:
            self._x[1:, hidden] = 0
        kernel.mix()
        return self._mixed

    def learn(self, label: int, head: nn.Linear, *, known: bool) -> None:
        """Learns the label of the sample that `mixed` was called for last.

        Args:
            label: from 0.
            head: as there.
            known: whether the core could have predicted it; a label that is new says nothing about who is right.
        """
        (self._kernel or self._bound(head)).learn(label, known)


def _widened(weights: npt.NDArray[np.float64], labels: int, inputs: int) -> npt.NDArray[np.float64]:
    """Returns weights (C, …, 1 + I) with zeros for further labels and inputs."""
    wider = np.zeros((labels, weights.shape[1], 1 + inputs))
    wider[: len(weights), :, : weights.shape[2]] = weights
    return wider

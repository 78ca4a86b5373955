"""Linear classifiers at several rates, mixed with another classifier.

Dimensions: I features, F features that the other classifier's last layer takes, C labels, K linear classifiers, R
readouts.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch

from sab_agents.kernels.backend import NATIVE, kernel_in_use
from sab_agents.kernels.native_backend.mixture import CompiledMixture
from sab_agents.kernels.torch_backend.mixture import PlainMixture
from sab_agents.kernels.types import MixtureState


class MixtureKernel(Protocol):
    """What is computed with a `MixtureState`, whose arrays it changes in place."""

    def mix(self) -> Any:
        """Computes `each` and `mixed` from the rest."""

    def learn(self, label: int, known: bool) -> None:
        """Changes `linear`, `readout` and, if `known`, `weights`, for the label of the sample that `mix` saw last.

        With p of `each`, a weight w becomes (1 − share) w max(p_label, least) / Σ + share / (1 + K + R), and a linear
        classifier gets rate (1 − p_label) x / |x|² for the label and −rate p x / |x|² for the others, x with the 1 of
        the bias; a readout the same with `output` as x.
        """


def mixture_kernel(state: MixtureState) -> MixtureKernel:
    """Returns what computes with these arrays, which must stay where they are.

    Args:
        state: with at least one label.
    """
    native = kernel_in_use(torch.device("cpu"), torch.float32) == NATIVE
    return CompiledMixture(state) if native else PlainMixture(state)

"""Features of a stream, each brought to one scale by its running mean and standard deviation."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from sab_agents.kernels.backend import NATIVE, kernel_in_use
from sab_agents.kernels.native_backend.scale import CompiledScale
from sab_agents.kernels.torch_backend.scale import PlainScale
from sab_agents.kernels.types import ScaleState


class ScaleKernel(Protocol):
    """What is computed with a `ScaleState`, whose arrays it changes in place."""

    @property
    def lay(self) -> Any:
        """A function that computes `out`: each value's distance from the mean in standard deviations."""

    @property
    def update(self) -> Any:
        """A function that counts the values: changes seen, mean, squares and deviation.

        Source: Welford 1962.
        """


def scale_kernel(state: ScaleState) -> ScaleKernel:
    """Returns what computes with these arrays, which must stay where they are."""
    native = kernel_in_use(torch.device("cpu"), torch.float32) == NATIVE
    return CompiledScale(state) if native else PlainScale(state)

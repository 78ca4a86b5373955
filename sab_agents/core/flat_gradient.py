"""All gradients of a learner side by side, so that clearing and clipping them is one operation each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class FlatGradient:
    """The gradients of parameters as views of one vector for each dtype and device, mostly a single one.

    Args:
        parameters: those that do not require a gradient are left out.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        groups: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
        for parameter in parameters:
            if parameter.requires_grad:
                groups.setdefault((parameter.dtype, parameter.device), []).append(parameter)
        self._vectors: list[Tensor] = []
        self._views: list[tuple[nn.Parameter, Tensor]] = []
        for (dtype, device), members in groups.items():
            sizes = [parameter.numel() for parameter in members]
            vector = torch.zeros(sum(sizes), dtype=dtype, device=device)
            self._vectors.append(vector)
            for parameter, part in zip(members, torch.split(vector, sizes), strict=True):
                self._views.append((parameter, part.view(parameter.shape)))

    def begin(self) -> None:
        """Sets every gradient to zero, and makes it a view again where something else was put there."""
        for vector in self._vectors:
            vector.zero_()
        for parameter, view in self._views:
            parameter.grad = view

    def clip(self, greatest: float) -> float:
        """Scales all of it so that its norm is at most `greatest`; returns the norm before."""
        norm = math.hypot(*(float(torch.linalg.vector_norm(vector)) for vector in self._vectors))
        if norm > greatest:
            for vector in self._vectors:
                vector.mul_(greatest / (norm + 1e-6))
        return norm

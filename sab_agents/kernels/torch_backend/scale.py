"""Scales of features, in torch."""

from __future__ import annotations

import torch

from sab_agents.kernels.types import ScaleState

LARGEST = torch.finfo(torch.float32).max


class PlainScale:
    """Computes what `scale_kernel` says."""

    def __init__(self, state: ScaleState) -> None:
        self._state = state

    def lay(self) -> None:
        """Computes `out`."""
        state = self._state
        scaled = (state.values - state.mean) / state.deviation
        state.out[state.columns] = scaled.clamp(-LARGEST, LARGEST).to(state.out.dtype)

    def update(self) -> None:
        """Changes seen, mean, squares and deviation."""
        state = self._state
        values, seen, mean, squares = state.values, state.seen, state.mean, state.squares
        seen += 1
        difference = values - mean
        mean += difference / seen
        squares += difference * (values - mean)
        state.deviation.copy_(torch.where(squares > 0, squares, seen).div(seen).sqrt())

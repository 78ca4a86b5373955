"""Scales of features, in NumPy."""

from __future__ import annotations

import numpy as np

from sab_agents.kernels.types import ScaleState

LARGEST = float(np.finfo(np.float32).max)


class PlainScale:
    """Computes what `scale_kernel` says."""

    def __init__(self, state: ScaleState) -> None:
        self._state = state

    def lay(self) -> None:
        """Computes `out`."""
        state = self._state
        state.out[state.columns] = np.clip((state.values - state.mean) / state.deviation, -LARGEST, LARGEST)

    def update(self) -> None:
        """Changes seen, mean, squares and deviation."""
        state = self._state
        state.seen[:] += 1
        difference = state.values - state.mean
        state.mean[:] += difference / state.seen
        state.squares[:] += difference * (state.values - state.mean)
        state.deviation[:] = np.sqrt(np.where(state.squares > 0, state.squares, state.seen) / state.seen)

"""Scales of features, with the native kernel."""

from __future__ import annotations

from sab_agents.kernels.native_backend.extension import native
from sab_agents.kernels.types import ScaleState


class CompiledScale:
    """Computes what `scale_kernel` says."""

    def __init__(self, state: ScaleState) -> None:
        values, seen, mean, squares, deviation, columns, out = state
        n = len(values)
        laid = native.Standardise(count=n, values=values, mean=mean, deviation=deviation, columns=columns, out=out)
        counted = native.Measure(count=n, values=values, seen=seen, mean=mean, squares=squares, deviation=deviation)
        self.lay, self.update = laid.run, counted.run

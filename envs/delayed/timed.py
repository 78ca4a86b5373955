"""What tasks of a fixed number of steps share.

Dimensions: n copies.
"""

from __future__ import annotations

import numpy as np

from sab_agents.envs.dynamics import Bools, Dynamics, Ints


class Timed(Dynamics):
    """Episodes that end, terminated, after `horizon` steps; `_t` counts the steps of each copy."""

    horizon: int

    def allocate(self, n: int) -> None:
        """See `Dynamics.allocate`."""
        self.n = n
        self._t = np.zeros(n, dtype=np.int64)
        self._copies = np.arange(n)

    def _restart(self, copies: Ints) -> None:
        self._t[copies] = 0

    def _tick(self) -> tuple[Bools, Bools]:
        """Counts a step; returns terminated and truncated."""
        self._t += 1
        return self._t >= self.horizon, np.zeros(self.n, dtype=np.bool_)

    def _progress(self, copy: int) -> float:
        return float(self._t[copy]) / self.horizon

    def _step_line(self, copy: int) -> str:
        return f"step {self._t[copy]} of {self.horizon}"

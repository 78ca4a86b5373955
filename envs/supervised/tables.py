"""Chances of what comes, counted from data: what the best policy without memory knows.

Dimensions: K keys, C classes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sab_agents.envs.dynamics import Array, Floats

Counts = npt.NDArray[np.int64]


class Table:
    """The chances of each class after each key.

    Args:
        keys: (K,) observations as numbers, ascending.
        counts: (K, C) how often each class goes with each key.

    Attributes:
        accuracy: how often the most frequent class of the present key is right.
        log_probability: of the right class, on average, by the chances of the present key: minus the conditional
            entropy in nats.
    """

    def __init__(self, keys: Array, counts: Counts) -> None:
        self.keys = keys
        of_key = counts.sum(axis=1)
        self.chances: Floats = np.full(counts.shape, 1 / counts.shape[1])
        np.divide(counts, of_key[:, None], where=of_key[:, None] > 0, out=self.chances)
        logs = np.log(self.chances, where=self.chances > 0, out=np.zeros_like(self.chances))
        shares = of_key / of_key.sum()
        self.accuracy = float(shares @ self.chances.max(axis=1))
        self.log_probability = float(shares @ (self.chances * logs).sum(axis=1))

    def __call__(self, seen: Array) -> Floats:
        """The chances for observations (n,), (n, C); those of a neighbour for one that never occurred."""
        found: Floats = self.chances[np.searchsorted(self.keys, seen).clip(max=len(self.keys) - 1)]
        return found

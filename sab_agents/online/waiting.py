"""Steps that a stream has still to take: several at once cost much less than one by one.

Dimensions: n steps, B rows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sab_agents.streaming import SABStream

FEW = 32  # numbers that Python looks at sooner than numpy


class WaitingSteps:
    """Keeps steps whose outputs nobody has asked for yet.

    Args:
        stream: takes them in the end; float32 on the CPU.
        most: as many may wait.
    """

    def __init__(self, stream: SABStream, most: int) -> None:
        self._stream = stream
        self._x = np.zeros((most, stream.rows, *stream.observation_shape), dtype=np.float32)
        self._start = np.zeros((most, stream.rows), dtype=np.bool_)
        self._any_start = False  # whether any was ever put into `_start`
        self._count = 0

    def add(self, x: npt.NDArray[np.float32], start: npt.NDArray[Any] | None) -> bool:
        """Puts a step (B, …) behind the others; False where it is for the stream to say what is wrong with it."""
        if x.shape != self._x.shape[1:] or not _finite(x):
            return False
        if start is None:
            if self._any_start:
                self._start[self._count] = False
        elif start.dtype == np.bool_ and start.shape == self._start.shape[1:]:
            self._start[self._count] = start
            self._any_start = True
        else:
            return False
        self._x[self._count] = x
        self._count += 1
        return True

    def take(self) -> None:
        """Lets the stream take them."""
        count, self._count = self._count, 0
        if count:
            self._stream.take_steps(torch.from_numpy(self._x[:count]), torch.from_numpy(self._start[:count]))

    def forget(self) -> None:
        """They are not taken."""
        self._count = 0


def _finite(x: npt.NDArray[np.float32]) -> bool:
    return all(map(math.isfinite, x.ravel().tolist())) if x.size <= FEW else bool(np.isfinite(x).all())

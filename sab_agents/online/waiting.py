"""Steps that a stream has still to take: several at once cost much less than one by one.

Dimensions: n steps, B rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sab_agents.core.streaming import SABStream


class WaitingSteps:
    """Keeps steps whose outputs nobody has asked for yet.

    Args:
        stream: takes them in the end.
        most: as many may wait.
    """

    def __init__(self, stream: SABStream, most: int) -> None:
        self._stream = stream
        self._x = torch.empty(most, stream.rows, *stream.observation_shape)
        self._start = torch.zeros(most, stream.rows, dtype=torch.bool)
        self._any_start = False  # whether any was ever put into `_start`
        self._count = 0

    def add(self, x: Tensor, start: Tensor | None) -> bool:
        """Puts a step (B, …) behind the others; False where it is for the stream to say whether it takes such."""
        if x.dtype is not torch.float32 or not x.is_cpu:
            return False
        if start is None:
            if self._any_start:
                self._start[self._count] = False
        elif start.dtype is torch.bool and start.shape == self._start.shape[1:]:
            self._start[self._count] = start
            self._any_start = True
        else:
            return False
        self._x[self._count].copy_(x)
        self._count += 1
        return True

    def take(self) -> None:
        """Lets the stream take them."""
        count, self._count = self._count, 0
        if count:
            self._stream.take_steps(self._x[:count], self._start[:count])

    def forget(self) -> None:
        """They are not taken."""
        self._count = 0

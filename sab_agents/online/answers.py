"""How the latest targets of a learner were met, and what the same answer to all of them would have scored.

Dimensions: C outputs of the head, n targets.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sab_agents.online.targets import Targets

KEPT = 0.99
"""Of the sums, from one window that is noted to the next."""
NOTED = 1 / 8
"""Of the windows that are learnt from: what is noted costs a hundredth of an update."""


def is_noted(update: int, fraction: float) -> bool:
    """Whether the window of this update, counted from 0, is among that fraction of them."""
    # Multiples of the golden ratio spread evenly over [0, 1), whatever the period one looks at: no rhythm of the data
    # hides from it.
    return update * 0.6180339887498949 % 1 < fraction


class Answers:
    """Sums over the targets of some latest windows, the older ones with ever less weight.

    Args:
        targets: what is predicted.

    Attributes:
        count: n, by weight.
        loss: sum of their losses.
        moments: (2, C) float64 sums of the targets, classes as one-hot vectors, and of their squares.
    """

    def __init__(self, targets: Targets) -> None:
        self.targets = targets
        self.clear()

    def clear(self) -> None:
        """Forgets all windows."""
        self.count = self.loss = 0.0
        self.moments = np.zeros((2, self.targets.size))

    @staticmethod
    def wants(update: int) -> bool:
        """Whether the window of this update, counted from 0, is to be noted."""
        return is_noted(update, NOTED)

    @torch.no_grad()
    def add(self, given: Tensor, target: Tensor) -> None:
        """Notes the targets of a window, unless their loss is not finite.

        Args:
            given: (n, C) of the head.
            target: (n,) classes, or (n, C), on the CPU.
        """
        given = given.to("cpu", torch.float64)  # squares of what float32 can hold need not fit into it
        kind, count = self.targets.loss, len(target)
        if kind == "cross_entropy":
            loss = functional.cross_entropy(given, target)
            target = functional.one_hot(target, self.targets.size)
        elif kind == "binary_cross_entropy":
            loss = functional.binary_cross_entropy_with_logits(given, target.double())
        else:
            loss = functional.mse_loss(given, target.double())
        if not math.isfinite(loss):  # which no later window would get out of the sums
            return
        target = target.double()
        self.count = KEPT * self.count + count
        self.loss = KEPT * self.loss + count * float(loss)
        self.moments = KEPT * self.moments + torch.stack([target.sum(0), target.square().sum(0)]).numpy()

    def figures(self) -> dict[str, float]:
        """Returns `loss`, their mean, and `constant_loss`, the least of the same answer to all; nothing without any."""
        if not self.count:
            return {}
        return {"loss": self.loss / self.count, "constant_loss": self._least()}

    def _least(self) -> float:
        mean, square = self.moments / self.count
        if self.targets.loss == "squared_error":
            return float(np.maximum(square - mean**2, 0).mean())
        single = self.targets.loss == "cross_entropy"
        chances = mean if single else np.stack([mean, 1 - mean])
        surprise = -chances * np.log(np.where(chances > 0, chances, 1))
        return float(surprise.sum() if single else surprise.sum(0).mean())

    def state_dict(self) -> dict[str, Any]:
        """Returns all sums."""
        return {"count": self.count, "loss": self.loss, "moments": torch.from_numpy(self.moments.copy())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resumes from what `state_dict` returned; a file of before there was such a thing has nothing."""
        self.clear()
        if state_dict:
            self.count, self.loss = state_dict["count"], state_dict["loss"]
            self.moments = state_dict["moments"].numpy().copy()

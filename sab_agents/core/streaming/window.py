"""The steps since a learner last learnt, as they were taken."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor


class Window:
    """Tensors (B, …) recorded at each step under fixed names, and stacked to (T, B, …) when they are asked for."""

    def __init__(self) -> None:
        self.steps = 0
        self._lists: dict[str, list[Tensor]] = {}
        self._stacked: dict[str, Tensor] = {}

    def append(self, **tensors: Tensor) -> None:
        """Records one step; the tensors must not be changed afterwards."""
        for name, tensor in tensors.items():
            self._lists.setdefault(name, []).append(tensor)
        self.steps += 1
        self._stacked.clear()

    def stacked(self, name: str) -> Tensor:
        """All steps of one name, (T, B, …)."""
        if name not in self._stacked:
            self._stacked[name] = torch.stack(self._lists[name])
        return self._stacked[name]

    def state_dict(self) -> dict[str, Tensor]:
        """Every recorded name with all its steps; empty before the first."""
        return {name: self.stacked(name) for name in self._lists}

    @classmethod
    def from_state_dict(cls, saved: dict[str, Tensor]) -> Self:
        """The window that `state_dict` was taken of."""
        window = cls()
        window._lists = {name: list(tensor.unbind()) for name, tensor in saved.items()}
        window.steps = max((len(steps) for steps in window._lists.values()), default=0)
        return window

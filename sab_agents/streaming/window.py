"""The steps since a stream's last update, as they were taken.

Dimensions: T steps, B rows.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor


class Window:
    """Tensors (B, …) recorded at each step under fixed names, in tensors (T, B, …) that grow as steps come.

    Attributes:
        steps: recorded steps.
        tensors: by name, with room for more steps.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.tensors: dict[str, Tensor] = {}
        self._room = 0

    def append(self, **tensors: Tensor) -> None:
        """Records one step; the tensors are copied."""
        if self.full:
            self.make_room(tensors)
        for name, tensor in tensors.items():
            self.tensors[name][self.steps] = tensor
        self.steps += 1

    @property
    def full(self) -> bool:
        """Whether there is no room for another step."""
        return self.steps == self._room

    @property
    def room(self) -> int:
        """Steps that can still be recorded without making room."""
        return self._room - self.steps

    def make_room(self, like: dict[str, Tensor]) -> None:
        """Doubles the room for steps like these tensors (B, …)."""
        if not self.tensors:
            self.tensors = {name: tensor.new_empty(1, *tensor.shape) for name, tensor in like.items()}
        else:
            self.tensors = {name: torch.cat([held, torch.empty_like(held)]) for name, held in self.tensors.items()}
        self._room = max(1, 2 * self._room)

    def stacked(self, name: str) -> Tensor:
        """Returns all steps of one name, (T, B, …)."""
        return self.tensors[name][: self.steps]

    def clear(self) -> None:
        """Begins a window in the tensors of the last one."""
        self.steps = 0

    def state_dict(self) -> dict[str, Tensor]:
        """Returns every recorded name with all its steps; nothing before the first."""
        return {name: self.stacked(name) for name in self.tensors if self.steps}

    @classmethod
    def from_state_dict(cls, saved: dict[str, Tensor]) -> Self:
        """Returns the window of which `state_dict` was taken."""
        window = cls()
        window.tensors = {name: tensor.clone() for name, tensor in saved.items()}
        window.steps = window._room = max((len(tensor) for tensor in saved.values()), default=0)
        return window

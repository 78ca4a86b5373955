"""Windows of a stream: the steps since its last update, as they were taken, and what is learnt from after they ended.

Dimensions: T steps of a window, B rows, b rows of a replay, S slots, I input size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor

from sab_agents.core.state import State
from sab_agents.kernels import Replay


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

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Resumes from what `state_dict` returned."""
        self.tensors = {name: tensor.clone() for name, tensor in state_dict.items()}
        self.steps = self._room = max((len(tensor) for tensor in state_dict.values()), default=0)


class Credit(NamedTuple):
    """The gradient that was passed on to the steps before a window.

    Attributes:
        norm: (B, S) sum of the norms of the gradients that reached each slot, at any depth; S is 0 without slots.
        pieces: how many pieces were replayed.
        dropped: how many links that carried gradient led to memories no longer held.
    """

    norm: Tensor
    pieces: int
    dropped: int


class ClosedWindow(ABC):
    """A window that has ended, from which any rows can be learnt, at any later time and more than once.

        replay = closed.replay(rows)             # with today's weights
        replay.backward(gradient)                # of the outputs
        closed.credit()                          # to what lies before the window

    Attributes:
        before: the state before the window.
    """

    before: State

    @property
    @abstractmethod
    def observation(self) -> Tensor:
        """(T, B, …) what was observed."""

    @property
    def rows(self) -> int:
        """B."""
        return self.before.batch_size

    @classmethod
    @abstractmethod
    def joined(cls, windows: Sequence[Self]) -> Self:
        """Returns windows of one stream and of equal length as one: the rows of the first, of the second, …."""

    @abstractmethod
    def cut_every(self, bptt_steps: int | None) -> None:
        """Sets where plain backpropagation is cut inside the window; what lies before it is credited as before.

        Args:
            bptt_steps: steps of an episode between two cuts; None cuts at an episode's start alone.

        Raises:
            ValueError: the core cuts by a setting of its own, and `bptt_steps` is not None.
        """

    @abstractmethod
    def replay(self, rows: Tensor, x: Tensor | None = None) -> Replay:
        """Computes some rows once more with today's weights.

        Args:
            rows: (b,) int64.
            x: (T, b, I) inputs, if the caller has encoded the observations; their gradient is left in `x.grad` if x
                requires it. None encodes the observations, and credits the encoder.
        """

    @abstractmethod
    def credit(self) -> Credit:
        """Passes the gradient that the last replay sent to what lies before the window on.

        Raises:
            RuntimeError: there was no replay since the last time.
        """

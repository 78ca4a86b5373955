"""The steps since a learner last learnt, as they were taken.

Dimensions: T steps, B rows, S slots, R slots that a step touches, H hidden size.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor

from sab_agents.core.state import SABState, State
from sab_agents.kernels import Replay, Run, StreamStep, WindowRecord, gradient_like


class PlainStep(NamedTuple):
    """One step of a core without slots that was computed and not yet taken.

    Attributes:
        observation: (B, …).
        start: (B,) bool, episode starts.
        output: (B, …) of the core.
        state: after it.
    """

    observation: Tensor
    start: Tensor
    output: Tensor
    state: State


class Step(NamedTuple):
    """One step that was computed and not yet taken.

    Attributes:
        observation: (B, …).
        start: (B,) bool, episode starts, or None for none.
        found: what the network computed.
    """

    observation: Tensor
    start: Tensor | None
    found: StreamStep

    @property
    def output(self) -> Tensor:
        """(B, 2H) [h, s]."""
        return self.found.output


def without_graph(run: Run, outputs: Tensor, memory: Tensor) -> Replay:
    """A run of the native kernel; the gradient of the memory before it, (B, S, H), is left there if it is required."""

    def backward(gradient: Tensor) -> None:
        received = torch.empty_like(memory, requires_grad=False) if memory.requires_grad else None
        rows, width = gradient_like(outputs, gradient), gradient.shape[2]
        first = rows.data_ptr()
        run.backward(first, first + width // 2 * rows.element_size(), width, received)
        memory.grad = received

    return Replay(outputs, backward)


def written(state: SABState, h: Tensor, c: Tensor, step: Tensor, write_slot: Tensor) -> SABState:
    """The state after a step that left h and c, with h (B, H) in the slots (B,) written, −1 for none."""
    at = write_slot.unsqueeze(1) == torch.arange(state.slots, device=step.device)
    return SABState(
        h=h,
        c=c,
        memory=torch.where(at.unsqueeze(2), h.unsqueeze(1), state.memory),
        filled=state.filled | at,
        written_at=torch.where(at, (step - 1).unsqueeze(1), state.written_at),
        step=step,
    )


class Window:
    """Tensors (B, …) recorded at each step under fixed names, in tensors (T, B, …) that grow as steps come."""

    def __init__(self) -> None:
        self.steps = 0
        self.tensors: dict[str, Tensor] = {}
        self._record: tuple[dict[str, Tensor], WindowRecord] | None = None
        self._room = 0

    def append(self, **tensors: Tensor) -> None:
        """Records one step; the tensors are copied."""
        self.make_room(tensors)
        for name, tensor in tensors.items():
            self.tensors[name][self.steps] = tensor
        self.steps += 1

    def make_room(self, like: dict[str, Tensor]) -> None:
        """Makes sure that one more step like these tensors (B, …) fits in."""
        if not self.full:
            return
        if not self.tensors:
            self.tensors = {name: tensor.new_empty(1, *tensor.shape) for name, tensor in like.items()}
        else:
            self.tensors = {name: torch.cat([held, torch.empty_like(held)]) for name, held in self.tensors.items()}
        self._room = max(1, 2 * self._room)

    @property
    def room(self) -> int:
        """Steps that can still be recorded without making room."""
        return self._room - self.steps

    @property
    def full(self) -> bool:
        """Whether the next step needs room to be made."""
        return self.steps == self._room

    def record(self) -> WindowRecord:
        """The tensors themselves, with the room that is left in them; the same object as long as they are the same."""
        if self._record is None or self._record[0] is not self.tensors:
            self._record = self.tensors, WindowRecord(**self.tensors)
        return self._record[1]

    def stacked(self, name: str) -> Tensor:
        """All steps of one name, (T, B, …)."""
        return self.tensors[name][: self.steps]

    def clear(self) -> None:
        """Begins a window in the tensors of the last one."""
        self.steps = 0

    def state_dict(self) -> dict[str, Tensor]:
        """Every recorded name with all its steps; empty before the first."""
        return {name: self.stacked(name) for name in self.tensors if self.steps}

    @classmethod
    def from_state_dict(cls, saved: dict[str, Tensor]) -> Self:
        """The window that `state_dict` was taken of."""
        window = cls()
        window.tensors = {name: tensor.clone() for name, tensor in saved.items()}
        window.steps = window._room = max((len(tensor) for tensor in saved.values()), default=0)
        return window

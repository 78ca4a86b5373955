"""The steps since a learner last learnt, as they were taken.

Dimensions: T steps, B rows, S slots, H hidden size.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor

from sab_agents.core.state import SABState, State
from sab_agents.kernels import ScanOutputs


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
        start: (B,) bool, episode starts.
        before: the state before it, emptied where an episode starts.
        outputs: of a scan of one step.
    """

    observation: Tensor
    start: Tensor
    before: SABState
    outputs: ScanOutputs

    @property
    def output(self) -> Tensor:
        """(B, 2H) [h, s]."""
        return torch.cat([self.outputs.h[0], self.outputs.summary[0]], dim=1)


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

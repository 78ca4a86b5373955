"""The targets of a stream's open window, step by step.

Dimensions: T steps of the window, B rows, C numbers in one output, n outputs that have a target.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sab_agents.online.targets import Targets


class Labels(NamedTuple):
    """Targets of one step: (B,) or (B, C), and which rows have one, (B,) bool, None for all."""

    target: npt.NDArray[Any]
    mask: npt.NDArray[np.bool_] | None


class WindowLabels:
    """What each step of the window has to be learnt from.

    Args:
        targets: the kind of prediction.
        rows: B.
    """

    def __init__(self, targets: Targets, rows: int) -> None:
        self.targets = targets
        self.rows = rows
        self.steps: list[Labels | None] = []

    def checked(self, y: Any, mask: Any, name: str) -> Labels:
        """Targets of one step; the arguments as in `OnlineLearner.learn_many`.

        Raises:
            ValueError: a shape does not fit, or a target is out of range or not finite.
        """
        given = np.asarray(y)
        if given.shape[:1] != (self.rows,):
            raise ValueError(
                f"{name}: y must have one entry for each of the {self.rows} row(s), but has shape {given.shape}."
            )
        if mask is None:
            return Labels(self.targets.checked(given, self.rows, name), None)
        rows = np.array(mask)
        if rows.dtype != np.bool_ or rows.shape != (self.rows,):
            raise ValueError(
                f"{name}: mask must be bool of shape ({self.rows},), but is {rows.dtype} of shape {rows.shape}."
            )
        found = self.targets.checked(given[rows], int(rows.sum()), name)
        target = np.zeros((self.rows, *found.shape[1:]), dtype=found.dtype)
        target[rows] = found
        return Labels(target, rows)

    @property
    def last(self) -> int | None:
        """The last step that has a target, from 0; None where none has."""
        return next((t for t in reversed(range(len(self.steps))) if self.steps[t] is not None), None)

    def picked(self) -> tuple[Tensor | None, Tensor]:
        """Which of the T·B outputs, by steps, then rows, have a target, (n,) int64, None for all; and these targets.

        Targets are (n,) or (n, C), all on the CPU.
        """
        there = [labels for labels in self.steps if labels is not None]
        target = np.concatenate([labels.target for labels in there])
        if len(there) == len(self.steps) and all(labels.mask is None for labels in there):
            return None, torch.from_numpy(target)
        mask = np.zeros((len(self.steps), self.rows), dtype=np.bool_)
        for step, labels in enumerate(self.steps):
            if labels is not None:
                mask[step] = True if labels.mask is None else labels.mask
        there_of_all = mask[[labels is not None for labels in self.steps]].ravel()
        return torch.from_numpy(np.flatnonzero(mask)), torch.from_numpy(target[there_of_all])

    def clear(self) -> None:
        """Begins a window."""
        self.steps = []

    def state_dict(self) -> dict[str, Tensor]:
        """What `load_state_dict` needs beside the number of steps."""
        found: dict[str, Tensor] = {}
        for step, labels in enumerate(self.steps):
            if labels is not None:
                mask = np.ones(self.rows, dtype=np.bool_) if labels.mask is None else labels.mask
                found |= {f"{step}.target": torch.from_numpy(labels.target), f"{step}.mask": torch.from_numpy(mask)}
        return found

    def load_state_dict(self, steps: int, saved: dict[str, Tensor]) -> None:
        """Goes on where `state_dict` was taken, in a window of so many steps."""
        self.steps = [
            Labels(saved[f"{step}.target"].numpy(), saved[f"{step}.mask"].numpy()) if f"{step}.mask" in saved else None
            for step in range(steps)
        ]

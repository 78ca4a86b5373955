"""What an online learner predicts: targets, the labels of a window, and the linear head with its loss.

Dimensions: T steps of a window, B rows, F features of a core's output, C outputs of the head, n outputs with a target.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sab_agents.core.base import leaves_of, recompute_weights
from sab_agents.kernels.agent import head_gradient

LossName = Literal["cross_entropy", "binary_cross_entropy", "squared_error"]
LOSSES: tuple[LossName, ...] = get_args(LossName)


class Targets:
    """One kind of prediction: how targets are checked and how predictions are read off the head's outputs.

    Args:
        loss: "cross_entropy" for one of C classes 0 … C − 1; "binary_cross_entropy" for C labels that are on or off;
            "squared_error" for C real values.
        size: C.

    Raises:
        ValueError: the loss is unknown, or the size is too small for it.
    """

    def __init__(self, loss: LossName, size: int) -> None:
        if loss not in LOSSES:
            raise ValueError(f"OnlineLearner: loss must be one of {', '.join(map(repr, LOSSES))}, but is {loss!r}.")
        if loss == "cross_entropy" and size < 2:
            raise ValueError(
                f"OnlineLearner: cross_entropy needs an output_size of at least 2 classes, but got {size}."
            )
        self.loss: LossName = loss
        self.size = size

    def checked(self, y: Any, rows: int, name: str) -> npt.NDArray[Any]:
        """Returns targets of all rows as an array: (B,) int64 classes, or (B, C) float32.

        Args:
            y: targets in any form that `numpy.asarray` takes.
            rows: B.
            name: of the caller, for errors.

        Raises:
            ValueError: the shape does not fit, or a target is out of range or not finite.
        """
        array = np.asarray(y)
        if self.loss == "cross_entropy":
            return self._checked_classes(array, rows, name)
        if array.shape == (rows,) and self.size == 1:
            array = array[:, None]
        if array.shape != (rows, self.size) or (not np.issubdtype(array.dtype, np.number) and array.dtype != np.bool_):
            raise ValueError(
                f"{name}: y must be numbers of shape ({rows}, {self.size}), "
                f"but is {array.dtype} of shape {array.shape}."
            )
        values = array.astype(np.float32)
        if not np.isfinite(values).all():
            raise ValueError(
                f"{name}: y must be finite, but holds NaN or infinity. Pass None to learn nothing from it."
            )
        if self.loss == "binary_cross_entropy" and not np.isin(values, (0, 1)).all():
            raise ValueError(f"{name}: y must be 0 or 1 for binary_cross_entropy, but holds {values.max()}.")
        return values

    def _checked_classes(self, array: npt.NDArray[Any], rows: int, name: str) -> npt.NDArray[np.int64]:
        if array.shape != (rows,) or array.dtype.kind not in "iu":
            raise ValueError(
                f"{name}: y must be {rows} whole number(s), one class for each row, "
                f"but is {array.dtype} of shape {array.shape}."
            )
        classes = array.astype(np.int64)
        values = classes.tolist()
        if rows and not (min(values) >= 0 and max(values) < self.size):
            raise ValueError(
                f"{name}: y must lie in 0 … {self.size - 1} (output_size = {self.size}), "
                f"but holds {array.min() if array.min() < 0 else array.max()}."
            )
        return classes

    def prediction(self, output: Tensor) -> npt.NDArray[Any]:
        """Returns (B,) classes, or (B, C) labels (bool) or values, of outputs (B, C)."""
        if self.loss == "cross_entropy":
            predicted = output.argmax(dim=1)
        else:
            predicted = output > 0 if self.loss == "binary_cross_entropy" else output
        array: npt.NDArray[Any] = predicted.cpu().numpy()
        return array

    def probabilities(self, output: Tensor) -> npt.NDArray[Any]:
        """Returns (B, C) probabilities of outputs (B, C).

        Raises:
            ValueError: the loss is "squared_error", whose values have none.
        """
        if self.loss == "squared_error":
            raise ValueError("OnlineLearner: a learner of squared_error predicts numbers, which have no probabilities.")
        predicted = torch.softmax(output, dim=1) if self.loss == "cross_entropy" else torch.sigmoid(output)
        array: npt.NDArray[Any] = predicted.cpu().numpy()
        return array


class Labels(NamedTuple):
    """Targets of one step.

    Attributes:
        target: (B,) classes or (B, C).
        mask: (B,) bool, rows that have a target, at least one; None for all.
    """

    target: npt.NDArray[Any]
    mask: npt.NDArray[np.bool_] | None


class WindowLabels:
    """The labels of each step of a stream's open window.

    Args:
        targets: the kind of prediction.
        rows: B.

    Attributes:
        steps: for each step its labels, None if no row has a target.
    """

    def __init__(self, targets: Targets, rows: int) -> None:
        self.targets = targets
        self.rows = rows
        self.steps: list[Labels | None] = []

    def checked(self, y: Any, mask: Any, name: str) -> Labels | None:
        """Returns the labels of one step, None if the mask marks no row.

        Args:
            y: as in `OnlineLearner.learn_many`.
            mask: as there.
            name: of the caller, for errors.

        Raises:
            ValueError: a shape does not fit, or a target is out of range or not finite.
        """
        array = np.asarray(y)
        if array.shape[:1] != (self.rows,):
            raise ValueError(
                f"{name}: y must have one entry for each of the {self.rows} row(s), but has shape {array.shape}."
            )
        if mask is None:
            return Labels(self.targets.checked(array, self.rows, name), None)
        rows = np.array(mask)
        if rows.dtype != np.bool_ or rows.shape != (self.rows,):
            raise ValueError(
                f"{name}: mask must be bool of shape ({self.rows},), but is {rows.dtype} of shape {rows.shape}."
            )
        marked = self.targets.checked(array[rows], int(rows.sum()), name)
        if not rows.any():
            return None
        target = np.zeros((self.rows, *marked.shape[1:]), dtype=marked.dtype)
        target[rows] = marked
        return Labels(target, rows)

    @property
    def last(self) -> int | None:
        """The last step that has a target, from 0; None if none has."""
        return next((t for t in reversed(range(len(self.steps))) if self.steps[t] is not None), None)

    def selected(self) -> tuple[Tensor | None, Tensor]:
        """Returns which of the T·B outputs, by steps, then rows, have a target, and these targets, all on the CPU.

        Returns:
            (n,) int64 places, None for all; and targets (n,) or (n, C).
        """
        labelled = [labels for labels in self.steps if labels is not None]
        target = np.concatenate([labels.target for labels in labelled])
        if len(labelled) == len(self.steps) and all(labels.mask is None for labels in labelled):
            return None, torch.from_numpy(target)
        mask = np.zeros((len(self.steps), self.rows), dtype=np.bool_)
        for step, labels in enumerate(self.steps):
            if labels is not None:
                mask[step] = True if labels.mask is None else labels.mask
        marked = mask[[labels is not None for labels in self.steps]].ravel()
        return torch.from_numpy(np.flatnonzero(mask)), torch.from_numpy(target[marked])

    def clear(self) -> None:
        """Begins a window."""
        self.steps = []

    def state_dict(self) -> dict[str, Any]:
        """Returns the number of steps, and target and mask of each step that has labels."""
        state: dict[str, Any] = {"steps": len(self.steps)}
        for step, labels in enumerate(self.steps):
            if labels is not None:
                mask = np.ones(self.rows, dtype=np.bool_) if labels.mask is None else labels.mask
                state |= {f"{step}.target": torch.from_numpy(labels.target), f"{step}.mask": torch.from_numpy(mask)}
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resumes from what `state_dict` returned."""
        self.steps = [None] * state_dict["steps"]
        for step in range(len(self.steps)):
            mask = state_dict.get(f"{step}.mask")
            if mask is not None and bool(mask.any()):
                self.steps[step] = Labels(state_dict[f"{step}.target"].numpy(), mask.numpy())


class Head(nn.Linear):
    """The linear layer between a core's outputs and the predictions; it learns without a graph.

    Args:
        input_size: F.
        targets: what is predicted.
    """

    def __init__(self, input_size: int, targets: Targets) -> None:
        super().__init__(input_size, targets.size)
        self.targets = targets

    @torch.no_grad()
    def predicted(self, output: Tensor) -> Tensor:
        """Returns outputs (B, C) for a core's outputs (B, F)."""
        return self.forward(output)

    @torch.no_grad()
    def answered(self, outputs: Tensor, labels: WindowLabels) -> tuple[Tensor, Tensor]:
        """Returns what a core's outputs (T, B, F) give where a window has targets, (n, C), and these, on the CPU."""
        place, target = labels.selected()
        flat = outputs.flatten(0, 1)
        return self.predicted(flat if place is None else flat[place.to(flat.device)]), target

    def gradient(self, outputs: Tensor, labels: WindowLabels) -> Tensor:
        """Adds the gradient of the mean loss of a window to the head's; returns that of a core's outputs (T, B, F)."""
        place, target = labels.selected()
        recompute_weights(self)
        with leaves_of((self.weight, self.bias)) as (weight, bias):
            return head_gradient(self.targets.loss, weight, bias, outputs, place, target)

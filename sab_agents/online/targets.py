"""What an online learner predicts: how targets are checked, learnt and read off the network's output.

Dimensions: B rows, C numbers in one output of the network.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

LossName = Literal["cross_entropy", "binary_cross_entropy", "squared_error"]
LOSSES: tuple[LossName, ...] = get_args(LossName)


class Targets:
    """One kind of prediction.

    Args:
        loss: "cross_entropy" for one of C classes 0 … C − 1; "binary_cross_entropy" for C labels that are on or off;
            "squared_error" for C real numbers.
        size: C.

    Raises:
        ValueError: the loss is unknown, or too small a size.
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
        """Targets of all rows as an array: (B,) int64 classes, or (B, C) float32.

        Raises:
            ValueError: the shape does not fit, or a target is out of range or not finite.
        """
        given = np.asarray(y)
        if self.loss == "cross_entropy":
            if given.shape != (rows,) or given.dtype.kind not in "iu":
                raise ValueError(
                    f"{name}: y must be {rows} whole number(s), one class for each row, "
                    f"but is {given.dtype} of shape {given.shape}."
                )
            found = given.astype(np.int64)
            classes = found.tolist()
            if rows and not (min(classes) >= 0 and max(classes) < self.size):
                raise ValueError(
                    f"{name}: y must lie in 0 … {self.size - 1} (output_size = {self.size}), "
                    f"but holds {given.min() if given.min() < 0 else given.max()}."
                )
            return found
        if given.shape == (rows,) and self.size == 1:
            given = given[:, None]
        if given.shape != (rows, self.size) or (not np.issubdtype(given.dtype, np.number) and given.dtype != np.bool_):
            raise ValueError(
                f"{name}: y must be numbers of shape ({rows}, {self.size}), "
                f"but is {given.dtype} of shape {given.shape}."
            )
        values = given.astype(np.float32)
        if not np.isfinite(values).all():
            raise ValueError(
                f"{name}: y must be finite, but holds NaN or infinity. Pass None to learn nothing from it."
            )
        if self.loss == "binary_cross_entropy" and not np.isin(values, (0, 1)).all():
            raise ValueError(f"{name}: y must be 0 or 1 for binary_cross_entropy, but holds {values.max()}.")
        return values

    def gradient(self, output: Tensor, target: Tensor) -> Tensor:
        """The gradient (n, C) of the mean loss of n labelled outputs (n, C) with respect to them."""
        if self.loss == "cross_entropy":
            off = torch.softmax(output, dim=1)
            off.scatter_(1, target.unsqueeze(1), -1, reduce="add")
            return off.div_(len(output))
        scale = 2 if self.loss == "squared_error" else 1
        guess = output if self.loss == "squared_error" else torch.sigmoid(output)
        return (guess - target) * (scale / output.numel())

    def prediction(self, output: Tensor) -> npt.NDArray[Any]:
        """(B,) classes, or (B, C) labels (bool) or numbers, of outputs (B, C)."""
        if self.loss == "cross_entropy":
            found = output.argmax(dim=1)
        else:
            found = output > 0 if self.loss == "binary_cross_entropy" else output
        array: npt.NDArray[Any] = found.cpu().numpy()
        return array

    def probabilities(self, output: Tensor) -> npt.NDArray[Any]:
        """(B, C) of outputs (B, C).

        Raises:
            ValueError: numbers have none.
        """
        if self.loss == "squared_error":
            raise ValueError("OnlineLearner: a learner of squared_error predicts numbers, which have no probabilities.")
        found = torch.softmax(output, dim=1) if self.loss == "cross_entropy" else torch.sigmoid(output)
        array: npt.NDArray[Any] = found.cpu().numpy()
        return array

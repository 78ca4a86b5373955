"""What callers of an online learner give it, as tensors.

Dimensions: B rows (parallel streams).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class Inputs:
    """The form of a learner's inputs.

    Args:
        rows: B.
        shape: of one input.

    Attributes:
        names: of the numbers in a mapping, in the order of the first; None before one came.
    """

    def __init__(self, rows: int, shape: tuple[int, ...]) -> None:
        self.rows, self.shape = rows, (rows, *shape)
        self.names: list[str] | None = None

    def tensor(self, name: str, x: Any, like: Tensor) -> Tensor:
        """The caller's numbers, copied: they may change before the step is taken. The stream checks them.

        Raises:
            ValueError: they have another shape; `name` is the method that was called.
        """
        given = x.detach().clone() if isinstance(x, Tensor) else torch.from_numpy(np.array(x, dtype=np.float32))
        if given.shape != self.shape:
            raise ValueError(
                f"OnlineLearner.{name}: x must have shape {self.shape}, one row for each of the {self.rows} "
                f"stream(s), but has {tuple(given.shape)}. Rows and size are fixed when the learner is made."
            )
        return given.to(device=like.device, dtype=like.dtype)

    def one(self, name: str, x: Any) -> Any:
        """The input of a single stream with its row's axis; a mapping as the list of its values.

        Raises:
            ValueError: the learner has more rows, or the mapping has other names than the first.
        """
        if self.rows != 1:
            raise ValueError(
                f"OnlineLearner.{name}: needs a learner of 1 row, but this one has {self.rows}. "
                f"Use {name.replace('one', 'many')}."
            )
        if isinstance(x, Mapping):
            names = self.names or sorted(x)
            if set(names) != set(x):
                raise ValueError(f"OnlineLearner.{name}: x must have the names {names}, but has {sorted(x)}.")
            self.names = names
            return [[x[key] for key in names]]
        return x.unsqueeze(0) if isinstance(x, Tensor) else np.asarray(x, dtype=np.float32)[None]


def flag(episode_start: bool) -> npt.NDArray[np.bool_] | None:
    """An episode's start in a single stream, as its row's; None for none."""
    return np.array([True]) if episode_start else None

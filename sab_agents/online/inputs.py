"""Inputs of an online learner: as tensors, and kept until several steps can be taken at once.

Dimensions: B rows (parallel streams), n steps that wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sab_agents.checks import all_finite
from sab_agents.streaming import Stream


class Inputs:
    """The form of a learner's inputs.

    Args:
        rows: B.
        shape: of one input.

    Attributes:
        names: of the features in a mapping, sorted; None before the first step that was taken from one.
    """

    def __init__(self, rows: int, shape: tuple[int, ...]) -> None:
        self.rows, self.shape = rows, (rows, *shape)
        self.names: list[str] | None = None
        self._pending: list[str] | None = None  # of the last mapping, until `accept`

    def tensor(self, name: str, x: Any, like: Tensor) -> Tensor:
        """Returns a copy of x as a tensor (B, …): the caller's may change before the step is taken.

        Args:
            name: of the method that was called, for errors.
            x: any form of input.
            like: a tensor of the dtype and device to return.

        Raises:
            ValueError: x has another shape. The stream checks that it is finite.
        """
        copied = x.detach().clone() if isinstance(x, Tensor) else torch.from_numpy(numbers(name, x))
        if copied.is_complex():
            raise ValueError(f"OnlineLearner.{name}: x must be real numbers, but is {copied.dtype}. Pass its parts.")
        if copied.shape != self.shape:
            raise ValueError(
                f"OnlineLearner.{name}: x must have shape {self.shape}, one row for each of the {self.rows} "
                f"stream(s), but has {tuple(copied.shape)}. Rows and size are fixed when the learner is made."
            )
        if copied.dtype is like.dtype and copied.device == like.device:
            return copied
        return copied.to(device=like.device, dtype=like.dtype)

    def one(self, name: str, x: Any) -> Any:
        """Returns the input of a single stream with an axis for its row; of a mapping, its values sorted by name.

        Raises:
            ValueError: the learner has more rows, or the mapping has other names than the first that was accepted.
        """
        if self.rows != 1:
            raise ValueError(
                f"OnlineLearner.{name}: needs a learner of 1 row, but this one has {self.rows}. "
                f"Use {name.replace('one', 'many')}."
            )
        self._pending = None
        if isinstance(x, Mapping):
            if not all(isinstance(key, str) for key in x):
                raise ValueError(f"OnlineLearner.{name}: the names of a mapping must be strings, but are {[*x]}.")
            names = self._pending = self.names or sorted(x)
            if set(names) != set(x):
                raise ValueError(f"OnlineLearner.{name}: x must have the names {names}, but has {sorted(x)}.")
            return numbers(name, [[x[key] for key in names]])
        return x.unsqueeze(0) if isinstance(x, Tensor) else numbers(name, x)[None]

    def start(self, name: str, episode_start: Any) -> Tensor:
        """Returns episode starts (B,) bool as a tensor.

        Raises:
            ValueError: they are not B flags.
        """
        array = np.asarray(episode_start)
        if array.dtype != np.bool_ or array.shape != self.shape[:1]:
            raise ValueError(
                f"OnlineLearner.{name}: episode_start must be bool of shape {self.shape[:1]}, but is {array.dtype} of "
                f"shape {array.shape}."
            )
        return torch.from_numpy(array)

    def accept(self) -> None:
        """Fixes the names of later mappings as those that `one` read last, after the rest of its step was checked."""
        if self._pending is not None:
            self.names = self._pending


def numbers(name: str, x: Any) -> npt.NDArray[np.float32]:
    """Returns a copy of x as float32; what is too large for that becomes infinite, which others refuse.

    Args:
        name: of the method of a learner, for errors.
        x: whatever `numpy.array` takes.

    Raises:
        ValueError: x is anything but real numbers.
    """
    if type(x) is np.ndarray and x.dtype == np.float32:
        return x.copy()
    try:
        with np.errstate(over="ignore"):
            return np.array(x, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"OnlineLearner.{name}: x must be real numbers, or with the methods for one row also a mapping from names "
            f"to them, but is {x!r:.100} ({error})."
        ) from error


def flag(episode_start: bool) -> npt.NDArray[np.bool_] | None:
    """Returns a single stream's episode start as its row's, (1,) bool; None for none."""
    return np.array([True]) if episode_start else None


class WaitingSteps:
    """Steps whose outputs nobody has asked for yet: a stream takes several at once faster than one by one.

    Args:
        stream: that takes them in the end; float32 on the CPU.
        most: how many may wait.
    """

    def __init__(self, stream: Stream, most: int) -> None:
        self._stream = stream
        self._x = np.zeros((most, stream.rows, *stream.observation_shape), dtype=np.float32)
        self._start = np.zeros((most, stream.rows), dtype=np.bool_)
        self._any_start = False  # whether any was ever put into `_start`
        self._count = 0

    def add(self, x: npt.NDArray[np.float32], start: npt.NDArray[Any] | None) -> bool:
        """Appends a step x (B, …); returns False, and appends nothing, if the stream has to raise an error for it."""
        if x.shape != self._x.shape[1:] or not all_finite(x):
            return False
        if start is None:
            if self._any_start:
                self._start[self._count] = False
        elif start.dtype == np.bool_ and start.shape == self._start.shape[1:]:
            self._start[self._count] = start
            self._any_start = True
        else:
            return False
        self._x[self._count] = x
        self._count += 1
        return True

    def take(self) -> None:
        """Lets the stream take them."""
        count, self._count = self._count, 0
        if count:
            like = self._stream.core.like  # which may have been converted since the steps were added
            x, start = (torch.from_numpy(each[:count]).to(like.device) for each in (self._x, self._start))
            self._stream.take_steps(x.to(like.dtype), start)

    def clear(self) -> None:
        """Drops them."""
        self._count = 0

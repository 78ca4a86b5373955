"""Features of any names as columns of an array, each brought to one scale; columns are added as names appear.

Dimensions: I columns.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence, Set
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sab_agents.kernels import ScaleState, scale_kernel

LARGEST = float(np.finfo(np.float32).max)
_PLAIN = frozenset({float, int, bool})


def real_number(name: str, what: str, value: Any) -> float:
    """Returns a value as a float.

    Args:
        name: of the method that was called, for errors.
        what: the value is.
        value: a number of Python or NumPy, or a bool.

    Raises:
        ValueError: it is no number, or not finite in float32.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, int | float):
        raise ValueError(
            f"{name}: {what} must be a number, but is {value!r:.100}. Encode it first, for example by OneHotEncoder or "
            f"FuncTransformer of River, or leave it out, by Discard."
        )
    if not -LARGEST <= value <= LARGEST:
        raise ValueError(
            f"{name}: {what} must be finite, but is {value!r}. Pass None, or leave it out, if it is missing."
        )
    return float(value)


class Scale:
    """Running mean and standard deviation of one number.

    Source: Welford 1962.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self.squares = 0.0  # sum of squared distances from the mean

    @property
    def deviation(self) -> float:
        """The standard deviation; 1 if all values so far were equal."""
        return math.sqrt(self.squares / self.count) if self.squares > 0 else 1.0

    def update(self, value: float) -> None:
        """Counts a value."""
        self.count += 1
        difference = value - self.mean
        self.mean += difference / self.count
        self.squares += difference * (value - self.mean)

    def scaled(self, value: float) -> float:
        """Returns the distance from the mean in standard deviations, at most what float32 holds."""
        return max(-LARGEST, min(LARGEST, (value - self.mean) / self.deviation))

    def unscaled(self, value: float) -> float:
        """Returns the value whose `scaled` is this one."""
        return self.mean + self.deviation * value


class Columns:
    """Which column of an input each feature has.

    Args:
        standardise: whether a feature's running mean is subtracted and its running standard deviation divided by.

    Attributes:
        size: I.
    """

    def __init__(self, standardise: bool) -> None:
        self.standardise = standardise
        self.size = 0
        self._columns: dict[Hashable, int] = {}
        # Of each column; those that belong to no feature stay as they are.
        self._count = self._mean = self._squares = np.empty(0)
        self._deviation = np.empty(0)
        self._forget()

    def __getstate__(self) -> dict[str, Any]:
        """Returns what a copy is made of."""
        self._put_back()
        return {name: value for name, value in self.__dict__.items() if name not in ("_present", "_wide", "_laid")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Continues from what `__getstate__` returned."""
        self.__dict__.update(state)
        self._forget()

    def _forget(self) -> None:
        self._present, self._wide = _Present((), None, np.empty(0, np.int64), [np.empty(0)] * 4, 0), 0
        self._laid: Mapping[Hashable, float] | None = None  # what `out` and `values` of its state hold

    def checked(self, name: str, x: Any) -> dict[Hashable, float]:
        """Returns the features that are there, as floats.

        Args:
            name: of the method that was called, for errors.
            x: a mapping; None as a value is a feature that is missing.

        Raises:
            ValueError: x is no mapping, or a value is no finite number.
        """
        if type(x) is not dict and not isinstance(x, Mapping):  # the check of the abstract class takes its time
            raise ValueError(f"{name}: x must be a mapping from names to numbers, but is {x!r:.100}.")
        return {
            key: float(value)
            if type(value) in _PLAIN and -LARGEST <= value <= LARGEST
            else self._number(name, key, value)
            for key, value in x.items()
            if value is not None
        }

    @staticmethod
    def _number(name: str, key: Hashable, value: Any) -> float:
        return real_number(name, f"feature {key!r}", value)

    def add(self, names: Set[Hashable]) -> None:
        """Gives a column to each new name, in an order that does not depend on that of the names."""
        if self._columns.keys() >= names:
            return
        new = [name for name in names if name not in self._columns]
        for name in sorted(new, key=lambda name: (type(name).__name__, repr(name))):
            self._columns[name] = self.reserve()

    def reserve(self) -> int:
        """Returns a new column that belongs to no feature."""
        self._put_back()
        self._forget()
        zero = np.zeros(1)
        self._count, self._mean, self._squares = (
            np.concatenate([each, zero]) for each in (self._count, self._mean, self._squares)
        )
        self._deviation = np.concatenate([self._deviation, zero + 1])
        self.size += 1
        return self.size - 1

    def update(self, features: Mapping[Hashable, float]) -> None:
        """Counts the features of a step for their scales, by the recurrence of `Scale`; all have columns."""
        if self.standardise and features:
            present = self._present_of(features, self._wide)
            self._fill(present, features)
            present.kernel.update()
            present.changed, self._laid = True, None

    def laid_out(self, features: Mapping[Hashable, float], size: int) -> npt.NDArray[np.float32]:
        """Returns features as an input (size,); what is missing is 0, and a name without a column is left out."""
        present = self._present_of(features, size)
        if self._laid is None or self._laid != features:  # else what was just predicted is learnt
            self._fill(present, features)
            present.kernel.lay()
            self._laid = features
        return present.out.copy()

    def _fill(self, present: _Present, features: Mapping[Hashable, float]) -> None:
        if self._laid is not features:
            values = np.fromiter(features.values(), np.float64, len(features))
            present.values[:] = values if present.known is None else values[present.known]

    def _present_of(self, features: Mapping[Hashable, float], size: int) -> _Present:
        """Returns the scales of these features; mostly they are those of the last step."""
        names = tuple(features)
        if names != self._present.names or size != self._wide:
            self._put_back()
            columns = np.array([self._columns.get(name, -1) for name in names], dtype=np.int64)
            known = columns >= 0
            held = columns[known]
            scales = [each[held] for each in (self._count, self._mean, self._squares, self._deviation)]
            self._present = _Present(names, None if known.all() else known, held, scales, size)
            self._wide, self._laid = size, None
        return self._present

    def _put_back(self) -> None:
        """Writes the scales of the features that were present last to those of all columns."""
        present = self._present
        if present.changed:
            present.changed = False
            for whole, part in zip(
                (self._count, self._mean, self._squares, self._deviation), present.scales, strict=True
            ):
                whole[present.columns] = part


class _Present:
    """Scales of the features of a step, side by side: those of steps with the same features are changed in place.

    Attributes:
        names: of all features of the step.
        known: which of them have a column; None for all.
        columns: of those.
        scales: of those, as in `ScaleState`: how often each was seen, mean, squares and deviation.
        values: of those.
        out: where they are laid.
        kernel: that lays and counts them.
        changed: whether the scales of all columns are older.
    """

    def __init__(
        self,
        names: tuple[Hashable, ...],
        known: npt.NDArray[np.bool_] | None,
        columns: npt.NDArray[np.int64],
        scales: Sequence[npt.NDArray[np.float64]],
        size: int,
    ) -> None:
        self.names, self.known, self.columns, self.scales = names, known, columns, scales
        self.values, self.out = np.zeros(len(columns)), np.zeros(size, dtype=np.float32)
        seen, mean, squares, deviation = map(torch.from_numpy, scales)
        values, places, out = torch.from_numpy(self.values), torch.from_numpy(columns), torch.from_numpy(self.out)
        self.kernel = scale_kernel(ScaleState(values, seen, mean, squares, deviation, places, out))
        self.changed = False

"""Features of any names as columns of an array, each brought to one scale; columns are added as names appear.

Dimensions: I columns.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

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
        self._seen: tuple[tuple[Hashable, ...], npt.NDArray[np.intp]] = (), np.empty(0, dtype=np.intp)
        self._laid: tuple[Mapping[Hashable, float], npt.NDArray[np.float32]] | None = None

    def checked(self, name: str, x: Any) -> dict[Hashable, float]:
        """Returns the features that are there, as floats.

        Args:
            name: of the method that was called, for errors.
            x: a mapping; None as a value is a feature that is missing.

        Raises:
            ValueError: x is no mapping, or a value is no finite number.
        """
        if not isinstance(x, Mapping):
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

    def add(self, names: Iterable[Hashable]) -> None:
        """Gives a column to each new name, in an order that does not depend on that of the names."""
        new = [name for name in names if name not in self._columns]
        for name in sorted(new, key=lambda name: (type(name).__name__, repr(name))):
            self._columns[name] = self.reserve()

    def reserve(self) -> int:
        """Returns a new column that belongs to no feature."""
        zero = np.zeros(1)
        self._count, self._mean, self._squares = (
            np.concatenate([each, zero]) for each in (self._count, self._mean, self._squares)
        )
        self._deviation = np.concatenate([self._deviation, zero + 1])
        self._seen, self._laid = ((), np.empty(0, dtype=np.intp)), None
        self.size += 1
        return self.size - 1

    def update(self, features: Mapping[Hashable, float]) -> None:
        """Counts the features of a step for their scales, by the recurrence of `Scale`; all have columns."""
        if not self.standardise or not features:
            return
        columns, values = self._values(features)
        count = self._count[columns] + 1
        difference = values - self._mean[columns]
        mean = self._mean[columns] + difference / count
        squares = self._squares[columns] + difference * (values - mean)
        self._count[columns], self._mean[columns], self._squares[columns] = count, mean, squares
        self._deviation[columns] = np.sqrt(np.where(squares > 0, squares, count) / count)
        self._laid = None

    def laid_out(self, features: Mapping[Hashable, float], size: int) -> npt.NDArray[np.float32]:
        """Returns features as an input (size,); what is missing is 0, and a name without a column is left out."""
        if self._laid is not None and len(self._laid[1]) == size and self._laid[0] == features:
            return self._laid[1].copy()  # what was just predicted is learnt
        laid = np.zeros(size, dtype=np.float32)
        columns, values = self._values(features)
        if self.standardise:
            values = (values - self._mean[columns]) / self._deviation[columns]
            np.clip(values, -LARGEST, LARGEST, out=values)
        laid[columns] = values
        self._laid = dict(features), laid.copy()
        return laid

    def _values(self, features: Mapping[Hashable, float]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
        """Returns the columns of the features that have one, and their values."""
        names = tuple(features)
        if names != self._seen[0]:  # mostly they are those of the last step
            columns = [self._columns.get(name, -1) for name in names]
            self._seen = names, np.array(columns, dtype=np.intp)
        held = self._seen[1]
        values = np.fromiter(features.values(), np.float64, len(names))
        known = held >= 0
        return (held, values) if known.all() else (held[known], values[known])

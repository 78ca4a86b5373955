"""Checks of arguments: each error says the rule, the value received, and the remedy."""

from __future__ import annotations

import math


def at_least(owner: str, name: str, value: object, minimum: int) -> int:
    """Returns `value` where it is an int of at least `minimum`.

    Raises:
        TypeError: `value` is not an int.
        ValueError: `value` is below `minimum`.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{owner}: {name} must be an int of at least {minimum}, but is {value!r}.")
    if value < minimum:
        raise ValueError(f"{owner}: {name} must be at least {minimum}, but is {value}.")
    return value


def fraction(owner: str, name: str, value: object) -> None:
    """Raises ValueError unless `value` is a number from 0 to 1."""
    if not _is_number(value) or not 0 <= value <= 1:  # type: ignore[operator]
        raise ValueError(f"{owner}: {name} must be a number from 0 to 1, but is {value!r}.")


def above_zero(owner: str, name: str, value: object) -> None:
    """Raises ValueError unless `value` is a finite number above 0."""
    if not _is_number(value) or not 0 < value < math.inf:  # type: ignore[operator]
        raise ValueError(f"{owner}: {name} must be a number above 0, but is {value!r}.")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

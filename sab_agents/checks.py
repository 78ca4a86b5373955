"""Checks of arguments: each error says the rule, the value received, and the remedy."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable


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


def did_you_mean(word: str, valid: Iterable[str]) -> str:
    """Returns the remedy for an unknown `word`: the nearest valid word, or all of them if none is near."""
    valid = list(valid)
    nearest = difflib.get_close_matches(word, valid, n=1, cutoff=0.5)
    return f"Did you mean '{nearest[0]}'?" if nearest else f"Valid are: {', '.join(valid)}."

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


def nearest(word: object, known: Iterable[str]) -> str | None:
    """Returns the known word that is spelt most like `word`, or None if none is similar."""
    similar = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.5)
    return similar[0] if similar else None


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Returns the remedy for an unknown `word`: the nearest of the known words, or all of them if none is similar."""
    words = list(known)
    similar = nearest(word, words)
    return f"Valid are: {', '.join(words)}." if similar is None else f"Did you mean '{similar}'?"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

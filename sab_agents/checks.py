"""Checks of arguments: each error says the rule, the value received, and the remedy."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

FEW = 16
"""Numbers that Python computes with faster than numpy."""

Word = TypeVar("Word", bound=str)


def at_least(owner: str, name: str, value: object, minimum: int) -> int:
    """Returns `value` as an int if it is an integer of at least `minimum`; NumPy's integers are converted.

    Raises:
        TypeError: `value` is not an integer; a bool is not an integer here.
        ValueError: `value` is below `minimum`.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{owner}: {name} must be an int of at least {minimum}, but is {value!r}.")
    if value < minimum:
        raise ValueError(f"{owner}: {name} must be at least {minimum}, but is {value}.")
    return int(value)


def int_between(owner: str, name: str, value: object, minimum: int, maximum: int) -> int:
    """Returns `value` as an int if it is an integer from `minimum` to `maximum`; NumPy's integers are converted.

    Raises:
        TypeError: `value` is not an integer; a bool is not an integer here.
        ValueError: `value` is outside the range.
    """
    rule = f"{owner}: {name} must be an int from {minimum} to {maximum}, but is"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{rule} {value!r} ({type(value).__name__}). Pass an int.")
    if not minimum <= value <= maximum:
        raise ValueError(f"{rule} {value}. Pass an int in this range.")
    return int(value)


def float_between(owner: str, name: str, value: object, minimum: float, maximum: float) -> float:
    """Returns `value` as a float if it is a number from `minimum` to `maximum`; ints and NumPy's numbers are converted.

    Raises:
        TypeError: `value` is not a real number; a bool is not a number here.
        ValueError: `value` is outside the range or NaN.
    """
    rule = f"{owner}: {name} must be a number from {minimum} to {maximum}, but is"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{rule} {value!r} ({type(value).__name__}). Pass a float.")
    if not minimum <= value <= maximum:
        raise ValueError(f"{rule} {value}. Pass a float in this range.")
    return float(value)


def fraction(owner: str, name: str, value: object) -> None:
    """Raises ValueError unless `value` is a number from 0 to 1."""
    if not is_number(value) or not 0 <= value <= 1:  # type: ignore[operator]
        raise ValueError(f"{owner}: {name} must be a number from 0 to 1, but is {value!r}.")


def above_zero(owner: str, name: str, value: object) -> None:
    """Raises ValueError unless `value` is a finite number above 0."""
    if not is_number(value) or not 0 < value < math.inf:  # type: ignore[operator]
        raise ValueError(f"{owner}: {name} must be a number above 0, but is {value!r}.")


def zero_or_above(owner: str, name: str, value: object) -> None:
    """Raises ValueError unless `value` is a finite number of at least 0."""
    if not is_number(value) or not 0 <= value < math.inf:  # type: ignore[operator]
        raise ValueError(f"{owner}: {name} must be a number of at least 0, but is {value!r}.")


def one_of(owner: str, name: str, value: object, valid: Iterable[Word]) -> Word:
    """Returns the valid word that `value` equals.

    Raises:
        ValueError: `value` is not one of the valid words.
    """
    words = list(valid)
    if not isinstance(value, str) or value not in words:
        rule = f"{owner}: {name} must be one of {', '.join(words)}, but is {value!r}."
        near = nearest(value, words)
        raise ValueError(f"{rule} Did you mean '{near}'?" if near else rule)
    return words[words.index(value)]


def known_arguments(owner: type, arguments: Mapping[str, Any]) -> None:
    """Checks that the constructor of `owner` has a parameter for each of the arguments.

    Raises:
        TypeError: the constructor has no parameter of that name.
    """
    names = list(inspect.signature(owner).parameters)
    for name in arguments:
        if name not in names:
            remedy = did_you_mean(name, names) if names else "It takes none."
            raise TypeError(f"{owner.__name__} has no argument {name!r}. {remedy}")


def plain(value: Any) -> Any:
    """Returns a setting with Python's numbers in place of NumPy's, also inside dicts, lists and tuples."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) is dict:
        return {key: plain(item) for key, item in value.items()}
    return type(value)(map(plain, value)) if type(value) in (list, tuple) else value


def nearest(word: object, valid: Iterable[str]) -> str | None:
    """Returns the valid word whose spelling is closest to `word`, or None if none is close."""
    matches = difflib.get_close_matches(str(word), list(valid), n=1, cutoff=0.5)
    return matches[0] if matches else None


def did_you_mean(word: object, valid: Iterable[str]) -> str:
    """Returns the remedy for an unknown `word`: the nearest of the valid words, or all of them if none is close."""
    words = list(valid)
    near = nearest(word, words)
    return f"Did you mean '{near}'?" if near else f"Valid are: {', '.join(words)}."


def is_number(value: object) -> bool:
    """Returns whether `value` is a real number, NumPy's included; a bool is none here."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def all_finite(x: npt.NDArray[Any]) -> bool:
    """Returns whether x holds neither NaN nor infinity; Python checks a few numbers faster than numpy."""
    return all(map(math.isfinite, x.ravel().tolist())) if x.size <= FEW else bool(np.isfinite(x).all())

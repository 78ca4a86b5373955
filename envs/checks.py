"""Checks of the environments' arguments, whose messages say the rule, the value received and what to do."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

LONGEST = 1_000_000
"""The most steps that an argument may ask for: an episode's random numbers are drawn, and held, when it begins."""


def whole(owner: str, setting: str, value: object, minimum: int = 1, maximum: int = LONGEST) -> int:
    """Returns the value as an int; any of numpy's integers will do, a bool will not.

    Raises:
        TypeError: the value is no integer.
        ValueError: the value is below the minimum or above the maximum.
    """
    rule = f"{owner}: {setting} must be an int from {minimum} to {maximum}, but is"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{rule} {value!r} ({type(value).__name__}). Pass a whole number.")
    if not minimum <= value <= maximum:
        raise ValueError(f"{rule} {value}. Pass a number in that range.")
    return int(value)


def number(owner: str, setting: str, value: object, minimum: float, maximum: float) -> float:
    """Returns the value as a float; ints and numpy's numbers will do, a bool will not.

    Raises:
        TypeError: the value is no real number.
        ValueError: the value is outside the range, or not a number.
    """
    rule = f"{owner}: {setting} must be a number from {minimum} to {maximum}, but is"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{rule} {value!r} ({type(value).__name__}). Pass a float.")
    if not minimum <= value <= maximum:
        raise ValueError(f"{rule} {value}. Pass a number in that range.")
    return float(value)


def one_of(owner: str, setting: str, value: object, known: Iterable[str]) -> str:
    """Returns the value if it is one of the known words.

    Raises:
        ValueError: it is none of them.
    """
    words = list(known)
    if not isinstance(value, str) or value not in words:
        raise ValueError(f"{owner}: {setting} must be one of {', '.join(words)}, but is {value!r}{like(value, words)}.")
    return value


def known_arguments(owner: type, arguments: Mapping[str, Any]) -> None:
    """Checks that a class's constructor has every one of the arguments.

    Raises:
        TypeError: it has no argument of that name.
    """
    names = list(inspect.signature(owner).parameters)
    for name in arguments:
        if name not in names:
            has = f"has the arguments {', '.join(names)}" if names else "has no arguments"
            raise TypeError(f"{owner.__name__} {has}, but {name!r} was passed{like(name, names)}.")


def like(word: object, known: Iterable[str]) -> str:
    """Returns " (did you mean 'length'?)" for the known word that is spelt nearly like `word`, or "" where none is."""
    near = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""

"""Errors that a user can act on: the command line prints them as one line, without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something that the user can put right; its message is one line. The command ends with `exit_code`."""

    exit_code = 2


class TrainingError(UserError):
    """Training cannot go on, though the settings were valid."""

    exit_code = 1


def did_you_mean(word: str, valid: Iterable[str]) -> str:
    """The end of an error about an unknown `word`: the nearest of the valid words, or all of them if none is near."""
    valid = list(valid)
    nearest = difflib.get_close_matches(word, valid, n=1, cutoff=0.5)
    return f"Did you mean '{nearest[0]}'?" if nearest else f"Valid are: {', '.join(valid)}."


def one_line(error: object) -> str:
    """The text of an error of another library, on one line."""
    return " ".join(str(error).split())

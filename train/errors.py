"""Errors that a user can act on: the command line prints them as one line, without a traceback."""

from __future__ import annotations


class UserError(Exception):
    """Something that the user can put right; its message is one line. The command ends with `exit_code`."""

    exit_code = 2


class TrainingError(UserError):
    """Training cannot go on, though the settings were valid."""

    exit_code = 1


def one_line(error: object) -> str:
    """The text of an error of another library, on one line."""
    return " ".join(str(error).split())

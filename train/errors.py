"""Errors that a user can correct: the command line prints them as one line, without a traceback."""

from __future__ import annotations


class UserError(Exception):
    """Something that the user can correct; its message is one line. The command ends with `exit_code`."""

    exit_code = 2


class TrainingError(UserError):
    """Training cannot continue, although the settings were valid."""

    exit_code = 1


def one_line(error: object) -> str:
    """Returns the message of another library's error on one line."""
    return " ".join(str(error).split())

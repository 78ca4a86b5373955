"""An argument parser whose errors are one line and name the nearest valid flag."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from sab_agents.checks import did_you_mean
from sab_agents.train.errors import UserError


class Parser(argparse.ArgumentParser):
    """Parses the flags of a subcommand that has no settings of its own.

    Args:
        command: the subcommand's name.
        description: what it does.
    """

    def __init__(self, command: str, description: str) -> None:
        super().__init__(prog=f"sab-agents {command}", description=description, allow_abbrev=False)

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parses all the arguments.

        Raises:
            UserError: an argument is unknown, missing or of the wrong type.
        """
        known, unknown = self.parse_known_args(arguments)
        if unknown:
            flag = unknown[0].partition("=")[0]
            raise UserError(
                f"{self.prog}: unknown argument '{flag}'. {did_you_mean(flag, self._option_string_actions)}"
            )
        return known

    def error(self, message: str) -> NoReturn:
        """Raises the error instead of printing the usage and exiting."""
        raise UserError(f"{self.prog}: {message}.")


def at_least_one(text: str) -> int:
    """Converts an argument to a whole number of at least 1.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    return _whole(text, 1)


def at_least_zero(text: str) -> int:
    """Converts an argument to a whole number of at least 0.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    return _whole(text, 0)


def _whole(text: str, minimum: int) -> int:
    if not text.isdecimal() or int(text) < minimum:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least {minimum}, but is '{text}'")
    return int(text)

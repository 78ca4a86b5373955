"""The switch `--track`: which trackers a command's runs go to. Importing this module is cheap (no torch)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence

from sab_agents.checks import did_you_mean
from sab_agents.train.errors import UserError

TRACKERS = ("wandb", "mlflow")
HELP = "also show the run in wandb or mlflow, or both"


def split_track(arguments: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Returns the arguments without `--track NAME…`, and the trackers that it names.

    Raises:
        UserError: it names none, or one that there is not.
    """
    others: list[str] = []
    names: list[str] = []
    rest = list(arguments)
    while rest:
        flag, equals, value = rest.pop(0).partition("=")
        if flag != "--track":
            others.append(flag + equals + value)
            continue
        given = [value] if equals else []
        while not equals and rest and not rest[0].startswith("--"):
            given.append(rest.pop(0))
        if not given:
            raise UserError(f"--track needs a value: {' or '.join(TRACKERS)}.")
        for name in given:
            if name not in TRACKERS:
                hint = did_you_mean(name, TRACKERS)
                raise UserError(f"--track must be {' or '.join(TRACKERS)}, but is '{name}'. {hint}")
        names += given
    return others, tuple(dict.fromkeys(names))


def check_trackers(names: Iterable[str]) -> None:
    """Raises UserError if a tracker is not installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"--track {name} needs {name}, which is not installed. Run: pip install 'sab-agents[tracking]'."
            )

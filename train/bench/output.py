"""Where the figures of a benchmark go: the terminal, and a JSON file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from sab_agents.train.errors import UserError
from sab_agents.train.run_folder import write_atomically


def terminal() -> Console:
    """The terminal; a file or a pipe has no width of its own, and narrow columns would fold."""
    console = Console()
    return console if console.is_terminal else Console(width=120)


def write_json(path: Path, facts: dict[str, Any]) -> None:
    """Writes the figures.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        write_atomically(path, (json.dumps(facts, indent=2) + "\n").encode())
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}.") from error

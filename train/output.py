"""Where the output of commands goes: the terminal, and files that are always whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rich.console import Console

from sab_agents.train.errors import UserError


def is_main() -> bool:
    """Returns whether this process is the one that prints: of several that `torchrun` started, rank 0."""
    return os.environ.get("RANK", "0") == "0"


def program() -> str:
    """Returns how this program was started: alone, or by `torchrun` in several processes."""
    processes, here = (os.environ.get(name, "1") for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if processes == "1":
        return "sab-agents"
    machines = "" if here == processes else "--nnodes=… --rdzv-endpoint=… "
    return f"torchrun {machines}--nproc-per-node={here} -m sab_agents"


def lines() -> Console:
    """Returns a console for lines of text, which it neither folds nor colours."""
    return Console(soft_wrap=True, highlight=False)


def terminal(width: int = 120) -> Console:
    """Returns a console for tables; one that is no terminal, such as a file or a pipe, is `width` columns wide."""
    console = Console()
    return console if console.is_terminal else Console(width=width)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that at any moment the old one or the new one is there, whole, whatever is killed."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file atomically.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}.") from error

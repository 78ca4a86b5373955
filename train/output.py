"""Where the output of commands goes: the terminal, and files that are always whole."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from sab_agents.train.errors import UserError, one_line


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
    """Writes a file so that at any moment the old one or the new one is there, whole, whatever is killed.

    Raises:
        UserError: the file cannot be written.
    """
    temporary = path.with_name(path.name + ".tmp")
    with writing(path):
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)


def make_folder(path: Path) -> None:
    """Makes a folder, and those above it, unless it is there.

    Raises:
        UserError: it cannot be made.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an error of writing, inside, into one line.

    Raises:
        UserError: the file or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or one_line(error)}.") from error


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file atomically; numbers that are not finite, which JSON does not have, are null in it.

    Raises:
        UserError: the file cannot be written.
    """
    write_atomically(path, (json.dumps(_finite(content), indent=2, allow_nan=False) + "\n").encode())


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value

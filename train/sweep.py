"""Cells of a sweep: each is run once, in this process or in others, and kept in a file of its own.

A finished cell is not repeated, so the same command continues what was interrupted.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

from sab_agents.train.errors import UserError

Cell = TypeVar("Cell")


def run_each(
    run: Callable[[Cell], dict[str, Any]], cells: Sequence[Cell], jobs: int
) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Each cell with its result, as they are finished.

    Args:
        run: runs a cell; with more than one job it must be picklable.
        cells: what is run.
        jobs: processes; 1 runs in this one.
    """
    if jobs == 1:
        yield from ((cell, run(cell)) for cell in cells)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(run, cell): cell for cell in cells}
        try:
            for future in as_completed(running):
                yield running[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)  # an interrupt or a failure starts no further cells


def finished(path: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The result that a file holds of a cell, None where there is no file.

    Args:
        path: of the cell's file.
        settings: that the cell is to be run with, as JSON would hold them.

    Raises:
        UserError: it was run with others.
    """
    if not path.exists():
        return None
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    before = result["settings"]
    for name in {**settings, **before}:
        if before.get(name) != settings.get(name):
            raise UserError(
                f"{path} was run with {name} = {before.get(name)}, not {settings.get(name)}. Choose another --out."
            )
    return result

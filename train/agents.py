"""`sab-agents agents CONFIG`: PPO agents over sizes of an environment, learners and seeds, as tables and curves.

Cells that are finished are not repeated, so the same command continues what was interrupted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from sab_agents.train.agents_cell import agent_of, run_chain
from sab_agents.train.agents_config import AgentsConfig, Cell, Value, load_agents_config
from sab_agents.train.agents_env import known_returns
from sab_agents.train.agents_tables import plot_learning_curves, table_of
from sab_agents.train.arguments import Parser, at_least_one
from sab_agents.train.run_folder import write_atomically
from sab_agents.train.sweep import finished, run_each


def command(arguments: Sequence[str]) -> int:
    """Runs the cells that are not finished, then writes result.json, table.md and learning_curves.png.

    TensorBoard's events of a cell lie in `tb`, in a folder of its name.
    """
    parser = Parser("agents", "Run PPO agents over sizes of an environment, learners and seeds.")
    parser.add_argument("config", type=Path, metavar="CONFIG", help="a YAML file of configs/agents")
    parser.add_argument("--values", nargs="+", type=_value, metavar="N", help="in place of the config's")
    parser.add_argument("--learners", nargs="+", metavar="NAME", help="only these of the config's")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="in place of the config's")
    parser.add_argument("--steps", type=at_least_one, metavar="N", help="budget of each cell, in place of the config's")
    parser.add_argument("--jobs", type=at_least_one, default=1, metavar="N", help="cells at a time; default: 1")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="gets a file for each cell")
    given = parser.parse(arguments)
    names = ("values", "learners", "seeds", "steps")
    config = load_agents_config(given.config, {name: getattr(given, name) for name in names})
    run_sweep(config, given.out, jobs=given.jobs)
    return 0


def run_sweep(config: AgentsConfig, out: Path, *, jobs: int = 1) -> dict[str, Any]:
    """Runs every cell that `out` does not hold yet, and writes the results of all that were asked for.

    Args:
        config: the cells.
        out: the folder.
        jobs: processes; 1 runs in this one.

    Returns:
        What result.json holds: "settings", "known" returns by value, and "cells".

    Raises:
        UserError: a setting does not fit, or the folder holds cells with other settings.
    """
    missing = [tuple(chain) for chain in config.chains if not _is_over(config, out, chain)]
    for learner in dict.fromkeys(chain[0].learner for chain in missing):
        agent_of(config, Cell(learner, config.values[0], config.seeds[0])).get_env().close()
    (out / "cells").mkdir(parents=True, exist_ok=True)
    console = Console(soft_wrap=True, highlight=False)
    for number, (chain, results) in enumerate(run_each(partial(run_chain, config, out), missing, jobs), start=1):
        for cell in chain:
            if (result := results.get(cell.file)) is not None:
                write_atomically(_file(out, cell), json.dumps(result).encode())
                console.print(f"[{number}/{len(missing)}] {summary(config, cell, result)}", markup=False)
    cells = [{**cell._asdict(), **found} for cell in config.cells if (found := _found(config, out, cell)) is not None]
    whole = {"settings": config.settings(), "known": _known(config), "cells": cells}
    write_atomically(out / "result.json", json.dumps(whole, indent=1).encode())
    table = table_of(whole)
    write_atomically(out / "table.md", table.encode())
    plot_learning_curves(out / "learning_curves.png", whole)
    console.print(f"{table}\n{out / 'table.md'}, {out / 'learning_curves.png'}", markup=False)
    return whole


def _is_over(config: AgentsConfig, out: Path, chain: Sequence[Cell]) -> bool:
    """Whether the folder holds all that an agent ran through: every cell, or those to the first that it failed."""
    for cell in chain:
        if (found := _found(config, out, cell)) is None:
            return False
        if not found["reached"]:
            break
    return True


def _found(config: AgentsConfig, out: Path, cell: Cell) -> dict[str, Any] | None:
    return finished(_file(out, cell), config.cell_settings(cell))


def _file(out: Path, cell: Cell) -> Path:
    return out / "cells" / f"{cell.file}.json"


def summary(config: AgentsConfig, cell: Cell, result: Mapping[str, Any]) -> str:
    """How a cell did, on one line."""
    return (
        f"{cell.learner}, {config.argument or 'size'} {cell.value}, seed {cell.seed}: "
        f"success {result['success']:.1%}, return {result['return']:.3f} after {result['steps']:,} steps, "
        f"{result['seconds']:,.0f} s"
    )


def _known(config: AgentsConfig) -> dict[str, dict[str, float | None]]:
    return {
        str(value): asdict(known_returns(config.env, config.argument, value, config.env_arguments))
        for value in config.values
    }


def _value(text: str) -> Value:
    return int(text) if text.lstrip("-").isdecimal() else text

"""`sab-agents stream CONFIG`: streaming agents over sizes of an environment and seeds, as a table and a plot.

Cells that are finished are not repeated, so the same command continues what was interrupted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from stable_baselines3.common.callbacks import BaseCallback

from sab_agents.train.arguments import Parser, at_least_one
from sab_agents.train.plots import figure, tidy
from sab_agents.train.run_folder import write_atomically
from sab_agents.train.stream_config import StreamConfig, load_stream_config
from sab_agents.train.sweep import finished, run_each

POINTS = 20  # of a learning curve; a cell's score is the mean return over the last tenth of its episodes
Cell = tuple[str, int, int]
Results = dict[Cell, dict[str, Any]]


def command(arguments: Sequence[str]) -> int:
    """Runs the cells that are not finished, then writes result.json, table.md and returns.png."""
    parser = Parser("stream", "Run streaming agents over sizes of an environment, policies and seeds.")
    parser.add_argument("config", type=Path, metavar="CONFIG", help="a YAML file of configs/stream")
    parser.add_argument("--values", nargs="+", type=int, metavar="N", help="in place of the config's")
    parser.add_argument("--policies", nargs="+", metavar="NAME", help="only these of the config's")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="in place of the config's")
    parser.add_argument("--episodes", type=at_least_one, metavar="N", help="in place of the config's")
    parser.add_argument("--jobs", type=at_least_one, default=1, metavar="N", help="cells at a time; default: 1")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="gets a file for each cell")
    given = parser.parse(arguments)
    names = ("values", "policies", "seeds", "episodes")
    config = load_stream_config(given.config, {name: getattr(given, name) for name in names})
    run_sweep(config, given.out, jobs=given.jobs)
    return 0


def run_sweep(config: StreamConfig, out: Path, *, jobs: int = 1) -> Results:
    """Runs every cell that `out` does not hold yet, and writes the results of all that it holds then.

    Args:
        config: the cells.
        out: the folder.
        jobs: processes; 1 runs in this one.

    Raises:
        UserError: a setting does not fit, or the folder holds cells with other settings.
    """
    cells = config.cells()
    for policy in config.policies:
        config.agent_of(policy, config.values[0], config.seeds[0])
    console = Console(soft_wrap=True, highlight=False)
    missing = [cell for cell in cells if _finished(config, out, cell) is None]
    (out / "cells").mkdir(parents=True, exist_ok=True)
    for number, (cell, result) in enumerate(run_each(partial(run_cell, config), missing, jobs), start=1):
        write_atomically(_path(out, cell), json.dumps(result).encode())
        console.print(
            f"[{number}/{len(missing)}] {cell[0]}, {config.argument} {cell[1]}, seed {cell[2]}: "
            f"return {result['score']:.3f}, {result['microseconds_per_step']:.0f} µs a step"
        )
    results = {cell: found for cell in cells if (found := _finished(config, out, cell)) is not None}
    rows = [
        {"policy": policy, "value": value, "seed": seed, **results[policy, value, seed]}
        for policy, value, seed in results
    ]
    write_atomically(out / "result.json", json.dumps({"settings": config.settings(), "cells": rows}, indent=1).encode())
    table = table_of(config, results)
    write_atomically(out / "table.md", table.encode())
    plot_returns(out / "returns.png", config, results)
    console.print(f"{table}\n{out / 'table.md'}, {out / 'returns.png'}")
    return results


def run_cell(config: StreamConfig, cell: Cell) -> dict[str, Any]:
    """Learns from all the episodes of one cell.

    Returns:
        The settings that decided it, its score, its learning curve in `POINTS` parts, its steps and their cost.
    """
    torch.set_num_threads(config.threads)
    policy, value, seed = cell
    agent = config.agent_of(policy, value, seed)
    episodes = config.episodes_at(value)
    returns = _Returns(episodes)
    started = time.process_time()
    agent.learn(2**62, returns, log_interval=None)
    seconds = time.process_time() - started
    last = max(1, episodes // 10)
    return {
        "settings": _settings(config, cell),
        "score": float(np.mean(returns.all[-last:])),
        "curve": [float(part.mean()) for part in np.array_split(returns.all, min(POINTS, episodes))],
        "steps": agent.num_timesteps,
        "parameters": sum(optimiser.vector.numel() for optimiser in agent.optimisers),
        "microseconds_per_step": 1e6 * seconds / agent.num_timesteps,
    }


def table_of(config: StreamConfig, results: Results) -> str:
    """A Markdown table: for each policy and value the mean (least … greatest) score over the seeds."""
    lines = [
        f"| {config.argument} | " + " | ".join(config.policies) + " |",
        "| ---: |" + " ---: |" * len(config.policies),
    ]
    for value in config.values:
        cells = []
        for policy in config.policies:
            scores = _scores(results, policy, value)
            cells.append(f"{np.mean(scores):.2f} ({min(scores):.2f} … {max(scores):.2f})" if scores else "")
        lines.append(f"| {value} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot_returns(path: Path, config: StreamConfig, results: Results) -> None:
    """Writes a PNG: the mean score by value for each policy, and each seed's score."""
    canvas, (axes,) = figure(6.4, 4.2, columns=1)
    for number, policy in enumerate(config.policies):
        known = [(value, _scores(results, policy, value)) for value in config.values]
        known = [(value, scores) for value, scores in known if scores]
        axes.plot([at for at, _ in known], [np.mean(scores) for _, scores in known], color=f"C{number}", label=policy)
        points = [(at, score) for at, scores in known for score in scores]
        axes.scatter([at for at, _ in points], [score for _, score in points], 9, f"C{number}", alpha=0.6)
    axes.set_xscale("log", base=2)
    tidy(axes, config.env, config.argument, "return, last tenth of the episodes")
    axes.legend(frameon=False)
    canvas.savefig(path)


class _Returns(BaseCallback):
    """Collects the return of each episode and stops after `episodes`."""

    def __init__(self, episodes: int) -> None:
        super().__init__()
        self.episodes = episodes
        self.all: list[float] = []

    def _on_step(self) -> bool:
        if self.locals["dones"][0]:
            self.all.append(float(self.locals["infos"][0]["episode"]["r"]))
        return len(self.all) < self.episodes


def _path(out: Path, cell: Cell) -> Path:
    policy, value, seed = cell
    return out / "cells" / f"{policy}-{value}-{seed}.json"


def _settings(config: StreamConfig, cell: Cell) -> dict[str, Any]:
    """What decides a cell's numbers, as JSON holds it."""
    name, value, _ = cell
    own = {"env": config.env, "argument": config.argument, "env_arguments": dict(config.env_arguments)}
    policy = {key: setting for key, setting in config.policies[name].items() if key != "values"}
    whole = {**own, "policy": policy, "agent": dict(config.agent), "episodes": config.episodes_at(value)}
    found: dict[str, Any] = json.loads(json.dumps(whole))
    return found


def _finished(config: StreamConfig, out: Path, cell: Cell) -> dict[str, Any] | None:
    return finished(_path(out, cell), _settings(config, cell))


def _scores(results: Results, policy: str, value: int) -> list[float]:
    return [result["score"] for (name, at, _), result in results.items() if (name, at) == (policy, value)]

"""`sab-agents online CONFIG`: learners of one endless stream, as a table: how much they must see until they recall.

Cells that are finished are not repeated, so the same command continues what was interrupted.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console

from sab_agents.envs.supervised.recall_stream import RecallStream
from sab_agents.online import OnlineLearner
from sab_agents.train.arguments import Parser
from sab_agents.train.errors import UserError, one_line
from sab_agents.train.online_board import OnlineBoard
from sab_agents.train.plots import plot_ledger
from sab_agents.train.run_folder import write_atomically
from sab_agents.train.sweep_config import sweep_settings

RECENT = 400
"""Answers over which the accuracy is measured, at the end of a cell and against the target."""


@dataclass(frozen=True)
class OnlineConfig:
    """Settings of an experiment; a cell is one learner on one stream with one seed.

    Attributes:
        learners: for each name, arguments of `OnlineLearner` that the others do not share.
        delays: steps from a cue to its question.
        noises: standard deviations of the noise in between.
        shared: arguments of `OnlineLearner` that all learners share.
        rows: parallel streams of a cell.
        symbols: cues; a memoryless learner is right once in so many answers.
        seeds: of learner and stream.
        target: a cell ends when so large a share of its last 400 answers was right.
        answers: a cell ends after so many answers, at the latest; the cost of a cell grows with its delay.
        threads: CPU threads.
    """

    learners: Mapping[str, Mapping[str, Any]]
    delays: tuple[int, ...]
    noises: tuple[float, ...] = (0.0,)
    shared: Mapping[str, Any] = field(default_factory=dict)
    rows: int = 32
    symbols: int = 8
    seeds: tuple[int, ...] = (0,)
    target: float = 0.99
    answers: int = 1_500
    threads: int = 1


class Cell(NamedTuple):
    """One learner on one stream with one seed."""

    learner: str
    delay: int
    noise: float
    seed: int

    @property
    def file(self) -> str:
        """The name of its file, without suffix."""
        return f"{self.learner}-{self.delay}-{self.noise:g}-{self.seed}"


def command(arguments: Sequence[str]) -> int:
    """Runs the cells that are not finished, then writes result.json and table.md."""
    parser = Parser("online", "Run learners of an endless stream of delayed recall, at several delays.")
    parser.add_argument("config", type=Path, metavar="CONFIG", help="a YAML file of configs/online")
    parser.add_argument("--learners", nargs="+", metavar="NAME", help="only these of the config's")
    parser.add_argument("--delays", nargs="+", type=int, metavar="N", help="in place of the config's")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="in place of the config's")
    parser.add_argument("--answers", type=int, metavar="N", help="in place of the config's")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="gets a file for each cell")
    given = parser.parse(arguments)
    names = ("learners", "delays", "seeds", "answers")
    run_cells(load_online_config(given.config, {name: getattr(given, name) for name in names}), given.out)
    return 0


def load_online_config(path: Path, changes: Mapping[str, Any]) -> OnlineConfig:
    """Reads a YAML file; `changes` that are not None replace its settings, `learners` names those to keep.

    Raises:
        UserError: the file cannot be read, or a key or value is wrong.
    """
    known = [each.name for each in fields(OnlineConfig)]
    return OnlineConfig(**sweep_settings(path, known, ("learners", "delays"), ("learners", "learner"), changes))


def run_cells(config: OnlineConfig, out: Path) -> dict[Cell, dict[str, Any]]:
    """Runs every cell that `out` does not hold yet, and writes the results of all."""
    torch.set_num_threads(config.threads)
    console = Console(soft_wrap=True, highlight=False)
    cells = [
        Cell(learner, delay, noise, seed)
        for delay in config.delays
        for noise in config.noises
        for learner in config.learners
        for seed in config.seeds
    ]
    results = {}
    for cell in cells:
        file = out / "cells" / f"{cell.file}.json"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, json.dumps(run_cell(config, cell, out)).encode())
        result = json.loads(file.read_text(encoding="utf-8"))
        if result["settings"] != _settings(config, cell):
            raise UserError(f"{file} was run with other settings. Choose another --out.")
        results[cell] = result
        console.print(
            f"{cell.learner}, delay {cell.delay:,}, noise {cell.noise:g}, seed {cell.seed}: {_summary(result)}"
        )
    rows = [{**cell._asdict(), **result} for cell, result in results.items()]
    write_atomically(out / "result.json", json.dumps({"config": asdict(config), "cells": rows}, indent=1).encode())
    table = table_of(config, results)
    write_atomically(out / "table.md", table.encode())
    console.print(table)
    return results


def run_cell(config: OnlineConfig, cell: Cell, out: Path) -> dict[str, Any]:
    """Learns from one stream until the target is reached or the answers are used up.

    Args:
        config: the experiment.
        cell: what is run.
        out: gets TensorBoard's events, and a picture of the credit ledger of a SAB learner.

    Returns:
        The accuracy over the last answers, how many answers, steps and seconds it took, and the settings.

    Raises:
        UserError: a setting of the learner does not fit.
    """
    stream = RecallStream(cell.delay, rows=config.rows, symbols=config.symbols, noise=cell.noise, seed=1000 + cell.seed)
    try:
        settings = learner_settings(config.shared, config.learners[cell.learner])
        learner = OnlineLearner(stream.input_size, config.symbols, rows=config.rows, seed=cell.seed, **settings)
    except (TypeError, ValueError) as error:
        raise UserError(f"{cell.learner}: {one_line(error)}") from error
    started, processor = time.perf_counter(), time.process_time()
    title = f"delay {cell.delay:,}, {cell.learner}"
    with OnlineBoard(out / "tb" / cell.file, title, learner, cell.delay) as board:
        found = learn_recall(
            *(learner, stream),
            target=config.target,
            answers=config.answers,
            watch=lambda now: board.watch(now.accuracy, now.answers),
        )
    report = learner.credit_report()
    if report.entries:
        plot_ledger(out / "cells" / f"{cell.file}.png", title, report.entries, cell.delay)
    return {
        "settings": _settings(config, cell),
        **found._asdict(),
        "steps": learner.steps,
        "seconds": round(time.perf_counter() - started, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
        "dropped": report.dropped,
    }


def learner_settings(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a learner: its own, and the shared ones that its core has."""
    core = {"core": "sab", **shared, **own}["core"]
    return {**OnlineLearner.shared_settings(core, shared), **own}


class Recalled(NamedTuple):
    """How a learner did: its accuracy over the last answers, all answers, and whether it reached the target."""

    accuracy: float
    answers: int
    reached: bool


def learn_recall(
    learner: OnlineLearner,
    stream: RecallStream,
    *,
    target: float,
    answers: int,
    watch: Callable[[Recalled], None] = lambda _: None,
) -> Recalled:
    """Learns from a stream of delayed recall; each answer is given before it is learnt from.

    Args:
        learner: learns.
        stream: of as many rows.
        target: ends when so large a share of the last 400 answers was right.
        answers: ends after so many, at the latest.
        watch: is told after each answer.
    """
    recent: deque[bool] = deque(maxlen=RECENT)
    found = Recalled(float("nan"), 0, reached=False)
    while found.answers < answers and not found.reached:
        step = stream.step()
        if not step.asked.any():
            learner.learn_many(step.x, None, step.episode_start)
            continue
        right = learner.predict_many(step.x, step.episode_start)[step.asked] == step.y[step.asked]
        learner.learn_many(step.x, step.y, step.episode_start, step.asked)
        recent.extend(right.tolist())
        accuracy = float(np.mean(recent))
        found = Recalled(accuracy, found.answers + len(right), len(recent) == RECENT and accuracy >= target)
        watch(found)
    return found


def table_of(config: OnlineConfig, results: Mapping[Cell, Mapping[str, Any]]) -> str:
    """A Markdown table: a row for each delay, noise and learner with the mean over the seeds."""
    lines = [
        f"| delay | noise | learner | accuracy (least) | at {config.target:.0%} | answers | steps | seconds |",
        "| ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for delay in config.delays:
        for noise in config.noises:
            for learner in config.learners:
                found = [results[Cell(learner, delay, noise, seed)] for seed in config.seeds]
                accuracy = [result["accuracy"] for result in found]
                means = [float(np.mean([result[name] for result in found])) for name in ("answers", "steps", "seconds")]
                lines.append(
                    f"| {delay:,} | {noise:g} | {learner} | {np.mean(accuracy):.1%} ({min(accuracy):.1%}) "
                    f"| {sum(result['reached'] for result in found)} of {len(found)} "
                    f"| {means[0]:,.0f} | {means[1]:,.0f} | {means[2]:,.0f} |"
                )
    return (
        "\n".join(lines)
        + f"\n\nMemoryless: {1 / config.symbols:.1%}. Steps are those of {config.rows} rows together.\n"
    )


def _summary(result: Mapping[str, Any]) -> str:
    return (
        f"{result['accuracy']:.1%} after {result['answers']:,} answers, {result['steps']:,} steps, "
        f"{result['seconds']:,.0f} s"
    )


def _settings(config: OnlineConfig, cell: Cell) -> dict[str, Any]:
    """What decides a cell's numbers."""
    return {
        "learner": {**config.shared, **config.learners[cell.learner]},
        "rows": config.rows,
        "symbols": config.symbols,
        "target": config.target,
        "answers": config.answers,
    }

"""`sab-agents evaluate`: scores a trained model or a scripted policy, also at lengths that it was not trained on."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from rich.console import Console
from rich.table import Table

from sab_agents.envs.supervised.task import SequenceTask, Split
from sab_agents.train import metrics
from sab_agents.train.arguments import Parser, at_least_one
from sab_agents.train.checkpoint import load_model
from sab_agents.train.config import TrainConfig
from sab_agents.train.errors import UserError, one_line
from sab_agents.train.evaluate_env import EPISODES, SCRIPTED, evaluate_run_in_env, evaluate_scripted
from sab_agents.train.evaluate_env import table_of as table_of_returns
from sab_agents.train.loop import device_of
from sab_agents.train.model import SequenceModel, model_of, task_of
from sab_agents.train.run_folder import RunFolder, write_atomically

WIDTH = 140  # columns where the output is no terminal


def command(arguments: Sequence[str]) -> int:
    """Prints a table of scores by length beside those of a memoryless learner, and writes them as JSON if asked."""
    parser = Parser("evaluate", "Score a trained model on held-out data, or a policy in an environment.")
    parser.add_argument(
        "run", metavar="RUN", help=f"a run folder that sab-agents train left; with --env also {', '.join(SCRIPTED)}"
    )
    parser.add_argument("--env", metavar="ID", help="an environment to act in (see sab-agents envs)")
    parser.add_argument("--length", type=at_least_one, nargs="+", metavar="N", help="lengths; default: as trained")
    parser.add_argument("--split", choices=get_args(Split), default="test", help="default: test")
    parser.add_argument(
        "--sequences", type=at_least_one, metavar="N", help="how many; default: the run's eval_sequences"
    )
    parser.add_argument("--episodes", type=at_least_one, metavar="N", help=f"of a scripted policy; default: {EPISODES}")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of a scripted policy's episodes; default: 0")
    parser.add_argument("--set", dest="settings", nargs="+", metavar="NAME=VALUE", help="arguments of the environment")
    parser.add_argument("--device", help="a torch device; default: the run's")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the scores to this file")
    given = parser.parse(arguments)
    rows, table = _in_env(given) if given.env is not None else _on_task(given)
    console = Console()
    (console if console.is_terminal else Console(width=WIDTH)).print(table)
    if given.json is not None:
        try:
            write_atomically(given.json, (json.dumps(rows, indent=2) + "\n").encode())
        except OSError as error:
            raise UserError(f"{given.json}: cannot be written: {error.strerror}.") from error
    return 0


def _on_task(given: Namespace) -> tuple[list[dict[str, Any]], Table]:
    if given.run in SCRIPTED:
        raise UserError(f"{given.run} acts in an environment: name one with --env (see sab-agents envs).")
    rows = evaluate_run(
        given.run, lengths=given.length, split=given.split, sequences=given.sequences, device=given.device
    )
    return rows, table_of(f"{given.run}: {given.split} data", rows)


def _in_env(given: Namespace) -> tuple[list[dict[str, Any]], Table]:
    is_scripted = given.run in SCRIPTED
    rows = evaluate_scripted(given) if is_scripted else evaluate_run_in_env(given)
    what = f"seed {given.seed}" if is_scripted else f"{given.split} data"
    return rows, table_of_returns(f"{given.run} in {given.env}: {rows[0]['episodes']:,} episodes, {what}", rows)


def load_run(path: str | Path, device: str | None = None) -> tuple[TrainConfig, SequenceTask, SequenceModel]:
    """Rebuilds what a run trained: its config, its task and its model, from the last checkpoint if unfinished.

    Args:
        path: the run folder.
        device: where the model goes; None is where it was trained.

    Raises:
        UserError: the folder holds no run or no whole model.
    """
    folder = RunFolder(path)
    config = folder.read_config()
    place = device_of(config.device if device is None else device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    task = task_of(config)
    with torch.random.fork_rng(devices=[]):
        model = model_of(config, task).to(place)
    load_model(folder.model if folder.result.exists() else folder.checkpoint, model)
    return config, task, model


def evaluate_run(
    path: str | Path,
    *,
    lengths: Sequence[int] | None = None,
    split: Split = "test",
    sequences: int | None = None,
    device: str | None = None,
) -> list[dict[str, Any]]:
    """Scores a run's model at each length.

    Args:
        path: the run folder.
        lengths: of the task; None is the one that was trained.
        split: which data.
        sequences: how many; None is the config's eval_sequences.
        device: where to compute; None is where the model was trained.

    Returns:
        For each length: {"length", "split", "sequences", "metrics": {name: {"value", "memoryless"}}}.

    Raises:
        UserError: the folder holds no run, or the task has no such length.
    """
    config, task, model = load_run(path, device)
    count = config.eval_sequences if sequences is None else sequences
    rows = []
    for length in [None] if lengths is None else lengths:
        at = task if length is None else with_length(task, length)
        place = next(model.parameters()).device
        values = metrics.evaluate(model, at, split, batch_size=config.batch_size, sequences=count, device=place)
        scores = {name: {"value": value, "memoryless": at.memoryless[name]} for name, value in values.items()}
        rows.append({"length": at.length, "split": split, "sequences": count, "metrics": scores})
    return rows


def table_of(title: str, rows: list[dict[str, Any]]) -> Table:
    """The scores of `evaluate_run` as a table, one row for each length."""
    table = Table(title=title, title_justify="left")
    table.add_column("length", justify="right")
    for name in rows[0]["metrics"]:
        table.add_column(name.replace("_", " "), justify="right")
        table.add_column("memoryless", justify="right", style="dim")
    for row in rows:
        numbers = [f"{score[key]:.4f}" for score in row["metrics"].values() for key in ("value", "memoryless")]
        table.add_row("-" if row["length"] is None else str(row["length"]), *numbers)
    return table


def with_length(task: SequenceTask, length: int) -> SequenceTask:
    """The task at another length.

    Raises:
        UserError: there is no such length.
    """
    try:
        return task.with_length(length)
    except ValueError as error:
        raise UserError(one_line(error)) from error

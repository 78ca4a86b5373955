"""Scores of a trained run on held-out data, also at lengths at which it was not trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from sab_agents.envs.supervised.task import SequenceTask, Split
from sab_agents.train.configuration import load
from sab_agents.train.device import device_of
from sab_agents.train.errors import UserError, one_line
from sab_agents.train.run_folder import RunFolder
from sab_agents.train.supervised import metrics
from sab_agents.train.supervised.checkpoint import load_model
from sab_agents.train.supervised.config import TrainConfig
from sab_agents.train.supervised.model import SequenceModel, model_of, task_of


def load_run(path: str | Path, device: str | None = None) -> tuple[TrainConfig, SequenceTask, SequenceModel]:
    """Returns what a run trained: its config, its task and its model, from the last checkpoint if it is unfinished.

    Args:
        path: the run folder.
        device: of the model; None is the one on which it was trained.

    Raises:
        UserError: the folder holds no run or no whole model.
    """
    folder = RunFolder(path)
    if folder.holds_agent:
        raise UserError(f"{path} holds an agent, not a model of sequences. Score it with sab-agents evaluate {path}.")
    config = load(TrainConfig, folder.config)
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
        lengths: of the task; None is that of the training.
        split: which data.
        sequences: how many; None is the config's eval_sequences.
        device: of the model; None is the one on which it was trained.

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


def scores_table(title: str, rows: list[dict[str, Any]]) -> Table:
    """Returns the scores of `evaluate_run` as a table, one row for each length."""
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
    """Returns the task at another length.

    Raises:
        UserError: there is no such length.
    """
    try:
        return task.with_length(length)
    except ValueError as error:
        raise UserError(one_line(error)) from error

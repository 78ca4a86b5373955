"""Tests that a run killed at any moment and resumed ends bit-identically to one that was never killed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sab_agents.train.run_folder import RunFolder
from sab_agents.train.supervised.config import TrainConfig
from sab_agents.train.supervised.loop import train
from tests.selection import slow

MakeConfig = Callable[..., TrainConfig]


def quiet_train(config: TrainConfig) -> None:
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        train(config)


def start(config: TrainConfig) -> Any:
    """Trains in a process of its own, forked from one that has imported everything but computed nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sab_agents.train.supervised.loop", "torch.utils.tensorboard"])
    process = context.Process(target=quiet_train, args=(config,))
    process.start()
    return process


def written(folder: RunFolder) -> int:
    """When the checkpoint was written, in nanoseconds; 0 where there is none."""
    return folder.checkpoint.stat().st_mtime_ns if folder.checkpoint.exists() else 0


def logged(folder: Path) -> list[dict[str, Any]]:
    """The logged lines without what depends on the clock."""
    clock = ("seconds", "steps_per_second")
    return [
        {key: value for key, value in line.items() if key not in clock} for line in RunFolder(folder).read_metrics()
    ]


@pytest.mark.parametrize(
    ("changes", "kills"),
    [
        slow({"core": "lstm", "final_learning_rate": 1e-4}, 2),
        ({"core": "sab", "task": "characters", "symbols": None, "length": 5, "core_settings": {"capacity": 4}}, 3),
    ],
    ids=["recall with a decaying rate", "characters with a carried memory"],
)
def test_a_run_that_is_killed_again_and_again_ends_the_same_to_the_bit(
    changes: dict[str, Any], kills: int, make_config: MakeConfig, text_file: str
) -> None:
    changes = {"steps": 200, "eval_every": 100, "checkpoint_every": 3, "log_every": 5} | changes
    if changes.get("task") == "characters":
        changes["corpus"] = text_file
    train(make_config(**changes, out="whole"))
    config = make_config(**changes, out="killed", resume=True)
    folder = RunFolder(config.folder)
    moments = random.Random(0)
    for _ in range(kills):
        before = written(folder)
        process = start(config)
        while written(folder) == before and process.is_alive():
            time.sleep(0.001)
        process.join(moments.uniform(0, 0.04))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "the run was over too soon; give it more steps"
    process = start(config)
    process.join()
    assert process.exitcode == 0
    whole = RunFolder(make_config(out="whole").folder)
    assert folder.model.read_bytes() == whole.model.read_bytes()
    assert logged(folder.path) == logged(whole.path)


def test_lines_logged_after_the_checkpoint_are_cut_and_a_half_written_one_is_dropped(make_config: MakeConfig) -> None:
    config = make_config()
    train(config)
    folder = RunFolder(config.folder)
    whole = logged(folder.path)
    with folder.metrics.open("a", encoding="utf-8") as file:
        file.write('{"step": 7, "split": "train", "loss": 1.0}\n{"step": 8, "spl')
    assert len(folder.read_metrics()) == len(whole) + 1
    folder.result.unlink()
    train(make_config(resume=True))
    assert logged(folder.path) == whole

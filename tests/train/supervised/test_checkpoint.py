"""Tests of checkpoints: whole or refused, never run as code, and never of another run."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sab_agents.train.errors import UserError
from sab_agents.train.output import write_atomically
from sab_agents.train.run_folder import RunFolder
from sab_agents.train.supervised.checkpoint import FORMAT, VERSION
from sab_agents.train.supervised.config import TrainConfig
from sab_agents.train.supervised.loop import Trainer, train

MakeConfig = Callable[..., TrainConfig]


@pytest.fixture
def run(make_config: MakeConfig) -> RunFolder:
    config = make_config()
    train(config)
    return RunFolder(config.folder)


class Bomb:
    """Does harm when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_a_file_cut_short_is_refused(run: RunFolder, make_config: MakeConfig) -> None:
    whole = run.checkpoint.read_bytes()
    for size in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        run.checkpoint.write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"checkpoint\.safetensors: damaged or not a safetensors file"):
            Trainer(make_config(resume=True))


def test_a_pickle_is_refused_and_not_run(run: RunFolder, make_config: MakeConfig, tmp_path: Path) -> None:
    run.checkpoint.write_bytes(pickle.dumps(Bomb(tmp_path / "harm")))
    with pytest.raises(UserError, match="damaged or not a safetensors file"):
        Trainer(make_config(resume=True))
    assert not (tmp_path / "harm").exists()


def test_a_foreign_safetensors_file_is_refused(run: RunFolder, make_config: MakeConfig) -> None:
    save_file({"x": torch.zeros(2)}, run.checkpoint)
    with pytest.raises(UserError, match="not written by sab-agents train"):
        Trainer(make_config(resume=True))


def test_another_version_is_refused(run: RunFolder, make_config: MakeConfig) -> None:
    facts = {"format": FORMAT, "version": VERSION + 1}
    save_file({"x": torch.zeros(2)}, run.checkpoint, metadata={"facts": json.dumps(facts)})
    with pytest.raises(
        UserError, match=rf"written in version {VERSION + 1} of the format, but this program reads {VERSION}\."
    ):
        Trainer(make_config(resume=True))


@pytest.mark.parametrize("missing", ["rng", "adam.exp_avg.head.bias", "model.head.bias"])
def test_a_checkpoint_that_lacks_a_part_is_refused(missing: str, run: RunFolder, make_config: MakeConfig) -> None:
    with safe_open(run.checkpoint, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(run.checkpoint)
    del tensors[missing]
    save_file(tensors, run.checkpoint, metadata=metadata)
    with pytest.raises(UserError, match=f"not a whole checkpoint: {missing} missing"):
        Trainer(make_config(resume=True))


@pytest.mark.parametrize("changes", [{"hidden_size": 9}, {"learning_rate": 0.5}, {"length": 7}, {"core": "lstm_tbptt"}])
def test_other_settings_are_refused_by_name(run: RunFolder, make_config: MakeConfig, changes: dict[str, Any]) -> None:
    before = run.config.read_bytes()
    (name,) = changes
    with pytest.raises(UserError, match=f"the run has {name} = .*, but the config says "):
        Trainer(make_config(**changes, resume=True))
    assert run.config.read_bytes() == before


def test_more_steps_are_allowed_unless_the_learning_rate_decays(make_config: MakeConfig) -> None:
    train(make_config())
    assert train(make_config(steps=8, resume=True))["steps"] == 8
    train(make_config(out="decay", final_learning_rate=1e-4))
    with pytest.raises(UserError, match="the run has steps = 6, but the config says 8"):
        train(make_config(out="decay", final_learning_rate=1e-4, steps=8, resume=True))


def test_resuming_a_finished_run_returns_its_result(run: RunFolder, make_config: MakeConfig) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*") if path.name != "config.yaml"}
    assert train(make_config(resume=True)) == run.read_result()
    assert before == {path: path.stat().st_mtime_ns for path in run.path.rglob("*") if path.name != "config.yaml"}


def test_resuming_where_nothing_is_starts_anew(make_config: MakeConfig) -> None:
    assert train(make_config(resume=True))["steps"] == 6


def test_a_write_that_is_interrupted_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def killed(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"

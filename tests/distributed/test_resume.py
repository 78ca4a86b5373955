"""Runs of two ranks, one of which is killed, continue to the same bits as runs that nobody touched."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sab_agents import RecurrentPPO
from sab_agents.checkpoint import archive
from sab_agents.ppo.saving import KIND
from sab_agents.train.cli import main
from sab_agents.train.supervised.loop import Trainer
from tests.distributed.processes import in_two

AGENT = [
    *("train", "--env", "SAB/MemoryChain-v0", "--env-arg", "length=9", "--num-envs", "2", "--steps", "320"),
    *("--checkpoint-every", "64", "--setting", "n_steps=16", "n_epochs=2", "policy_kwargs.lstm_hidden_size=4"),
]
SEQUENCES = [
    *("train", "characters", "--corpus", "pydoc", "--length", "6", "--hidden-size", "6", "--batch-size", "3"),
    *("--steps", "12", "--eval-every", "6", "--eval-sequences", "6", "--checkpoint-every", "4", "--threads", "1"),
]
LOST = "rank 0 of 2 waited for "


def killed_at(owner: Any, name: str, calls: int) -> None:
    """Lets rank 1 die in this call of a function."""
    count, whole = [0], getattr(owner, name)

    def counted(*arguments: Any, **named: Any) -> Any:
        count[0] += 1
        if count[0] == calls and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*arguments, **named)

    setattr(owner, name, counted)


def command(rank: int, folder: Path, *commands: list[str], killed: tuple[Any, str, int] | None = None) -> None:  # noqa: ARG001
    os.chdir(folder)
    if killed is not None:
        killed_at(*killed)
    for each in commands:
        code = main(each)
        if code:
            sys.exit(code)


def all_whole(rank: int, folder: Path) -> None:
    command(rank, folder, [*AGENT, "--out", "agent"], [*SEQUENCES, "--out", "sequences"])


def killed_in_an_update(rank: int, folder: Path) -> None:
    command(rank, folder, [*AGENT, "--out", "cut"], killed=(RecurrentPPO, "train", 4))


def killed_while_it_saves(rank: int, folder: Path) -> None:
    # After the place of the third saving is written, and before the agent is.
    command(rank, folder, ["resume", "cut"], killed=(RecurrentPPO, "save", 2))


def resumed_and_killed_in_sequences(rank: int, folder: Path) -> None:
    commands = ["resume", "cut"], [*SEQUENCES, "--out", "cut_sequences"]
    command(rank, folder, *commands, killed=(Trainer, "update", 7))


def resumed_sequences(rank: int, folder: Path) -> None:
    command(rank, folder, ["resume", "cut_sequences"])


def content(file: Path) -> dict[str, Any]:
    """Tensors and values of an agent, but for times."""
    settings, state = archive.load(file, KIND)
    return {
        name: value.tolist() if isinstance(value, torch.Tensor) else value
        for name, value in {**settings, **state}.items()
        if not name.startswith("buffer.") and name != "count._num_timesteps_at_start"
    }


@pytest.mark.slow
def test_a_killed_rank_ends_all_and_the_run_continues_to_the_bit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    in_two(all_whole, tmp_path)
    (error, _) = in_two(killed_in_an_update, tmp_path, ends=(1, -signal.SIGKILL))
    assert f"sab-agents: {LOST}" in error
    assert "another rank has died or did not answer" in error
    assert error.endswith("Continue: torchrun --nproc-per-node=2 -m sab_agents resume cut\n")
    in_two(killed_while_it_saves, tmp_path, ends=(1, -signal.SIGKILL))
    in_two(resumed_and_killed_in_sequences, tmp_path, ends=(1, -signal.SIGKILL))
    whole, cut = tmp_path / "agent", tmp_path / "cut"
    assert content(cut / "agent.zip") == content(whole / "agent.zip")
    assert content(cut / "places/320.rank1.zip") == content(whole / "places/320.rank1.zip")
    names = {"320.place0.zip", "320.place1.zip", "320.rank1.zip"}
    assert {file.name for file in (cut / "places").iterdir()} == names

    in_two(resumed_sequences, tmp_path)
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("sequences", "cut_sequences")]
    assert models[0] == models[1]
    assert main(["resume", str(tmp_path / "sequences"), "--steps", "30"]) == 2
    assert "the run has 2 ranks, but there are 1, which would learn from other batches" in capsys.readouterr().err

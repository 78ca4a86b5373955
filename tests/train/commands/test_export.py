"""`sab-agents export` turns a saved agent into a file that runs alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sab_agents.train.cli import main
from tests.ppo.cases import agent


def test_a_saved_agent_is_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = agent("Lstm")
    model.save(tmp_path / "model")
    assert main(["export", str(tmp_path / "model.zip"), str(tmp_path / "step.pt2"), "--rows", "2"]) == 0
    assert "MlpLstmPolicy" in capsys.readouterr().out
    step = torch.export.load(tmp_path / "step.pt2").module()
    observation, zeros, steps = torch.rand(2, 3), torch.zeros(2, 1, 8), torch.zeros(2, dtype=torch.int64)
    action, _ = step(observation, (zeros, zeros, steps), torch.ones(2, dtype=torch.bool))
    expected, _ = model.predict(observation.numpy(), deterministic=True)
    assert action.tolist() == expected.tolist()


def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agent("AttentionLstm").save(tmp_path / "model")
    for arguments, message in (
        ([str(tmp_path / "none.zip"), "step.pt2"], "no such file"),
        ([str(tmp_path / "model.zip"), "step.txt"], "path must end in"),
        ([str(tmp_path / "model.zip"), "step.pt2"], "max_steps"),
    ):
        assert main(["export", *arguments]) == 2
        assert message in capsys.readouterr().err

"""`sab-agents bench envs`: both sides of one run, and their ratio; no assertion on how fast anything is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sab_agents.envs.registration import ENVIRONMENTS
from sab_agents.train.bench import envs
from sab_agents.train.cli import main


def test_both_sides_are_timed_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bench.json"
    timed = ["SAB/PassiveTMaze-v0", "SAB/KeyToDoor-v0"]
    options = ["--copies", "3", "--rounds", "2", "--seconds", "0.005", "--json", str(file)]
    assert main(["bench", "envs", *timed, *options]) == 0
    printed = capsys.readouterr().out
    rows = json.loads(file.read_text())["rows"]
    assert [row["id"] for row in rows] == timed
    for row in rows:
        assert row["id"] in printed
        assert row["copies"] == 3
        assert row["low"] <= row["native"] <= row["high"]
        assert row["ratio"] == pytest.approx(row["native"] / row["sync"])


def test_the_rate_counts_the_steps_of_every_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that moves by one second at each reading, a round lasts a second, whatever it holds."""
    readings = iter(range(1000))
    monkeypatch.setattr("sab_agents.train.bench.envs.time.perf_counter", lambda: next(readings))
    row = envs.measure("SAB/PassiveTMaze-v0", copies=5, rounds=1, seconds=0.25)
    assert row.native == row.sync == 5 * 0.25 * envs.PREPARED


def test_what_is_timed_is_registered() -> None:
    assert set(envs.IDS) <= set(ENVIRONMENTS)


def test_an_unknown_id_is_one_line_of_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "envs", "SAB/Maze-v0"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "SAB/PassiveTMaze-v0" in error

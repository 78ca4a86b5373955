"""`sab-agents bench distributed`: what is timed runs, and the tables say it; no assertion on how fast anything is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sab_agents.train.bench import distributed
from sab_agents.train.cli import main


def test_both_kinds_of_learning_and_the_sum_are_timed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {
        "ENVS": 1,
        "STEPS": 4,
        "HIDDEN": 4,
        "SEQUENCES": 1,
        "LENGTH": 2,
        "PARAMETERS": (10, 20),
    }.items():
        monkeypatch.setattr(distributed, name, value)
    before: list[str] = []

    def as_one(how: str, port: int, folder: str, rounds: int) -> None:
        """In this process, alone."""
        before.append(how)
        distributed.rank_work(0, distributed.APART, port, folder, rounds)

    monkeypatch.setattr(distributed, "run_ranks", as_one)
    file = tmp_path / "bench.json"
    assert main(["bench", "distributed", "--rounds", "2", "--json", str(file)]) == 0
    assert before == ["1", "2 apart", "2"]
    printed = capsys.readouterr().out
    assert all(part in printed for part in ("RecurrentPPO", "train copying", "ns a parameter"))
    rows = json.loads(file.read_text(encoding="utf-8"))
    assert rows.keys() == {"1", "2 apart", "2"}
    for found in rows.values():
        assert found.keys() == {distributed.AGENT, distributed.SEQUENCE, "10", "20"}
        assert all(0 < fastest <= median for median, fastest in found.values())


@pytest.mark.parametrize("arguments", [["bench", "distributed"], ["suite", "list"], ["demo"]], ids=" ".join)
def test_commands_of_one_process_say_so_under_torchrun(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(arguments) == 2
    assert "runs in one process, but torchrun has started several" in capsys.readouterr().err

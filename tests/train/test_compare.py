"""Tests of `sab-agents compare`: a table and curves over cores and seeds, and runs that are not repeated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sab_agents.train.cli import main
from sab_agents.train.config import TrainConfig
from sab_agents.train.summary import table_of

CONFIG = """
task: recall
length: 4
symbols: 3
hidden_size: 8
bptt_steps: 2
steps: 4
batch_size: 4
eval_every: 2
eval_sequences: 8
threads: 1
"""


def test_it_trains_every_core_with_every_seed_and_repeats_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG, encoding="utf-8")
    out = tmp_path / "out"
    arguments = ["compare", str(tmp_path / "c.yaml"), "--cores", "lstm", "lstm_tbptt", "--seeds", "0", "--jobs", "2"]
    arguments += ["--out", str(out), "--top-k", "3"]
    assert main(arguments) == 0
    table = (out / "table.md").read_text(encoding="utf-8")
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == ["lstm", "lstm_tbptt", "memoryless"]
    assert (out / "curves.png").stat().st_size > 10_000
    result = json.loads((out / "lstm-0" / "result.json").read_text(encoding="utf-8"))
    assert (result["core"], result["settings"]["seed"], result["settings"]["top_k"]) == ("lstm", 0, 3)
    capsys.readouterr()
    assert main(arguments) == 0
    assert capsys.readouterr().out.count("finished before") == 2
    assert main([*arguments, "--hidden_size", "9"]) == 2
    assert "was trained with hidden_size = 8, not 9" in capsys.readouterr().err


def test_a_core_that_does_not_exist_is_named_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG, encoding="utf-8")
    out = tmp_path / "out"
    assert main(["compare", str(tmp_path / "c.yaml"), "--cores", "lstm", "ltsm", "--out", str(out)]) == 2
    assert "unknown core 'ltsm'. Did you mean 'lstm'?" in capsys.readouterr().err
    assert not out.exists()


def test_the_table_has_mean_least_and_greatest_over_seeds() -> None:
    def result(value: float) -> dict[str, object]:
        scores = {"test": value, "validation": value / 2, "memoryless": 0.1}
        return {"metrics": {"accuracy": scores}, "parameters": 7, "steps": 10, "seconds": 2.0}

    runs = [(TrainConfig(core="sab", seed=seed), result(value)) for seed, value in enumerate((0.5, 1.0))]
    lines = table_of(runs).splitlines()
    assert lines[0] == (
        "| core | seeds | parameters | accuracy, test | accuracy, validation | updates | training seconds |"
    )
    assert (
        lines[2] == "| sab | 2 | 7 | 0.7500 (0.5000 … 1.0000) | 0.3750 (0.2500 … 0.5000) | 10 (10 … 10) | 2 (2 … 2) |"
    )
    assert lines[3].startswith("| memoryless | | | 0.1000 | 0.1000 |")

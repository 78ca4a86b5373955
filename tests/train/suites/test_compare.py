"""Tests of the suite `compare`: a table and curves over cores and seeds, and runs that are not repeated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sab_agents.train.cli import main
from sab_agents.train.configuration import load
from sab_agents.train.errors import TrainingError
from sab_agents.train.suites.compare import Compare, CompareCell, CompareConfig
from sab_agents.train.suites.page import markdown_of
from sab_agents.train.suites.study import table_of
from sab_agents.train.supervised.config import TrainConfig
from sab_agents.train.supervised.loop import train

CONFIG = """
task: recall
length: 4
symbols: 3
hidden_size: 8
core_settings: {bptt_steps: 2}
steps: 4
batch_size: 4
eval_every: 2
eval_sequences: 8
threads: 1
"""


def comparing(folder: Path, *cores_and_flags: str) -> list[str]:
    """The command that compares the cores of the config in a folder, into its `out`."""
    return ["suite", "run", str(folder / "c.yaml"), "--cores", *cores_and_flags, "--out", str(folder / "out")]


@pytest.mark.plots
def test_it_trains_every_core_with_every_seed_and_repeats_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG, encoding="utf-8")
    out = tmp_path / "out"
    flags = ("--seeds", "0", "--core_settings.bptt_steps", "3")
    arguments = comparing(tmp_path, "lstm", "lstm_tbptt", *flags)
    assert main(arguments) == 0
    table = (out / "table.md").read_text(encoding="utf-8")
    rows = table.partition("\n\n")[0].splitlines()[2:]
    assert [line.split("|")[1].strip() for line in rows] == ["lstm", "lstm_tbptt", "memoryless"]
    assert (out / "curves.png").stat().st_size > 10_000
    results = [json.loads((out / f"{core}-0" / "result.json").read_text()) for core in ("lstm", "lstm_tbptt")]
    settings = [result["settings"]["core_settings"] for result in results]
    assert [(result["core"], result["settings"]["seed"]) for result in results] == [("lstm", 0), ("lstm_tbptt", 0)]
    assert [each.get("bptt_steps") for each in settings] == [None, 3]
    assert "step 2/4" in (out / "lstm-0" / "log.txt").read_text()
    capsys.readouterr()
    assert main(arguments) == 0
    assert "2 of 2 were finished before" in capsys.readouterr().out
    assert main([*arguments, "--hidden_size", "9"]) == 2
    assert "was run with hidden_size = 8, not 9" in capsys.readouterr().err


def test_a_core_that_does_not_exist_is_named_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG, encoding="utf-8")
    out = tmp_path / "out"
    assert main(comparing(tmp_path, "lstm", "ltsm")) == 2
    assert "unknown core 'ltsm'. Did you mean 'lstm'?" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--core_settings.top_k", "3"], "none of lstm, lstm_tbptt has 'top_k'. Leave it out."),
        (["--core_settings.lstm.bptt_steps", "3"], "lstm does not have 'bptt_steps'"),
        (["--core", "sab"], "unknown key '--core'. Did you mean 'cores'?"),
    ],
)
def test_a_setting_that_no_compared_core_has_is_an_error(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG, encoding="utf-8")
    arguments = comparing(tmp_path, "lstm", "lstm_tbptt")
    assert main([*arguments, *flags]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_each_core_takes_the_shared_settings_that_it_has(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("core_settings: {shared: {top_k: 3, bptt_steps: 4}, sab: {top_k: 2}}")
    config = load(CompareConfig, tmp_path / "c.yaml", ["--cores", "sab", "lstm_tbptt", "lstm"])
    settings = [config.plan(core, 0).settings_of_core() for core in config.cores]
    assert settings == [{"top_k": 2, "bptt_steps": 4}, {"bptt_steps": 4}, {}]


def test_a_run_that_fails_is_reported_and_the_others_are_in_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def sometimes(config: TrainConfig, console: Console, **_: object) -> dict[str, Any]:
        if config.seed == 0:
            raise TrainingError("the loss is nan")
        return train(config, console)

    monkeypatch.setattr("sab_agents.train.suites.compare.train", sometimes)
    (tmp_path / "c.yaml").write_text(CONFIG, encoding="utf-8")
    out = tmp_path / "out"
    arguments = comparing(tmp_path, "lstm_tbptt", "--seeds", "0", "1")
    assert main(arguments) == 1
    assert "1 of 2 runs failed; the first says: the loss is nan" in capsys.readouterr().err
    assert "| lstm_tbptt | 1 |" in (out / "table.md").read_text()


def test_the_table_has_mean_least_and_greatest_over_seeds() -> None:
    def result(value: float) -> dict[str, Any]:
        scores = {"test": value, "validation": value / 2, "memoryless": 0.1}
        return {
            **{"metrics": {"accuracy": scores}, "parameters": 7, "steps": 10, "seconds": 2.0},
            "validation": [{"step": 5, "seconds": 1.0, "accuracy": value}],
        }

    suite = Compare(CompareConfig(cores=("sab",), seeds=(0, 1)))
    study = suite.study({CompareCell("sab", seed): result(value) for seed, value in enumerate((0.5, 1.0))})
    lines = markdown_of([table_of(study)]).splitlines()
    assert lines[0] == ("| learner | seeds | accuracy, test | accuracy, validation | parameters | updates | seconds |")
    assert lines[2] == "| sab | 2 | 0.7500 (0.5000 … 1.0000) | 0.3750 (0.2500 … 0.5000) | 7 | 10 | 2 |"
    assert lines[3] == "| memoryless |  | 0.1000 | 0.1000 |  |  |  |"

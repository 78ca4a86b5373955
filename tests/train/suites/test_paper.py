"""Tests of the suite `paper`: experiments on different tasks, each with several learners."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from sab_agents.train.cli import main
from sab_agents.train.configuration import build
from sab_agents.train.suites.paper import Paper, PaperConfig
from sab_agents.train.supervised.evaluate import load_run

SMALL = {"hidden_size": 4, "steps": 4, "batch_size": 4, "eval_every": 2, "eval_sequences": 8}
CONFIG: dict[str, Any] = {
    "suite": "paper",
    "experiments": {
        "copying": {"config": "copying_100", "length": 6, "test_lengths": [7, 9], **SMALL},
        "adding": {"config": "adding", "length": 5, "published": {"others": 0.02}, **SMALL},
    },
    "learners": {"sab": {"core": "sab"}, "plain": {"core": "sab", "recipe": "paper"}, "lstm": {"core": "lstm"}},
    "seeds": [0],
}


def written(folder: Path, **changes: Any) -> list[str]:
    """The command that runs the config, with some keys changed, into the folder's `out`."""
    path = folder / "paper.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, **changes}, sort_keys=False), encoding="utf-8")
    return ["suite", "run", str(path), "--out", str(folder / "out")]


def test_each_experiment_is_trained_by_each_learner_and_scored_beside_what_was_published(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = written(tmp_path)
    assert main(arguments) == 0
    study = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))["study"]
    rows = {(row["value"], row["learner"]): row for row in study["rows"]}
    ours = ["sab", "plain", "lstm"]
    assert list(rows) == [
        *(("copying", name) for name in ours),
        *(("adding", name) for name in ours),
        ("copying", "memoryless"),
        ("adding", "others"),
        ("adding", "memoryless"),
    ]
    memoryless = rows["adding", "memoryless"]["numbers"]
    assert memoryless["error removed"] == 0
    others = rows["adding", "others"]["numbers"]
    assert others["error removed"] == pytest.approx(1 - 0.02 / memoryless["test"])
    copied = rows["copying", "sab"]
    assert copied["numbers"]["error removed"] == pytest.approx((copied["numbers"]["test"] - 0.125) / 0.875)
    assert list(copied["tests"]) == ["7", "9"]
    assert [x for x, _ in copied["curves"]["validation"]] == [2, 4]
    capsys.readouterr()
    assert main(arguments) == 0
    assert "6 of 6 were finished before" in capsys.readouterr().out


def test_a_learner_has_the_shared_settings_of_the_experiment_and_its_own(tmp_path: Path) -> None:
    assert main([*written(tmp_path), "--experiments", "copying", "--learners", "plain"]) == 0
    config, task, model = load_run(tmp_path / "out" / "copying-plain-0")
    assert (task.length, config.core_settings["sab"]["recipe"]) == (6, "paper")
    assert config.core_settings["sab"]["top_k"] == 5  # of configs/copying_100.yaml
    assert not any("output_gate" in name for name, _ in model.named_parameters())
    other = Paper(build(PaperConfig, {name: value for name, value in CONFIG.items() if name != "suite"}))
    assert other.config.plan("copying", "sab", 0).settings_of_core().get("recipe") is None
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"experiments": {"x": {"config": "adding", "lenght": 3}}}, "unknown key 'lenght'. Did you mean 'length'?"),
        ({"experiments": {"x": {"length": 3}}}, "experiment 'x' must have a config"),
        ({"experiments": {"x": {"config": "addding"}}}, "addding: No such file"),
        ({"learners": {"x": {"top_k": 3}}}, "learner 'x' must have a core"),
        ({"learners": {"x": {"core": "lstm", "topk": 3}}}, "lstm does not have 'topk'"),
        ({"learners": {"x": {"core": "ltsm"}}}, "unknown core 'ltsm'. Did you mean 'lstm'?"),
        ({"seeds": []}, "seeds must have at least one entry"),
    ],
)
def test_a_wrong_config_is_one_line_of_error(
    changes: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(written(tmp_path, **changes)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()

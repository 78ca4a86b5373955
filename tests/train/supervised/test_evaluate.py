"""Tests of `sab-agents evaluate`: the scores of training's own end, other lengths, and clear errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sab_agents.train.cli import main
from sab_agents.train.errors import UserError
from sab_agents.train.supervised.config import TrainConfig
from sab_agents.train.supervised.evaluate import evaluate_run, load_run
from sab_agents.train.supervised.loop import Trainer, train

MakeConfig = Callable[..., TrainConfig]


@pytest.mark.parametrize("core", ["sab", "lstm", "lstm_tbptt", "lstm_attention", "transformer"])
def test_it_finds_the_scores_that_training_ended_with(core: str, make_config: MakeConfig) -> None:
    config = make_config(core=core)
    result = train(config)
    for split in ("test", "validation"):
        (row,) = evaluate_run(config.folder, split=split)
        assert {name: score["value"] for name, score in row["metrics"].items()} == {
            name: values[split] for name, values in result["metrics"].items()
        }


def test_it_scores_other_lengths_beside_the_memoryless_value(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config()
    train(config)
    capsys.readouterr()
    out = tmp_path / "scores.json"
    arguments = ["evaluate", str(config.folder), "--length", "6", "12", "--sequences", "8", "--json", str(out)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "memoryless" in printed
    assert "0.3333" in printed
    rows = json.loads(out.read_text(encoding="utf-8"))
    assert [(row["length"], row["split"], row["sequences"]) for row in rows] == [(6, "test", 8), (12, "test", 8)]
    assert rows[1]["metrics"]["accuracy"]["memoryless"] == pytest.approx(1 / 3)


def test_it_leaves_the_random_state_alone(make_config: MakeConfig) -> None:
    config = make_config()
    train(config)
    before = torch.get_rng_state()
    evaluate_run(config.folder)
    assert torch.equal(before, torch.get_rng_state())


def test_an_unfinished_run_is_scored_at_its_checkpoint(make_config: MakeConfig) -> None:
    config = make_config()
    train(config)
    (config.folder / "result.json").unlink()
    (config.folder / "model.safetensors").unlink()
    _, _, model = load_run(config.folder)
    trained = Trainer(make_config(resume=True)).model.state_dict()
    assert all(torch.equal(value, trained[name]) for name, value in model.state_dict().items())


def test_a_fixed_length_is_refused(make_config: MakeConfig) -> None:
    pytest.importorskip("sklearn")
    config = make_config(task="pixels", length=None, symbols=None, steps=1)
    train(config)
    with pytest.raises(UserError, match="length"):
        evaluate_run(config.folder, lengths=[10])


def test_a_run_without_a_checkpoint_is_refused(make_config: MakeConfig) -> None:
    config = make_config()
    Trainer(config)
    with pytest.raises(UserError, match=r"checkpoint\.safetensors: no such file"):
        evaluate_run(config.folder)

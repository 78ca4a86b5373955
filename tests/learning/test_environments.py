"""A trained copying model through its environment: the same figures as by batches, and a return above memoryless.

A memoryless learner copies 12.5 % of the symbols, with a cross-entropy of ln 8 = 2.08 nats: a return of -20.8.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from sab_agents.train.cli import main
from sab_agents.train.supervised.config import TrainConfig
from sab_agents.train.supervised.evaluate import evaluate_run
from sab_agents.train.supervised.loop import train


@pytest.mark.learning
def test_a_model_that_has_learnt_to_copy_scores_the_same_through_the_environment(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(
        TrainConfig(
            task="copying",
            length=5,
            core="lstm_attention",
            hidden_size=64,
            core_settings={"attention_size": 32},
            steps=2000,
            batch_size=64,
            learning_rate=4e-3,
            clip_norm=0.25,
            threads=1,
            eval_every=500,
            out=str(folder),
        )
    )
    (by_batches,) = evaluate_run(folder, sequences=512)
    out = tmp_path / "rows.json"
    arguments = ["evaluate", str(folder), "--env", "SAB/Copying-v0", "--sequences", "512", "--json", str(out)]
    assert main(arguments) == 0
    (through,) = json.loads(out.read_text(encoding="utf-8"))
    values = {name: score["value"] for name, score in by_batches["metrics"].items()}
    assert values["accuracy"] > 0.25
    assert through["metrics"]["accuracy"] == pytest.approx(values["accuracy"], abs=1e-6)
    assert through["metrics"]["CE10"] == pytest.approx(values["cross_entropy"], abs=1e-6)
    assert through["mean"] > -0.9 * 10 * math.log(8)

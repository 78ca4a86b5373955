"""Adding, 10 segments long: a memoryless learner that always answers 1 has a squared error of about 1/6."""

from __future__ import annotations

from pathlib import Path

import pytest

from sab_agents.train.supervised.config import TrainConfig
from sab_agents.train.supervised.loop import train


@pytest.mark.learning
@pytest.mark.parametrize("seed", [0, 1])
def test_sab_adds_two_numbers_from_beyond_its_segment(tmp_path: Path, seed: int) -> None:
    config = TrainConfig(
        task="adding",
        length=50,
        core_settings={"bptt_steps": 5, "write_every": 5, "attention": "dot", "attention_size": 32},
        steps=3000,
        learning_rate=2e-3,
        final_learning_rate=1e-4,
        clip_norm=0.25,
        threads=1,
        seed=seed,
        out=str(tmp_path / "run"),
    )
    error = train(config)["metrics"]["squared_error"]
    assert error["memoryless"] > 0.15
    assert error["test"] < error["memoryless"] / 10

"""Tests of `sab-agents demo`, with so few updates that nothing is learnt."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from sab_agents.train.commands.demo import BPTT_STEPS, SEQUENCES, T_MAZE, demo


def test_the_delay_is_at_least_ten_segments() -> None:
    assert SEQUENCES.length is not None
    assert SEQUENCES.length >= 10 * BPTT_STEPS


def test_it_prints_the_table_the_plots_and_what_to_do_next_and_can_be_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = dataclasses.replace(
        SEQUENCES, steps=2, hidden_size=8, batch_size=4, eval_every=2, eval_sequences=8, length=5, threads=1
    )
    agents = dataclasses.replace(T_MAZE, values=(4,), steps=512, curriculum=False, target=None)
    for _ in range(2):
        demo(tmp_path / "demo", config, (5, 10), agents)
        printed = capsys.readouterr().out
        for part in (
            "SAB, segments of 5 steps",
            "LSTM, full gradient",
            "memoryless",
            "10.0%",
            "longer delays",
            "| 4 | LSTM |",
        ):
            assert part in printed
        for core in ("sab", "lstm_tbptt", "lstm"):
            assert str(tmp_path / "demo" / core / "plots" / "credit.png") in printed
        assert f"tensorboard --logdir {tmp_path / 'demo'}" in printed

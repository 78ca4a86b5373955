"""`sab-agents bench scan`: what a call takes, what binds it, and the command; no assertion on how fast anything is."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sab_agents.train.bench import roofline
from sab_agents.train.bench.roofline import Amount, Cell, Peak, amount
from sab_agents.train.bench.scaling_work import LSTM, SABS, TRAINING, Size, make_work
from sab_agents.train.bench.timing import Rounds, in_turn
from sab_agents.train.commands.bench import command as bench
from sab_agents.train.errors import UserError

SIZE = Size(6, 2, 8, 5)
PEAKS = {1: Peak(100.0, 10.0), 2: Peak(200.0, 20.0)}


def test_the_operations_of_a_call_are_those_that_torch_counts() -> None:
    settings = {"attention_size": 3, "top_k": 2, "bptt_steps": 2, "recipe": "paper"}
    loop = make_work("plain loop dot", TRAINING, SIZE, settings)
    with FlopCounterMode(display=False) as counted:
        loop()
    # The plain loop computes keys of the starting memory once, as all do, and differentiates all scores.
    assert amount("SAB dot", SIZE, 3).operations == pytest.approx(counted.get_total_flops(), rel=0.25)


def test_slots_and_their_keys_come_on_top_of_the_lstm() -> None:
    lstm, few, many = amount(LSTM, SIZE, 3), amount(SABS[0], SIZE, 3), amount(SABS[0], Size(6, 2, 8, 10), 3)
    assert lstm.scores == 0
    assert lstm.products == 5 * 2 * (6 * 2) * (4 * 8) * 8
    assert many.scores == 2 * few.scores == 2 * (2 * 6 * 2 * 5 * 3)
    assert few.products > lstm.products
    assert few.bytes > lstm.bytes


@pytest.mark.parametrize(
    ("of", "seconds", "expected"),
    [
        (Amount(60.0, 0.0, 1.0), 1.0, "arithmetic"),
        (Amount(60.0, 0.0, 9.0), 1.0, "memory"),
        (Amount(20.0, 0.0, 1.0), 1.0, "steps"),
        (Amount(20.0, 25.0, 1.0), 1.0, "scores"),
    ],
)
def test_what_binds_is_the_bound_that_is_reached(of: Amount, seconds: float, expected: str) -> None:
    cell = Cell(SIZE, LSTM, seconds, 1, [1.0, 3.0, 2.0], of, PEAKS[1])
    assert cell.binds == expected
    assert cell.of_peak == pytest.approx(of.operations / 100)
    assert cell.of_bandwidth == pytest.approx(of.bytes / 10)
    assert cell.ratio == 2.0


def test_ratios_are_those_of_pairs_and_of_single_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(works: Any, _rounds: int, **_: Any) -> dict[Any, Rounds]:
        return {key: Rounds([8.0, 2.0, 4.0] if key[0] == LSTM else [8.0, 8.0, 8.0], 2) for key in works}

    monkeypatch.setattr(roofline, "in_turn", timed)
    monkeypatch.setattr(roofline, "_lasting", lambda work, **_: (work, 4))
    settings = {"attention_size": 3, "top_k": 2}
    cells = roofline.measure([SIZE, Size(6, 2, 8, 7)], settings, 3, PEAKS, lambda _: None)
    assert [(cell.side, cell.size.slots) for cell in cells] == [
        (LSTM, 5),
        *((side, S) for side in SABS for S in (5, 7)),
    ]
    assert cells[1].ratios == [1.0, 4.0, 2.0]
    assert cells[1].seconds == 2.0
    assert cells[1].peak is PEAKS[2]


def test_rounds_keep_their_order() -> None:
    found = in_turn({"one": lambda: torch.ones(3).sum(), "other": lambda: torch.ones(3).sum()}, rounds=3)
    assert len(found["one"].seconds) == 3
    assert found["one"].timing.low == min(found["one"].seconds)
    assert found["one"].ratios(found["one"]) == [1.0] * 3


def test_on_shared_cores_the_clock_is_that_of_one_thread() -> None:
    def sleep() -> None:
        threads.append(torch.get_num_threads())
        time.sleep(0.05)

    threads: list[int] = []
    found = in_turn({"side": sleep}, rounds=2, shared=True)["side"]
    assert set(threads) == {1}
    assert found.threads == 1
    assert found.timing.seconds < 0.04


def test_the_command_prints_draws_and_writes_every_cell(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(roofline, "measure_peaks", lambda **_: PEAKS)
    monkeypatch.setattr(roofline, "LEAST_SECONDS", 0.0)
    file, picture = tmp_path / "scan.json", tmp_path / "scan.svg"
    grid = ["--hidden-sizes", "4", "8", "--batches", "1", "--steps", "3", "--slots", "2", "5", "--rounds", "2"]
    assert bench(["scan", *grid, "--json", str(file), "--plot", str(picture)]) == 0
    assert "/ nn.LSTM" in capsys.readouterr().out
    assert picture.stat().st_size > 1000
    rows = json.loads(file.read_text())["rows"]
    assert len(rows) == 2 * (1 + 2 * 2)
    assert all(row["low"] <= row["ratio_to_lstm"] <= row["high"] for row in rows)


def test_a_grid_without_cells_is_an_error() -> None:
    with pytest.raises(UserError, match="--most"):
        bench(["scan", "--hidden-sizes", "1024", "--batches", "256", "--steps", "1000", "--most", "1"])

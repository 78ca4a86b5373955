"""`sab-agents bench`: ratios of one run, fair to both sides; no assertion on how fast anything is."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from sab_agents import SAB, OnlineLearner
from sab_agents.kernels import kernel_in_use
from sab_agents.train.bench import core, stream, stream_long
from sab_agents.train.bench.timing import race, thread_counts
from sab_agents.train.cli import main
from sab_agents.train.commands.bench import command as bench


def test_sides_take_turns_and_each_keeps_its_best_thread_count() -> None:
    calls: list[tuple[str, int]] = []

    def side(name: str, seconds: float) -> None:
        calls.append((name, torch.get_num_threads()))
        time.sleep(seconds)

    before = torch.get_num_threads()
    timings = race({"slow": lambda: side("slow", 0.02), "fast": lambda: side("fast", 0.001)}, rounds=3)
    assert torch.get_num_threads() == before
    for start, threads in enumerate(thread_counts()):
        part = calls[8 * start : 8 * start + 8]  # one warm-up and three rounds of both sides
        assert part == [("slow", threads), ("fast", threads)] * 4
    assert timings["slow"].low <= timings["slow"].seconds <= timings["slow"].high
    assert timings["slow"].seconds > timings["fast"].seconds


def test_the_plain_loop_that_is_timed_computes_the_same() -> None:
    torch.manual_seed(0)
    sab = SAB(3, 4, top_k=2, bptt_steps=2)
    plain = core.PlainLoopSAB(3, 4, top_k=2, bptt_steps=2)
    plain.load_state_dict(sab.state_dict())
    x = torch.randn(9, 2, 3)
    torch.testing.assert_close(sab(x)[0], plain(x)[0])


def test_the_command_prints_and_writes_ratios_to_both_peers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sab_agents.train.bench.sequences.SHAPES", ((2, 4, 6),))
    file = tmp_path / "bench.json"
    assert bench(["core", "--rounds", "2", "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "nn.LSTM" in printed
    assert "threads" in printed
    rows = {row["side"]: row for row in json.loads(file.read_text())["rows"]}
    sides = {"nn.LSTM", "SAB mlp", "SAB dot", "plain loop mlp", "plain loop dot"}
    if kernel_in_use("cpu", torch.float32) == "native":
        sides |= {"SAB mlp, torch", "SAB dot, torch"}
        assert rows["SAB mlp, torch"]["ratio_to_plain_loop"] is not None
    assert set(rows) == sides
    assert f"kernel: {kernel_in_use('cpu', torch.float32)}" in printed
    lstm, sab, loop = (rows[side]["milliseconds"] for side in ("nn.LSTM", "SAB mlp", "plain loop mlp"))
    assert rows["SAB mlp"]["ratio_low"] <= rows["SAB mlp"]["ratio_to_lstm"] <= rows["SAB mlp"]["ratio_high"]
    assert rows["SAB mlp"]["ratio_low"] <= sab / lstm <= rows["SAB mlp"]["ratio_high"]
    assert rows["SAB mlp"]["ratio_to_plain_loop"] == pytest.approx(sab / loop, rel=0.02)
    assert rows["nn.LSTM"]["ratio_to_plain_loop"] is None


def test_slow_sides_can_be_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sab_agents.train.bench.sequences.SHAPES", ((2, 4, 6),))
    file = tmp_path / "bench.json"
    assert bench(["core", "--rounds", "2", "--no-loops", "--json", str(file)]) == 0
    rows = json.loads(file.read_text())["rows"]
    assert [row["side"] for row in rows] == ["nn.LSTM", "SAB mlp", "SAB dot"]


def test_an_unknown_benchmark_is_one_line_of_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "cores"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_step_prints_every_side_and_writes_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sab_agents.train.bench.step.REPEATS", 1)
    file = tmp_path / "step.json"
    assert bench(["step", "--rounds", "1", "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    figures = json.loads(file.read_text())
    assert f"kernel: {figures['kernel']}" in printed
    found = {(row["what"], row["side"]): row for row in figures["rows"]}
    for side in ("nn.LSTMCell", "SAB mlp", "SAB dot"):
        row, peer = found["step, 1 row", side], found["step, 1 row", "nn.LSTMCell"]
        assert row["low"] <= row["microseconds"] <= row["high"]
        assert row["ratio"] == pytest.approx(row["microseconds"] / peer["microseconds"])
    assert {what for what, _ in found} == {
        "step, 1 row",
        "step, 8 rows",
        "step, 16 rows",
        "window of 8, forward + backward",
    }


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("what", ["core", "agents"])
def test_a_gpu_that_is_not_there_is_one_line_of_error(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", what, "--device", "cuda"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_another_dtype_is_measured_by_the_kernel_that_takes_it() -> None:
    rows = core.measure((2, 4, 3), {"top_k": 2}, rounds=1, dtype="bfloat16")
    assert [row.side for row in rows] == ["nn.LSTM", "SAB mlp", "plain loop mlp", "SAB dot", "plain loop dot"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu_the_fused_kernel_is_measured_beside_torch() -> None:
    rows = core.measure((2, 16, 8), {"top_k": 2}, rounds=1, device="cuda")
    assert "SAB mlp, torch" in [row.side for row in rows]


@pytest.mark.plots
def test_a_stream_is_timed_and_followed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sab_agents.train.bench.stream.BATCH", 4)
    monkeypatch.setattr("sab_agents.train.bench.stream_long.SETTLED", 100)
    file, picture = tmp_path / "stream.json", tmp_path / "stream.png"
    assert bench(["stream", "--rounds", "1", "--steps", "2000", "--json", str(file), "--plot", str(picture)]) == 0
    printed = capsys.readouterr().out
    assert "one thread" in printed
    assert "last tenth / first tenth" in printed
    assert "last tenth / a young stream's first tenth" in printed
    facts = json.loads(file.read_text())
    sides = {(row["side"], row["kernel"]) for row in facts["rows"]}
    assert ("learn_one", kernel_in_use("cpu", torch.float32)) in sides
    assert {("LSTM, truncated BPTT: learn_one", way) for way in ("torch", kernel_in_use("cpu", torch.float32))} <= sides
    assert facts["course"]["steps"] == 2000
    assert len(facts["course"]["microseconds_by_tenths"]["wall"]) == 10
    assert len(facts["course"]["memory_kib"]) == 200
    assert set(facts["course"]["old_to_young"]) == {"wall", "processor"}
    assert picture.stat().st_size > 10_000


def test_a_stream_that_gets_slower_is_seen_beside_a_young_one(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0

    class Ageing:
        """Takes a second for each step, and a thousandth more for each that it has taken."""

        def __init__(self) -> None:
            self.taken = 0
            self.ledger = SimpleNamespace(pieces=0)

        def learn_one(self, _x: Any, _y: Any) -> None:
            nonlocal clock
            clock += 1 + self.taken / 1000
            self.taken += 1

    monkeypatch.setattr("time.perf_counter", lambda: clock)
    monkeypatch.setattr("sab_agents.train.bench.stream_long.TURN", 7)
    draw = stream.endless()
    course = stream_long.follow(lambda: (cast(OnlineLearner, Ageing()), draw), 4000)
    # the young one had taken 7 steps: 7 to 406 beside 3600 to 3999
    assert course.aged("wall") == pytest.approx((1 + 3.7995) / (1 + 0.2065))


def test_a_stream_too_short_to_follow_is_refused() -> None:
    assert main(["bench", "stream", "--rounds", "1", "--steps", "100"]) == 2


def test_agent_step_prints_what_a_learned_step_a_prediction_and_the_environment_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("stream", "agent_step"):
        monkeypatch.setattr(f"sab_agents.train.bench.{module}.BATCH", 2)
    file = tmp_path / "agent.json"
    assert bench(["agent-step", "--rounds", "1", "--json", str(file)]) == 0
    assert "environment alone" in capsys.readouterr().out
    found = {row["side"]: row for row in json.loads(file.read_text())["rows"]}
    expected = {"environment alone", "OnlineLearner: learn_one"}
    for policy in ("MlpSabPolicy", "MlpLstmPolicy", "MlpRtuPolicy"):
        expected |= {f"StreamAC {policy}: learned step", f"StreamAC {policy}: predict"}
    expected |= {f"RecurrentPPO {policy}: predict" for policy in ("MlpSabPolicy", "MlpLstmPolicy")}
    assert set(found) == expected
    assert all(row["low"] <= row["microseconds"] <= row["high"] for row in found.values())

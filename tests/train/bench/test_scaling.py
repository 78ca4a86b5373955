"""`sab-agents bench scaling`: full memories, steps as units, flat memory in chunks; no assertion on how fast it is."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sab_agents import SAB, SABState
from sab_agents.kernels import kernel_in_use
from sab_agents.train.bench import growth, memory, scaling, scaling_work
from sab_agents.train.bench.scaling import Axis
from sab_agents.train.bench.scaling_work import CHUNKED, INFERENCE, LSTM, PLAIN_LOOPS, SABS, TRAINING, Size, make_work
from sab_agents.train.bench.timing import Timing
from sab_agents.train.commands.bench import command as bench

SETTINGS: dict[str, Any] = {"attention_size": 3, "top_k": 2, "bptt_steps": 2, "write_every": 2}


@pytest.mark.parametrize("side", [*SABS, *PLAIN_LOOPS])
def test_every_step_meets_a_full_memory_and_the_state_is_carried_between_chunks(
    side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling_work, "CHUNK", 4)
    seen: list[SABState] = []
    original = SAB._run

    def spy(self: Any, x: Any, state: SABState, episode_start: Any) -> Any:
        seen.append(state)
        return original(self, x, state, episode_start)

    monkeypatch.setattr(SAB, "_run", spy)
    whole, chunks = (make_work(side, what, Size(10, 2, 4, 3), SETTINGS)() for what in (INFERENCE, CHUNKED))
    assert [int(state.step[0]) for state in seen] == [6, 6, 10, 14]
    assert all(state.filled.all() for state in seen)
    assert [sorted(state.written_at[0].tolist()) for state in seen] == [[1, 3, 5]] * 2 + [[5, 7, 9], [9, 11, 13]]
    torch.testing.assert_close(whole[0][8:], chunks[0])  # the output of the last call
    for left, right in zip(whole[1:], chunks[1:], strict=True):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("side", [LSTM, *SABS, *PLAIN_LOOPS])
def test_inference_keeps_no_graph_and_training_does(side: str) -> None:
    size = Size(3, 2, 4, 3)
    assert not make_work(side, INFERENCE, size, SETTINGS)()[0].requires_grad
    assert make_work(side, TRAINING, size, SETTINGS)()[0].requires_grad


def test_the_time_of_a_step_is_that_of_all_repeats_by_their_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: dict[tuple[str, int], int] = {}

    def made(side: str, _what: str, size: Size, _settings: dict[str, Any]) -> Any:
        def work() -> None:
            calls[side, size.steps] = calls.get((side, size.steps), 0) + 1

        return work

    def timed(works: Any, _rounds: int) -> Any:
        for work in works.values():
            work()
        return {key: Timing(12.0, 6.0, 24.0, 1) for key in works}

    monkeypatch.setattr(scaling, "make_work", made)
    monkeypatch.setattr(scaling, "race", timed)
    monkeypatch.setattr(scaling, "peaks", lambda jobs, _: [None] * len(jobs))
    sizes = Size(2, 1, 4, 3), Size(5, 1, 4, 3)
    axis = Axis("steps", sizes, (INFERENCE,), base=2, loop_until=2, least_steps=6)
    figures = {(figure.side, figure.size.steps): figure for figure in scaling.measure(axis, {}, 1, lambda _: None)}
    assert calls == {(side, T): {2: 3, 5: 2}[T] for side in (LSTM, *SABS) for T in (2, 5)} | {
        (side, 2): 1 for side in PLAIN_LOOPS
    }
    assert set(figures) == set(calls)
    sab, loop = figures["SAB mlp", 5], figures["plain loop mlp", 2]
    assert (sab.timing.seconds, sab.timing.low, sab.timing.high) == pytest.approx((1.2, 0.6, 2.4))
    assert loop.timing.seconds == pytest.approx(6.0)
    assert sab.to_base == pytest.approx(1.2 / 2.0)
    assert figures["SAB mlp", 2].to_loop == pytest.approx(2.0 / 6.0)
    assert sab.to_loop is None


def test_with_plain_torch_the_longest_sequences_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAB_KERNEL", "torch")
    monkeypatch.setattr(scaling, "TORCH_STEPS", 2)
    axis = Axis("steps", (Size(2, 1, 4, 3), Size(5, 1, 4, 3)), (TRAINING,), base=2, loop_until=0, least_steps=1)
    assert {figure.size.steps for figure in scaling.measure(axis, SETTINGS, 1, lambda _: None)} == {2}


PEAKS = """
import torch
from sab_agents.train.bench import memory

def after():  # 48 MB, given back at once, then 40 MB that are returned
    torch.ones(12_000_000)
    return [torch.ones(10_000_000)]

def beside():
    scratch = torch.ones(12_000_000)
    return [torch.ones(10_000_000) * scratch[0]]

print(memory.peak_beyond(after), memory.peak_beyond(beside))
"""


def test_the_peak_counts_what_is_freed_again_but_not_what_is_returned() -> None:
    # In a process of its own: here memory that other tests gave back would be used again, unseen.
    printed = subprocess.run([sys.executable, "-c", PEAKS], check=True, capture_output=True, text=True).stdout
    if "None" in printed:
        pytest.skip("needs the resident sizes of Linux's /proc")
    after, beside = (float(value) for value in printed.split())
    assert 4e6 < after < 16e6  # 48 MB and 40 MB were there one after the other
    assert 84e6 < beside < 96e6  # the scratch, and the first 40 MB beside their product


def test_a_system_without_these_figures_gives_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "STATUS", tmp_path / "status")
    assert memory.peak_beyond(list) is None


def test_memory_of_inference_does_not_grow_with_the_sequence() -> None:
    sizes = [Size(T, 1, 64, 16) for T in (4_000, 40_000)]
    jobs = [("SAB dot", what, size) for what in (INFERENCE, CHUNKED) for size in sizes]
    short, long, short_chunks, long_chunks = memory.peaks(jobs, SETTINGS)
    if short is None or long is None or short_chunks is None or long_chunks is None:
        pytest.skip("needs the resident sizes of Linux's /proc")
    scale = 1 if kernel_in_use("cpu", torch.float32) == "native" else 8
    assert abs(long - short) < 1e6 * scale
    assert abs(long_chunks - short_chunks) < 1e6 * scale


def test_the_command_prints_a_table_for_each_dimension_and_writes_all_figures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = Size(3, 2, 4, 5)
    axes = tuple(
        Axis(field, (size, replace(size, **{field: 7})), passes, getattr(size, field), getattr(size, field), 1)
        for field, passes in (
            ("steps", (INFERENCE, CHUNKED, TRAINING)),
            ("slots", (INFERENCE, TRAINING)),
            ("hidden_size", (TRAINING,)),
        )
    )
    monkeypatch.setattr(scaling, "AXES", axes)
    monkeypatch.setattr(scaling, "peaks", lambda jobs, _: [1_500_000] * len(jobs))
    file = tmp_path / "scaling.json"
    picture = tmp_path / "scaling.png"
    assert bench(["scaling", "--rounds", "2", "--json", str(file), "--plot", str(picture)]) == 0
    assert picture.stat().st_size > 1000
    printed = capsys.readouterr().out
    kernel = kernel_in_use("cpu", torch.float32)
    assert f"kernel: {kernel}" in printed
    assert [f"Growing {name}" in printed for name in ("T", "slots", "H")] == [True] * 3
    assert "1.5" in printed
    assert "exponents" in printed
    saved = json.loads(file.read_text())
    assert saved["kernel"] == kernel
    rows = saved["rows"]
    sides = 3 * 2 + 2  # nn.LSTM and two SABs at both sizes, two plain loops at the smaller one
    assert [sum(row["axis"] == axis.field for row in rows) for axis in axes] == [3 * sides, 2 * sides, sides]
    found = {
        (row["side"], row["slots"]): row
        for row in rows
        if (row["axis"], row["pass"]) == ("slots", "forward + backward")
    }
    sab, lstm, loop = (found[side, 5] for side in ("SAB mlp", LSTM, "plain loop mlp"))
    time = "microseconds_per_step"
    assert sab["low"] <= sab[time] <= sab["high"]
    assert sab["ratio_to_lstm"] == pytest.approx(sab[time] / lstm[time], rel=0.02)
    assert sab["ratio_to_plain_loop"] == pytest.approx(sab[time] / loop[time], rel=0.02)
    assert sab["ratio_to_base"] == 1
    assert found["SAB mlp", 7]["ratio_to_base"] == pytest.approx(found["SAB mlp", 7][time] / sab[time], rel=0.02)
    assert found["SAB mlp", 7]["ratio_to_plain_loop"] is None
    assert sab["peak_extra_bytes"] is None
    assert all(row["peak_extra_bytes"] == 1_500_000 for row in rows if row["pass"] == INFERENCE and row["side"] == LSTM)


def test_an_exponent_is_that_of_the_power_by_which_the_cost_grows() -> None:
    axis = Axis("batch", tuple(Size(1, B, 4, 3) for B in (1, 4, 16)), (TRAINING,), base=1, loop_until=0, least_steps=1)

    def figure(size: Size, seconds: float, side: str) -> scaling.Figure:
        return scaling.Figure(size, TRAINING, side, Timing(seconds, 0.0, 1.0, 1), 1.0, 1.0, None, None)

    figures = [figure(size, size.batch**1.5, "SAB dot") for size in axis.sizes]
    figures += [figure(size, seconds, LSTM) for size, seconds in zip(axis.sizes, (1.0, 1.0, 4.0), strict=True)]
    found = {each.side: each for each in growth.growths(axis, figures)}
    assert (found["SAB dot"].exponent, found["SAB dot"].last) == pytest.approx((1.5, 1.5))
    assert (found[LSTM].exponent, found[LSTM].last) == pytest.approx((0.5, 1.0))
    assert found[LSTM].expected == 1

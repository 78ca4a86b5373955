"""What is reported of the memory is what the rollout's reads and the credit of its minibatches say, counted by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.logger import configure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from sab_agents import RecurrentPPO
from sab_agents.ppo import memory_report
from sab_agents.ppo.memory_report import (
    TALLEST,
    ZOOM,
    MemoryReport,
    bars_by_power,
    fractions_by_distance,
    label_of,
    text_of,
)
from sab_agents.streaming import Credit, SABWindow
from tests.ppo.cases import agent, collect


def window_of(**settings: Any) -> SABWindow:
    """The second rollout of an agent whose episodes cross rollouts."""
    model = agent(lengths=(5, 11, 40), **settings)
    collect(model, 2)
    window = model.collector.rollout().actor
    assert isinstance(window, SABWindow)
    return window


def weighted(pairs: Sequence[tuple[float, float]]) -> float:
    return sum(distance * amount for distance, amount in pairs) / sum(amount for _, amount in pairs)


def learned(tmp_path: Path, steps: int, **settings: Any) -> tuple[RecurrentPPO, EventAccumulator]:
    model = agent(**settings)
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    model.learn(steps)
    return model, EventAccumulator(str(tmp_path)).Reload()


def test_reads_are_told_by_their_distance() -> None:
    window = window_of()
    steps = window.steps
    pairs = [
        (int(steps.step[t, row]) - 1 - int(steps.read_step[t, row, k]), float(steps.weight[t, row, k]))
        for t, row, k in np.ndindex(*steps.weight.shape)
        if steps.weight[t, row, k] > 0
    ]
    assert len(pairs) > 20
    assert min(distance for distance, _ in pairs) >= 1
    assert max(distance for distance, _ in pairs) > 8  # beyond the rollout
    assert MemoryReport(window).scalars()["read_distance"] == pytest.approx(weighted(pairs))


def test_credit_is_told_by_its_distance_and_summed_over_minibatches() -> None:
    window = window_of()
    before = window.before
    report = MemoryReport(window)
    found = report.scalars()
    assert found["filled_slots"] == pytest.approx(float(before.filled.sum()) / 3)
    assert found["credited_slots"] == found["dropped_links"] == 0
    assert not {"credit_distance", "credit_norm", "window_gradient", "credit_gradient"} & found.keys()
    first, second = torch.zeros(before.filled.shape), torch.zeros(before.filled.shape)
    row, slot = (int(each) for each in before.filled.nonzero()[0])
    other_row, other_slot = (int(each) for each in before.filled.nonzero()[-1])
    first[row, slot], second[row, slot], second[other_row, other_slot] = 1.0, 2.0, 5.0
    report.add(Credit(first, 1, 3))
    report.add(Credit(second, 2, 4))
    report.add(None)
    pairs = [
        (int(before.step[r]) - int(before.written_at[r, s]), norm)
        for r, s, norm in ((row, slot, 3.0), (other_row, other_slot, 5.0))
    ]
    found = report.scalars()
    assert found["credit_distance"] == pytest.approx(weighted(pairs))
    assert found["credited_slots"] == pytest.approx(2 / 3)
    assert found["credit_norm"] == pytest.approx(8 / 2)
    assert found["dropped_links"] == 7


def test_credit_that_overflowed_is_left_out() -> None:
    window = window_of()
    report = MemoryReport(window)
    norm = torch.zeros(window.before.filled.shape)
    norm[0, 0], norm[0, 1] = float("nan"), float("inf")
    report.add(Credit(norm, 2, 0))
    assert report.scalars()["credited_slots"] == 0


def test_an_update_reports_credit_of_earlier_rollouts_and_an_uncredited_agent_none(tmp_path: Path) -> None:
    credited = learned(tmp_path / "sab", 96, lengths=(30, 30, 30))[1]
    distances = [event.value for event in credited.Scalars("memory/credit_distance")]
    # stable-baselines3 writes what an update recorded after the next rollout; the first has nothing before it.
    assert len(distances) == 2
    assert all(1 <= distance <= 24 for distance in distances)
    assert credited.Scalars("memory/credited_slots")[0].value == 0
    assert credited.Scalars("memory/credited_slots")[-1].value > 0
    assert len(credited.Scalars("memory/read_distance")) == 3
    without = learned(tmp_path / "uncredited", 96, policy_kwargs={"core_kwargs": {"credit_depth": 0}})[1]
    assert "memory/credit_distance" not in without.Tags()["scalars"]
    assert {event.value for event in without.Scalars("memory/credited_slots")} == {0.0}


def test_an_agent_without_slots_reports_nothing_of_them(tmp_path: Path) -> None:
    tags = learned(tmp_path, 48, kind="Lstm")[1].Tags()
    assert "train/loss" in tags["scalars"]
    assert not [name for name in tags["scalars"] + tags["images"] if name.startswith("memory/")]


def test_an_image_is_drawn_at_intervals_for_tensorboard_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory_report, "IMAGE_EVERY", 3)
    logs = learned(tmp_path, 24 * 7)[1]
    for name in ("attention", "credit"):
        assert [event.step for event in logs.Images(f"memory/{name}_by_distance")] == [24 * 4, 24 * 7]
    model = agent()
    model.set_logger(configure(None, ["stdout"]))
    monkeypatch.setattr(MemoryReport, "images", lambda _: pytest.fail("was drawn for nobody"))
    model.learn(24 * 3)
    assert "credited_slots" in capsys.readouterr().out


def test_shares_are_those_of_powers_of_two() -> None:
    distance = torch.tensor([1, 2, 3, 4, 7, 8, 1 << 20, 5])
    amount = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 1.0, 0.0])
    shares = fractions_by_distance(distance, amount)
    assert shares[:4] == pytest.approx([1 / 8, 2 / 8, 2 / 8, 2 / 8])
    assert len(shares) == 21
    assert shares[20] == pytest.approx(1 / 8)
    assert fractions_by_distance(distance, torch.zeros(8)) == []


def test_a_bar_is_as_tall_as_its_share() -> None:
    image = bars_by_power([0.25, 0.75, 0.0], (10, 20, 30))
    width = image.shape[1] // 3
    heights = [
        int((image[:, place * width + width // 2] == (10, 20, 30)).all(axis=1).sum()) // ZOOM for place in range(3)
    ]
    assert heights == [TALLEST // 4, 3 * TALLEST // 4, 0]


def test_labels_say_where_distances_begin() -> None:
    assert [label_of(power) for power in (0, 1, 9, 10, 13, 19, 20, 31)] == [
        "1", "2", "512", "1k", "8k", "512k", "1M", "2048M",
    ]  # fmt: skip
    drawn = ["".join("#" if dot else "." for dot in row) for row in text_of("17")]
    assert drawn == [".#..###", "##....#", ".#....#", ".#...#.", "###..#."]

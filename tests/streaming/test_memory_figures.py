"""Figures of reads, writes and credit are what one counts with plain numbers from what a stream recorded."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import pytest
import torch
from torch import Tensor

from sab_agents import SAB
from sab_agents.streaming import Reads, SABStream, credit_figures, credited, held_figures, open_figures
from sab_agents.streaming.memory_figures import TAKEN


def stream(**settings: Any) -> SABStream:
    torch.manual_seed(0)
    core = SAB(3, 6, attention_size=4, top_k=2, bptt_steps=4, capacity=5, attention="dot")
    chosen = {"write": "novel", **({} if settings.get("write") == "every" else {"novelty": 0.5}), **settings}
    return SABStream(core, rows=3, **chosen)


def taken(steps: int, **settings: Any) -> SABStream:
    """A stream with a window before the present one, of so many steps, in some of which episodes start."""
    made = stream(**settings)
    generator = torch.Generator().manual_seed(1)
    for step in range(7 + steps):
        if step == 7:
            made.advance()
        made.step(torch.randn(3, 3, generator=generator), torch.rand(3, generator=generator) < 0.1)
    return made


def reads_of(made: SABStream) -> Reads:
    return Reads.of(made.recorded(), made.before.filled.any(1))


def by_hand(window: dict[str, Tensor], filled: list[bool]) -> dict[str, float]:
    """The figures of reads and writes, counted one step after the other."""
    steps, rows, _ = window["weight"].shape
    wrote = took = could = declined = 0
    amounts: list[tuple[int, float, bool]] = []
    changes, varieties = [], []
    for row in range(rows):
        held, episode = filled[row], 0
        shares: list[dict[tuple[int, int], float]] = []
        for t in range(steps):
            if window["start"][t, row]:
                held, episode = False, episode + 1
            weights = window["weight"][t, row].tolist()
            could += held
            declined += held and sum(weights) < TAKEN
            if sum(weights) >= TAKEN:
                took += 1
                shares.append({})
            for weight, written_at in zip(weights, window["read_step"][t, row].tolist(), strict=True):
                if weight > 0:
                    distance = int(window["step"][t, row]) - 1 - written_at
                    amounts.append((distance, weight, distance > t))
                    if sum(weights) >= TAKEN:
                        shares[-1][episode, written_at] = weight / sum(weights)
            if window["write_slot"][t, row] >= 0:
                wrote, held = wrote + 1, True
        mean: dict[tuple[int, int], float] = defaultdict(float)
        for share in shares:
            for memory, part in share.items():
                mean[memory] += part / len(shares)
        if shares:
            varieties.append(math.exp(-sum(part * math.log(part) for part in mean.values())))
        changes += [sum(abs(share.get(each, 0) - mean[each]) for each in mean) / 2 for share in shares]
    total = sum(weight for _, weight, _ in amounts)
    return {
        "write_rate": wrote / (steps * rows),
        "reading_steps": took / (steps * rows),
        "declined_reads": declined / could,
        "read_distance": sum(distance * weight for distance, weight, _ in amounts) / total,
        "read_before": sum(weight for _, weight, before in amounts if before) / total,
        "read_memories": sum(varieties) / len(varieties),
        "read_change": sum(changes) / len(changes),
    }


@pytest.mark.parametrize("settings", [{}, {"write": "every"}, {"write": "every", "eviction": "oldest"}])
def test_reads_and_writes_are_those_that_were_recorded(settings: dict[str, Any]) -> None:
    made = taken(30, **settings)
    window = made.recorded()
    assert len(window["start"]) == 30
    assert window["start"].any()
    expected = by_hand(window, made.before.filled.any(1).tolist())
    assert 0 < expected["read_before"] < 1
    assert expected["read_change"] > 0.2
    assert reads_of(made).figures() == pytest.approx(expected, rel=1e-5)


def test_windows_that_are_joined_give_the_figures_of_one_long_window() -> None:
    made, parts = taken(0), []
    made.advance()
    generator = torch.Generator().manual_seed(2)
    for first in (0, 10, 20):
        for _ in range(10):
            made.step(torch.randn(3, 3, generator=generator))
        window = {name: each.clone() for name, each in made.recorded().items()}
        parts.append((window, made.before.filled.any(1), first))
        made.advance()
    whole = {name: torch.cat([window[name] for window, _, _ in parts]) for name in parts[0][0]}
    joined = Reads.joined([Reads.of(*part) for part in parts]).figures()
    expected = by_hand(whole, parts[0][1].tolist())
    # Of a window, not of the whole, is what "before" means.
    assert joined.pop("read_before") > expected.pop("read_before")
    assert joined == pytest.approx(expected, rel=1e-5)


def test_a_read_of_ties_is_declined_and_a_memory_that_is_always_read_alike_does_not_change() -> None:
    made = stream(write="every")
    with torch.no_grad():
        made.core.attention.key.weight.zero_()
    for _ in range(12):
        made.step(torch.randn(3, 3))
    # Of 12 steps the first finds nothing, two read all that there is, and for the others all scores tie.
    found = reads_of(made).figures()
    assert found["reading_steps"] == pytest.approx(2 / 12)
    assert found["declined_reads"] == pytest.approx(9 / 11)
    still = stream(novelty=1e3)
    for _ in range(12):
        still.step(torch.randn(3, 3))
    found = reads_of(still).figures()
    assert found["read_change"] == 0
    assert found["read_memories"] == pytest.approx(1)
    assert found["write_rate"] == pytest.approx(1 / 12)


def test_a_window_in_which_nothing_was_read_has_no_figures_of_reads() -> None:
    made = stream()
    made.step(torch.randn(3, 3))
    assert reads_of(made).figures() == {"write_rate": 1.0, "reading_steps": 0.0}


def test_the_memory_is_told_as_it_is() -> None:
    made = taken(9)
    state = made.state
    slots = [(int(row), int(slot)) for row, slot in state.filled.nonzero()]
    ages = [int(state.step[row] - state.written_at[row, slot]) for row, slot in slots]
    newest = [min(age for age, (own, _) in zip(ages, slots, strict=True) if own == row) for row in range(3)]
    assert held_figures(state) == pytest.approx({
        "filled_slots": len(slots) / 3,
        "used_slots": sum(float(state.usage[each]) >= TAKEN for each in slots) / 3,
        "episode_steps": float(state.step.float().mean()),
        "steps_since_write": sum(newest) / 3,
        "held_age": sum(ages) / len(ages),
        "largest_h": max(float(state.h.abs().max()), float(state.memory.abs().max())),
    })  # fmt: skip
    empty = held_figures(stream().state)
    assert "held_age" not in empty
    assert empty["steps_since_write"] == 0


def test_credit_is_counted_per_slot() -> None:
    distance = torch.tensor([[3, 5], [2, 9]])
    norm = torch.tensor([[1.0, 0.0], [0.5, 2.5]])
    expected = {"credited_slots": 1.5, "credit_norm": 4 / 3, "credit_distance": (3 + 1 + 22.5) / 4}
    assert credit_figures(distance, norm) == pytest.approx(expected)
    assert credit_figures(distance, torch.zeros(2, 2)) == {"credited_slots": 0.0}


def test_window_and_credit_have_the_norms_of_their_gradients() -> None:
    made = taken(6, write="every")
    weight = made.core.cell.weight_hh
    replay = made.replay()
    replay.backward(torch.ones_like(replay.outputs))
    window = torch.cat([each.grad.flatten().clone() for each in made.core.parameters() if each.grad is not None])
    credit, norms = credited(made.core, made.credit)
    whole = torch.cat([each.grad.flatten() for each in made.core.parameters() if each.grad is not None])
    assert weight.grad is not None
    assert credit.norm.any()
    assert norms.window == pytest.approx(float(window.norm()))
    assert norms.credit == pytest.approx(float((whole - window).norm()))
    assert norms.credit > 0


def test_a_stream_that_learns_each_step_tells_of_its_open_segment() -> None:
    made = stream()
    for step in range(6):
        made.step_and_replay(torch.randn(3, 3), torch.full((3,), step == 0))
        made.backward(torch.ones(3, 12))
    found = open_figures(made)
    assert found["episode_steps"] == 6
    assert found["read_distance"] == pytest.approx(reads_of(made).figures()["read_distance"])
    assert found["credited_slots"] > 0
    assert "write_rate" not in open_figures(stream())

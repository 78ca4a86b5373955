"""The rules of eviction and writing against plain calculations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sab_agents.core.state import SABState
from sab_agents.kernels import forced_kernel, kernel_in_use
from sab_agents.streaming.eviction import Eviction, eviction_order, is_novel, next_slots, reservoir_slots
from sab_agents.streaming.statistics import SlotStatistics

WRITTEN = [40, 3, 17, 25, 8, 31, 12, 22]


def state_of(memory: Tensor, written_at: list[int], filled: list[bool] | None = None) -> SABState:
    slots = memory.shape[0]
    held = torch.ones(1, slots, dtype=torch.bool) if filled is None else torch.tensor([filled])
    zeros = torch.zeros(1, memory.shape[1])
    return SABState(zeros, zeros, memory.unsqueeze(0), held, torch.tensor([written_at]), torch.tensor([50]))


def order(rule: Eviction, state: SABState, usage: list[float], credit: list[float]) -> list[int]:
    found: list[int] = eviction_order(rule, state, SlotStatistics(torch.tensor([usage]), torch.tensor([credit])))[
        0
    ].tolist()
    return found


def test_the_least_useful_goes_first_and_the_newest_quarter_last() -> None:
    state = state_of(torch.randn(8, 2), WRITTEN)
    usage = [0.0, 0.5, 0.1, 0.2, 0.1, 0.0, 0.9, 0.3]
    credit = [9.0, 0.0, 2.0, 1.0, 3.0, 0.0, 5.0, 4.0]
    assert order("oldest", state, usage, credit) == [1, 4, 6, 2, 7, 3, 5, 0]
    # 0 and 5 are the newest two of eight; of the equal 4 and 2 the older one, 4, goes first.
    assert order("least_used", state, usage, credit)[:6] == [4, 2, 3, 7, 1, 6]
    assert order("least_credited", state, usage, credit)[:6] == [1, 3, 2, 4, 7, 6]


def test_empty_slots_are_taken_before_any_other_in_their_order() -> None:
    filled = [True, True, False, True, True, False, True, True]
    written = [step if held else 0 for step, held in zip(WRITTEN, filled, strict=True)]
    state = state_of(torch.randn(8, 2), written, filled)
    for rule in ("oldest", "least_used", "least_credited", "most_redundant"):
        assert order(rule, state, [0.0] * 8, [0.0] * 8)[:2] == [2, 5]


@pytest.mark.parametrize("rule", ["oldest", "least_used", "least_credited", "most_redundant"])
def test_the_next_slots_are_the_first_of_the_order_whichever_code_sorts_them(rule: Eviction) -> None:
    generator = torch.Generator().manual_seed(0)
    for rows, slots, count in ((1, 1, 1), (3, 7, 7), (5, 64, 16), (2, 33, 8)):
        memory = torch.randn(rows, slots, 3, generator=generator)
        filled = torch.rand(rows, slots, generator=generator) < torch.rand(rows, 1, generator=generator) * 1.5
        written = torch.stack([torch.randperm(slots, generator=generator) for _ in range(rows)]) * filled
        # few different numbers, so that many are equal, and one that is none
        usage, credit = (torch.randint(3, (rows, slots), generator=generator) / 2 for _ in range(2))
        usage[0, 0], credit[-1, -1] = torch.nan, torch.inf
        zeros = torch.zeros(rows, 3)
        state = SABState(zeros, zeros, memory, filled, written, torch.full((rows,), slots))
        statistics = SlotStatistics(usage, credit)
        wanted = eviction_order(rule, state, statistics)[:, :count]
        for way in dict.fromkeys([kernel_in_use("cpu", torch.float32), "torch"]):
            with forced_kernel(way):
                assert torch.equal(next_slots(rule, state, statistics, count), wanted)


def test_of_the_closest_pair_the_older_one_goes() -> None:
    memory = torch.tensor([[0.0, 0], [5, 5], [9, 0], [5.1, 5], [0, 9.0]])
    state = state_of(memory, [1, 2, 3, 4, 5])
    assert order("most_redundant", state, [0.0] * 5, [0.0] * 5)[0] == 1
    state = state_of(memory, [1, 4, 3, 2, 5])
    assert order("most_redundant", state, [0.0] * 5, [0.0] * 5)[0] == 3


def test_the_reservoir_holds_a_uniform_sample_of_the_episode() -> None:
    generator = torch.Generator().manual_seed(0)
    slots, writes, rows = 4, 20, 20_000
    held = torch.full((rows, slots), -1)
    for count in range(1, writes + 1):
        slot = reservoir_slots(slots, torch.full((rows,), count), generator)
        kept = slot >= 0
        held[kept, slot[kept]] = count
    shares = torch.bincount(held.flatten(), minlength=writes + 1)[1:] / rows
    # Each write is held with probability S / n; five standard errors.
    assert bool(((shares - slots / writes).abs() < 5 * (0.2 * 0.8 / rows) ** 0.5).all())


def test_what_lies_within_the_distance_of_a_slot_is_not_novel() -> None:
    memory = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    state = state_of(memory, [0, 0], [True, False])
    for h, novel in (([3.0, 4.4], False), ([3.0, 4.8], True), ([0.0, 0.1], True)):
        assert bool(is_novel(torch.tensor([h]), state, 0.1)) == novel
    empty = state_of(memory, [0, 0], [False, False])
    assert bool(is_novel(torch.zeros(1, 2), empty, 0.1))

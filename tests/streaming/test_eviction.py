"""The rules of eviction and writing against plain calculations."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from sab_agents import SAB
from sab_agents.kernels import StreamState, forced_kernel, kernel_in_use
from sab_agents.kernels.torch_backend.stream import near_slot, next_slot, reservoir_slot, uniform
from sab_agents.streaming import Eviction, SABStream, SlotState

WRITTEN = [40, 3, 17, 25, 8, 31, 12, 22]
RULES: tuple[Eviction, ...] = ("oldest", "least_used", "least_credited", "most_redundant", "least_useful")


def state_of(
    memory: Tensor, written_at: list[int], filled: list[bool] | None = None, usage: Any = 0.0, credit: Any = 0.0
) -> StreamState:
    slots = memory.shape[0]
    held = torch.ones(1, slots, dtype=torch.bool) if filled is None else torch.tensor([filled])
    zeros, count = torch.zeros(1, memory.shape[1]), torch.tensor([slots])
    used, credited = (torch.tensor(each).expand(1, slots).clone() for each in (usage, credit))
    times = torch.tensor([written_at])
    return StreamState(zeros, zeros, memory.unsqueeze(0), held, times, torch.tensor([50]), used, credited, count, count)


def order(rule: Eviction, state: StreamState, count: int) -> list[int]:
    """The slots that would be taken one after the other if each lost nothing but its right to be taken again."""
    found = []
    for _ in range(count):
        slot = int(next_slot(rule, state))
        found.append(slot)
        for each in (state.usage, state.credit):
            each[0, slot] = torch.inf
        state.written_at[0, slot] += 100 if rule == "oldest" else 0
    return found


def test_the_least_useful_goes_first_and_the_newest_quarter_last() -> None:
    def state() -> StreamState:
        usage = [0.0, 0.5, 0.1, 0.2, 0.1, 0.0, 0.9, 0.3]
        credit = [9.0, 0.0, 2.0, 1.0, 3.0, 0.0, 5.0, 4.0]
        return state_of(torch.randn(8, 2), WRITTEN, usage=usage, credit=credit)

    assert order("oldest", state(), 8) == [1, 4, 6, 2, 7, 3, 5, 0]
    # 0 and 5 are the newest two of eight; of the equal 4 and 2 the older one, 4, goes first.
    assert order("least_used", state(), 6) == [4, 2, 3, 7, 1, 6]
    assert order("least_credited", state(), 6) == [1, 3, 2, 4, 7, 6]


def test_slots_that_did_harm_go_before_redundant_ones_and_only_the_oldest_quarter_goes() -> None:
    # Of sixteen slots 1, 4, 6 and 13 are the oldest. 4 and 6 did harm; 13 lies closer to a newer one than 1 does.
    written = [40, 3, 17, 25, 8, 31, 12, 22, 41, 42, 43, 44, 45, 2, 46, 47]
    place = [0.0, 10.0, 20.0, 30.0, 40.0, 30.1, 50.0, 21.0, 60.0, 70.0, 80.0, 90.0, 100.0, 91.0, 110.0, 120.0]
    credit = [-9.0, 1.0, 0.0, 0.0, -0.5, -7.0, -0.1, 3.0, 0.0, -1.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0]
    memory = torch.tensor(place).unsqueeze(1).expand(16, 2).clone()
    found = order("least_useful", state_of(memory, written, credit=credit), 3)
    assert found == [4, 6, 13]


def test_the_older_of_two_slots_goes_unless_it_is_as_much_farther_from_a_newer_one_as_it_is_older() -> None:
    # Slots 0 and 1 are the oldest, 40 and 20 steps; squared distances of 2 · 3² and 2 · 2² from the slots after them.
    written = [10, 30, 41, 42, 43, 44, 45, 46]
    place = [0.0, 20.0, 3.0, 22.0, 60.0, 70.0, 80.0, 90.0]
    memory = torch.tensor(place).unsqueeze(1).expand(8, 2).clone()
    assert order("least_useful", state_of(memory, written), 1) == [1]  # 18 / 40 of slot 0, 8 / 20 of slot 1
    assert order("most_redundant", state_of(memory, written), 1) != [0]
    written[0] = 1
    assert order("least_useful", state_of(memory, written), 1) == [0]  # 18 / 49


@pytest.mark.parametrize(("age", "distance", "goes"), [(124, 5.0, 1), (100_000, 5.0, 0), (100_000, 5.1, 1)])
def test_a_slot_counts_as_no_older_than_sixteen_times_as_many_steps_as_there_are_slots(
    age: int, distance: float, goes: int
) -> None:
    # Of slot 0 50 / 124, 50 / 128 and 52.02 / 128; of slot 1 8 / 20.
    written = [50 - age, 30, 41, 42, 43, 44, 45, 46]
    place = [0.0, 20.0, distance, 22.0, 60.0, 70.0, 80.0, 90.0]
    memory = torch.tensor(place).unsqueeze(1).expand(8, 2).clone()
    assert order("least_useful", state_of(memory, written), 1) == [goes]


@pytest.mark.parametrize(("before", "goes"), [(0, 1), (7, 1), (8, 0), (10**9, 0)])
def test_age_counts_only_in_an_episode_longer_than_all_before_it_together(before: int, goes: int) -> None:
    # Squared distances of 16 and 18 from newer slots, 20 and 40 steps old; eight writes in this episode.
    written = [30, 10, 41, 42, 43, 44, 45, 46]
    place = [0.0, 20.0, math.sqrt(8), 23.0, 60.0, 70.0, 80.0, 90.0]
    memory = torch.tensor(place).unsqueeze(1).expand(8, 2).clone()
    state = state_of(memory, written)
    assert order("least_useful", state._replace(draws=state.draws + before), 1) == [goes]


@pytest.mark.parametrize("kernel", dict.fromkeys([kernel_in_use("cpu", torch.float32), "torch"]))
def test_writes_are_counted_in_an_episode_and_in_all(kernel: str) -> None:
    with forced_kernel(kernel):
        sab = SAB(2, 3, capacity=4, write_every=2, bptt_steps=4)
        stream = SABStream(sab, 2, eviction="least_useful", write="every")
        for step in range(20):
            stream.step(torch.randn(2, 2), torch.tensor([step == 14, step in {0, 7}]))
        stream.advance()
    assert stream.state.writes.tolist() == [3, 6]
    assert stream.state.draws.tolist() == [10, 9]


def test_usefulness_is_how_much_a_read_lowered_the_loss() -> None:
    torch.manual_seed(0)
    sab = SAB(3, 4, top_k=2, capacity=4, bptt_steps=2)
    stream = SABStream(sab, 2, eviction="least_useful", write="every", decay=1.0)
    for _ in range(4):
        stream.step(torch.randn(2, 3))
    stream.advance()
    stream.step(torch.randn(2, 3))
    window = stream.window()
    loss = (window * torch.randn(window.shape)).sum()
    memory = stream._receiving() if stream._memory is None else stream._memory
    (gradient,) = torch.autograd.grad(loss, memory, retain_graph=True)
    loss.backward()  # type: ignore[no-untyped-call]
    kept = stream._kept.clone()
    stream.credit()
    expected = -(gradient * stream.before.memory).sum(dim=2) * kept
    torch.testing.assert_close(stream.state.credit, expected)
    assert bool((expected != 0).any())


@pytest.mark.parametrize("rule", RULES)
def test_empty_slots_are_taken_before_any_other_in_their_order(rule: Eviction) -> None:
    filled = [True, True, False, True, True, False, True, True]
    written = [step if held else 0 for step, held in zip(WRITTEN, filled, strict=True)]
    state = state_of(torch.randn(8, 2), written, filled)
    assert int(next_slot(rule, state)) == 2
    state.filled[0, 2] = True
    assert int(next_slot(rule, state)) == 5


@pytest.mark.parametrize("rule", RULES)
def test_every_kernel_writes_to_the_same_slot(rule: Eviction) -> None:
    generator = torch.Generator().manual_seed(0)
    for rows, slots, every in ((1, 1, 1), (3, 3, 1), (3, 7, 50), (5, 64, 1), (99, 64, 50), (2, 33, 1)):
        sab = SAB(2, 3, capacity=slots, top_k=2)
        stream = SABStream(sab, rows, eviction=rule, write="every", decay=1.0)
        memory = torch.randn(rows, slots, 3, generator=generator)
        filled = torch.rand(rows, slots, generator=generator) < torch.rand(rows, 1, generator=generator) * 1.5
        written = torch.stack([torch.randperm(slots, generator=generator) for _ in range(rows)]) * every * filled
        # few different numbers, so that many are equal, and one that is none
        usage, credit = (torch.randint(3, (rows, slots), generator=generator) / 2 for _ in range(2))
        usage[0, 0], credit[-1, -1] = torch.nan, torch.inf
        zeros, count = torch.zeros(rows, 3), torch.full((rows,), slots * every)
        all_writes = count * torch.randint(1, 4, (rows,), generator=generator)
        state = SlotState(zeros, zeros, memory, filled, written, count, usage, credit, count, all_writes + 1)
        x = torch.randn(rows, 2, generator=generator)
        found = []
        for kernel in dict.fromkeys([kernel_in_use("cpu", torch.float32), "torch"]):
            with forced_kernel(kernel):
                after = stream.act(x, state)[1]
            found.append(((after.written_at == slots * every) & after.filled).int().argmax(dim=1))
        assert all(torch.equal(each, found[0]) for each in found)
        assert rule == "least_used" or torch.equal(found[0], next_slot(rule, state.carried()))


def test_of_the_closest_pair_the_older_one_goes() -> None:
    memory = torch.tensor([[0.0, 0], [5, 5], [9, 0], [5.1, 5], [0, 9.0]])
    assert int(next_slot("most_redundant", state_of(memory, [1, 2, 3, 4, 5]))) == 1
    assert int(next_slot("most_redundant", state_of(memory, [1, 4, 3, 2, 5]))) == 3


@pytest.mark.parametrize(("across", "rows"), [("draws", 20_000), ("seeds", 1_000)])
def test_the_reservoir_holds_a_uniform_sample_of_the_episode(across: str, rows: int) -> None:
    slots, writes = 4, 20
    held = torch.full((rows, slots), -1)
    episodes = torch.arange(rows) * writes
    for count in range(1, writes + 1):
        at = torch.full((rows,), count)
        if across == "draws":  # one episode after the other
            slot = reservoir_slot(slots, at, episodes + count, seed=3)
        else:
            slot = torch.cat([reservoir_slot(slots, at[:1], at[:1], seed) for seed in range(rows)])
        kept = slot >= 0
        held[kept, slot[kept]] = count
    shares = torch.bincount(held.flatten(), minlength=writes + 1)[1:] / rows
    # Each write is held with probability S / n; five standard errors.
    assert bool(((shares - slots / writes).abs() < 5 * (0.2 * 0.8 / rows) ** 0.5).all())


def test_what_is_drawn_is_uniform_and_independent_of_the_draw_before() -> None:
    drawn = uniform(0, torch.arange(200_000))
    assert 0 <= float(drawn.min()) <= float(drawn.max()) < 1
    counts = torch.histc(drawn, bins=64, min=0, max=1)
    chi_square = float(((counts - counts.mean()) ** 2 / counts.mean()).sum())
    assert 20 < chi_square < 130  # 63 degrees of freedom
    pair = torch.stack([drawn[:-1], drawn[1:]])
    assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.01
    rows = torch.corrcoef(torch.stack([uniform(0, torch.arange(50_000) + (row << 40)) for row in range(4)]))
    assert float((rows - torch.eye(4)).abs().max()) < 0.03


def test_one_draw_follows_from_the_other_as_it_was_published() -> None:
    # The first outputs of splitmix64 with state 0 are well known.
    known = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    expected = torch.tensor([(each >> 11) * 2.0**-53 for each in known], dtype=torch.float64)
    assert torch.equal(uniform(0, torch.arange(1, 4)), expected)


def test_the_nearest_slot_is_near_if_it_lies_within_the_distance() -> None:
    memory = torch.tensor([[[3.0, 4.3], [3.0, 4.0], [0.0, 0.0]]])
    filled = torch.tensor([[True, True, False]])
    for h, near in (([3.0, 4.4], 0), ([3.0, 4.1], 1), ([3.0, 5.0], -1), ([0.0, 0.1], -1)):
        assert near_slot(torch.tensor([h]), memory, filled, 0.1).tolist() == [near]
    assert near_slot(torch.zeros(1, 2), memory, torch.zeros_like(filled), 0.1).tolist() == [-1]


@pytest.mark.parametrize("kernel", dict.fromkeys([kernel_in_use("cpu", torch.float32), "torch"]))
def test_of_steps_with_nearly_the_same_state_as_the_last_slot_the_first_is_held(kernel: str) -> None:
    torch.manual_seed(0)
    sab = SAB(3, 8, capacity=16, top_k=2)
    weights = sab.step_weights()
    with torch.no_grad():  # a state follows from its input alone
        weights.weight_hh.zero_()
        weights.bias_ih[8:16] = -100
        weights.weight_ih.mul_(5)
    seen = torch.eye(3)[[0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 2, 2]] + 0.01 * torch.rand(12, 3)
    with forced_kernel(kernel):
        stream = SABStream(sab, 2, write="changed", novelty=0.4)
        for step, x in enumerate(seen):
            stream.step(x.expand(2, 3), torch.tensor([step == 8, False]))
        stream.advance()
    held = [
        at[filled].sort().values.tolist()
        for at, filled in zip(stream.state.written_at, stream.state.filled, strict=True)
    ]
    assert held == [
        [0, 2],
        [0, 3, 5, 6, 10],
    ]  # the second row's third input of the first kind too: the last slot differs

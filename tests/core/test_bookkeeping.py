"""What stands around a scan, with the native kernel: equal to plain torch, bit by bit, gradient included."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from sab_agents import SABState
from sab_agents.core.timeline import Rules, Timeline, make_timeline, next_state
from sab_agents.kernels import Reading, ScanOutputs, all_finite, count_steps, forced_kernel, remember
from sab_agents.kernels.native_backend import extension
from tests.kernels.extension import needs_native

pytestmark = needs_native


def random_case(seed: int) -> tuple[SABState, int, Tensor | None, Rules]:
    choose = random.Random(seed)
    torch.manual_seed(seed)
    B, T, S = choose.randint(1, 4), choose.randint(1, 12), choose.randint(0, 5)
    filled = torch.rand(B, S) < 0.6
    state = SABState(
        h=torch.randn(B, 3),
        c=torch.randn(B, 3),
        memory=(torch.randn(B, S, 3) * filled.unsqueeze(2)).requires_grad_(),
        filled=filled,
        written_at=torch.randint(0, 9, (B, S)) * filled,
        step=torch.randint(0, 20, (B,)),
    )
    start = None if choose.random() < 0.3 else torch.rand(T, B) < choose.choice([0.0, 0.2])
    capacity = S if S and choose.random() < 0.5 else None
    rules = Rules(Reading(choose.randint(1, 3)), choose.randint(1, 3), choose.randint(1, 5), capacity)
    return state, T, start, rules


def computed(kernel: str, seed: int) -> tuple[Timeline, SABState, tuple[Tensor, ...]]:
    state, T, start, rules = random_case(seed)
    with forced_kernel(kernel):
        timeline = make_timeline(state, T, start, rules)
        h = torch.randn(T, state.batch_size, 3, requires_grad=True)
        empty = torch.empty(0)
        after = next_state(state, timeline, ScanOutputs(torch.cat([h, h], dim=2), state.c, empty, empty))
        loss = (after.memory * torch.randn(after.memory.shape)).sum() + after.h.sum()
    return timeline, after, torch.autograd.grad(loss, [state.memory, h], materialize_grads=True)


def test_steps_slots_and_what_is_remembered_equal_plain_torch() -> None:
    for seed in range(200):
        (timeline, after, gradients), (line, then, expected) = computed("native", seed), computed("torch", seed)
        assert timeline.plan.slots == line.plan.slots
        assert torch.equal(timeline.step, line.step)
        for name in ("start", "cut", "write_slot", "filled"):
            assert torch.equal(getattr(timeline.plan, name), getattr(line.plan, name)), (seed, name)
        for one, other in zip((*after.tensors(), *gradients), (*then.tensors(), *expected), strict=True):
            assert one.dtype == other.dtype
            assert torch.equal(one, other), seed


def test_a_number_that_is_not_finite_is_found_wherever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extension, "threads", lambda _: 3)
    for count in (1, 15, 16, 17, 64, 200):
        x = torch.full((count,), 3e38)
        assert all_finite(x)
        for i in range(count):
            for value in (torch.nan, torch.inf, -torch.inf):
                x[i] = value
                assert not all_finite(x)
            x[i] = 1.0
    assert all_finite(torch.empty(0, 2, 3))
    assert not all_finite(torch.tensor([[1.0, torch.nan], [1.0, 1.0]])[:, 1])


def test_what_would_leave_a_buffer_is_refused() -> None:
    state, T, start, rules = random_case(3)
    timeline = make_timeline(state, T, start, rules)
    h = torch.randn(T, state.batch_size, 3)
    with pytest.raises(ValueError, match="remember: step must have shape"):
        remember(timeline.plan, timeline.step[:-1], state.written_at, state.memory, h)
    timeline.plan.write_slot.fill_(timeline.plan.slots)
    with pytest.raises(ValueError, match="write_slot must lie below"):
        remember(timeline.plan, timeline.step, state.written_at, state.memory, h)
    with pytest.raises(ValueError, match="write_every and bptt_steps at least 1"):
        count_steps(state.step, None, 3, slots=0, write_every=0, bptt_steps=1)
    with pytest.raises(ValueError, match="before must be int64"):
        count_steps(state.step.float(), None, 3, slots=0, write_every=1, bptt_steps=1)

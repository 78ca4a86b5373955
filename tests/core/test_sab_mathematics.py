"""SAB against an independent implementation, numerical differentiation and full BPTT."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from sab_agents import SAB, SABState
from tests.core.independent import Row, Settings, run_row
from tests.selection import first

DOUBLE = torch.float64


def random_case(seed: int) -> tuple[SAB, Tensor, Tensor, SABState]:
    """A module, inputs, episode starts and a starting state, with settings drawn at random."""
    choose = random.Random(seed)
    torch.manual_seed(seed)
    T, B, inputs, H = choose.randint(1, 14), choose.randint(1, 4), choose.randint(1, 4), choose.randint(1, 5)
    sab = SAB(
        inputs,
        H,
        recipe="paper",
        top_k=choose.randint(1, 7),
        write_every=choose.randint(1, 3),
        bptt_steps=choose.choice([1, 2, 3, 5, T, T + 3]),
        capacity=choose.choice([None, None, 1, 3, 5]),
        attention=choose.choice(["mlp", "dot"]),
        attention_size=choose.randint(1, 5),
        summary_gain=choose.choice([1.0, 1.0, 0.5, 0.0]),
        dtype=DOUBLE,
    )
    x = torch.randn(T, B, inputs, dtype=DOUBLE)
    starts = torch.rand(T, B) < choose.choice([0.0, 0.1, 0.3])
    return sab, x, starts, random_state(sab, B, choose)


def random_state(sab: SAB, batch_size: int, choose: random.Random) -> SABState:
    """A state in the middle of episodes of different lengths, as this module would leave it."""
    rules, H = sab.rules, sab.hidden_size
    steps = [choose.randint(0, 9) for _ in range(batch_size)]
    writes = [step // rules.write_every for step in steps]
    slots = rules.capacity or max(writes)
    held = [{write % slots: write for write in range(count)} for count in writes]  # slot: the last write to it
    held_slots = [[slot in row for slot in range(slots)] for row in held]
    filled = torch.tensor(held_slots, dtype=torch.bool).view(batch_size, slots)
    last_writes = [[row.get(slot, 0) for slot in range(slots)] for row in held]
    last = torch.tensor(last_writes, dtype=torch.int64).view(batch_size, slots)
    return SABState(
        h=torch.randn(batch_size, H, dtype=DOUBLE),
        c=torch.randn(batch_size, H, dtype=DOUBLE),
        memory=torch.randn(batch_size, slots, H, dtype=DOUBLE) * filled.unsqueeze(2),
        filled=filled,
        written_at=((last + 1) * rules.write_every - 1) * filled,
        step=torch.tensor(steps),
    )


def leaves(sab: SAB, x: Tensor, state: SABState) -> list[Tensor]:
    return [x, state.h, state.c, state.memory, *sab.parameters()]


def independent_run(sab: SAB, x: Tensor, starts: Tensor, state: SABState) -> tuple[Tensor, list[Row]]:
    weights: dict[str, Tensor] = dict(sab.named_parameters())
    rules = sab.rules
    settings = Settings(
        rules.reading.top_k, rules.write_every, rules.bptt_steps, rules.capacity, sab.attention.kind, rules.reading.gain
    )
    outputs, rows = [], []
    for b in range(x.shape[1]):
        slots = [
            (state.memory[b, s], int(state.written_at[b, s])) if state.filled[b, s] else None
            for s in range(state.slots)
        ]
        row = Row(state.h[b], state.c[b], list(slots), int(state.step[b]))
        outputs.append(run_row(x[:, b], starts[:, b].tolist(), row, weights, settings))
        rows.append(row)
    return torch.stack(outputs, dim=1), rows


def relative_error(actual: Tensor, expected: Tensor) -> float:
    if actual.numel() == 0:
        return 0.0
    return ((actual - expected).abs().max() / (1 + expected.abs().max())).item()


@pytest.mark.parametrize("seed", range(60))
def test_outputs_state_reads_and_all_gradients_equal_the_independent_implementation(seed: int) -> None:
    sab, x, starts, state = random_case(seed)
    for tensor in leaves(sab, x, state):
        tensor.requires_grad_()
    output, after, log = sab(x, state, starts, return_attention=True)
    expected, rows = independent_run(sab, x, starts, state)
    assert relative_error(output, expected) < 1e-9

    # The loss weighs every output and everything that the state carries on.
    torch.manual_seed(seed)
    weight = torch.randn_like(output)
    loss, expected_loss = (output * weight).sum(), (expected * weight).sum()
    for b, row in enumerate(rows):
        loss, expected_loss = loss + after.c[b].sum() + after.h[b].sum(), expected_loss + row.c.sum() + row.h.sum()
        assert int(after.step[b]) == row.step
        held = {s: slot for s, slot in enumerate(row.slots) if slot is not None}
        assert after.filled[b].nonzero().flatten().tolist() == list(held)
        for s, (memory, when) in held.items():
            assert relative_error(after.memory[b, s], memory) < 1e-9
            assert int(after.written_at[b, s]) == when
            loss, expected_loss = loss + (s + 1) * after.memory[b, s].sum(), expected_loss + (s + 1) * memory.sum()
        for t, read in enumerate(row.reads):
            pairs = zip(log.steps[t, b].tolist(), log.weights[t, b].tolist(), strict=True)
            assert {step: share for step, share in pairs if share > 0} == pytest.approx(read, abs=1e-9)

    gradients = torch.autograd.grad(loss, leaves(sab, x, state), materialize_grads=True)
    expected_gradients = torch.autograd.grad(expected_loss, leaves(sab, x, state), materialize_grads=True)
    for actual, correct in zip(gradients, expected_gradients, strict=True):
        assert relative_error(actual, correct) < 1e-9


@pytest.mark.parametrize("attention", ["mlp", "dot"])
@pytest.mark.parametrize("top_k", first(1, [3, 1, 20]))
def test_gradcheck_passes_when_nothing_is_cut(attention: Any, top_k: int) -> None:
    torch.manual_seed(top_k)
    sab = SAB(
        2, 3, recipe="paper", top_k=top_k, write_every=2, bptt_steps=100, attention=attention, capacity=4, dtype=DOUBLE
    )
    state = random_state(sab, 2, random.Random(top_k))
    starts = torch.zeros(7, 2, dtype=torch.bool)
    starts[4, 1] = True
    names, parameters = zip(*sab.named_parameters(), strict=True)

    def outputs(x: Tensor, h: Tensor, c: Tensor, memory: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        begin = SABState(h, c, memory, state.filled, state.written_at, state.step)
        with torch.nn.utils.stateless._reparametrize_module(sab, dict(zip(names, weights, strict=True))):
            output, after = sab(x, begin, starts)
        return output, after.c, after.memory

    tensors = (torch.randn(7, 2, 2, dtype=DOUBLE), state.h, state.c, state.memory, *parameters)
    assert torch.autograd.gradcheck(outputs, [tensor.detach().clone().requires_grad_() for tensor in tensors])


def input_gradients(sab: SAB, x: Tensor) -> Tensor:
    """How the last output depends on the inputs, (T, B, I), by automatic differentiation."""
    x = x.clone().requires_grad_()
    output, _ = sab(x)
    (gradient,) = torch.autograd.grad(output[-1].sum(), x)
    return gradient


def test_with_bptt_steps_of_at_least_the_length_the_gradient_is_that_of_full_bptt() -> None:
    torch.manual_seed(0)
    x = torch.randn(9, 2, 3, dtype=DOUBLE)
    sab = SAB(3, 4, recipe="paper", top_k=2, bptt_steps=9, dtype=DOUBLE)
    gradient = input_gradients(sab, x)
    numerical = torch.zeros_like(x)
    for index in range(x.numel()):
        for sign in (1, -1):
            moved = x.clone()
            moved.view(-1)[index] += sign * 1e-6
            numerical.view(-1)[index] += sign * sab(moved)[0][-1].sum().item() / 2e-6
    torch.testing.assert_close(gradient, numerical, rtol=1e-6, atol=1e-8)


def test_credit_reaches_a_remembered_step_beyond_the_segment() -> None:
    torch.manual_seed(0)
    gradient = input_gradients(
        SAB(3, 4, recipe="paper", top_k=2, bptt_steps=1, dtype=DOUBLE), torch.randn(12, 1, 3, dtype=DOUBLE)
    )
    assert int((gradient.abs().sum(dim=(1, 2)) > 0).sum()) > 1


def test_without_writes_no_credit_leaves_the_segment() -> None:
    torch.manual_seed(0)
    sab = SAB(3, 4, recipe="paper", top_k=2, bptt_steps=3, write_every=100, dtype=DOUBLE)
    credited = input_gradients(sab, torch.randn(12, 1, 3, dtype=DOUBLE)).abs().sum(dim=(1, 2)) > 0
    assert credited.tolist() == [False] * 9 + [True] * 3


def test_at_most_top_k_plus_one_slots_are_credited() -> None:
    torch.manual_seed(0)
    sab = SAB(3, 4, recipe="paper", top_k=2, bptt_steps=1, capacity=8, dtype=DOUBLE)
    state = random_state(sab, 1, random.Random(3))
    memory = torch.randn(1, 8, 4, dtype=DOUBLE, requires_grad=True)
    state = SABState(state.h, state.c, memory, torch.ones(1, 8, dtype=torch.bool), state.written_at, state.step)
    output, _ = sab(torch.randn(1, 1, 3, dtype=DOUBLE), state)
    (gradient,) = torch.autograd.grad(output.sum(), memory)
    assert int((gradient.abs().sum(dim=2) > 0).sum()) == 3

"""One step at a time, many rows at once, several episodes in a row: always the same numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sab_agents import SAB, SABState, SoftmaxSAB, UncreditedSAB

DOUBLE = torch.float64
KINDS: list[dict[str, object]] = [
    {"attention": "mlp", "bptt_steps": 3},
    {"attention": "dot", "bptt_steps": 1, "capacity": 4},
    {"attention": "mlp", "bptt_steps": 50, "capacity": 2, "write_every": 2},
]


def make(settings: dict[str, object], kind: type[SAB] = SAB) -> SAB:
    torch.manual_seed(0)
    few = {} if kind is SoftmaxSAB else {"top_k": 2}
    return kind(3, 5, dtype=DOUBLE, **few, **settings)  # type: ignore[arg-type]


def sequence(T: int = 15, B: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(T, B, 3, dtype=DOUBLE), torch.rand(T, B) < 0.15


@pytest.mark.parametrize("settings", KINDS)
@pytest.mark.parametrize("kind", [SAB, SoftmaxSAB, UncreditedSAB])
def test_step_by_step_equals_whole_sequence_with_gradients(settings: dict[str, object], kind: type[SAB]) -> None:
    sab = make(settings, kind)
    x, starts = sequence()
    whole, last = sab(x, None, starts)
    expected = torch.autograd.grad(whole.square().sum(), list(sab.parameters()))
    state: SABState | None = None
    outputs = []
    for t in range(x.shape[0]):
        output, state = sab.step(x[t], state, starts[t])
        outputs.append(output)
    stepwise = torch.stack(outputs)
    torch.testing.assert_close(stepwise, whole, rtol=1e-12, atol=1e-12)
    assert state is not None
    held = slice(0, state.slots)
    torch.testing.assert_close(state.memory, last.memory[:, held], rtol=1e-12, atol=1e-12)
    assert torch.equal(state.filled, last.filled[:, held])
    assert torch.equal(state.written_at, last.written_at[:, held])
    gradients = torch.autograd.grad(stepwise.square().sum(), list(sab.parameters()))
    for actual, correct in zip(gradients, expected, strict=True):
        torch.testing.assert_close(actual, correct, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("settings", KINDS)
def test_a_sequence_in_two_calls_equals_one(settings: dict[str, object]) -> None:
    sab = make(settings)
    x, starts = sequence()
    whole, _ = sab(x, None, starts)
    first, state = sab(x[:7], None, starts[:7])
    second, _ = sab(x[7:], state, starts[7:])
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=1e-12, atol=1e-12)


def test_after_detach_no_gradient_reaches_the_call_before() -> None:
    sab = make(KINDS[0])
    x, _ = sequence()
    x.requires_grad_()
    _, state = sab(x[:7])
    output, _ = sab(x[7:], state.detach())
    (gradient,) = torch.autograd.grad(output.sum(), x)
    assert gradient[:7].abs().max() == 0
    assert gradient[7:].abs().max() > 0


@pytest.mark.parametrize("settings", KINDS)
def test_a_batch_equals_its_rows_alone(settings: dict[str, object]) -> None:
    sab = make(settings)
    x, starts = sequence()
    whole, _ = sab(x, None, starts)
    for b in range(x.shape[1]):
        alone, _ = sab(x[:, b : b + 1], None, starts[:, b : b + 1])
        torch.testing.assert_close(alone, whole[:, b : b + 1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("settings", KINDS)
def test_nothing_of_one_episode_reaches_another(settings: dict[str, object]) -> None:
    sab = make(settings)
    x, _ = sequence()
    starts = torch.zeros(x.shape[:2], dtype=torch.bool)
    starts[6, 1] = True
    x.requires_grad_()
    output, _ = sab(x, None, starts)
    alone, _ = sab(x[6:, 1:2])
    torch.testing.assert_close(output[6:, 1:2], alone, rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(output[6:, 1].sum(), x)
    assert gradient[:6].abs().max() == 0
    assert gradient[:, [0, 2]].abs().max() == 0
    (other,) = torch.autograd.grad(sab(x)[0][6:, 0].sum(), x)
    assert settings["bptt_steps"] == 1 or other[:6, 0].abs().max() > 0


def test_batch_first_is_a_transposition() -> None:
    sab = make(KINDS[0])
    first = SAB(3, 5, top_k=2, bptt_steps=3, batch_first=True, dtype=DOUBLE)
    first.load_state_dict(sab.state_dict())
    x, starts = sequence()
    output, state, log = first(x.transpose(0, 1), None, starts.t(), return_attention=True)
    expected, last, expected_log = sab(x, None, starts, return_attention=True)
    assert torch.equal(output.transpose(0, 1), expected)
    assert torch.equal(state.memory, last.memory)
    assert torch.equal(log.steps.transpose(0, 1), expected_log.steps)
    assert torch.equal(log.weights.transpose(0, 1), expected_log.weights)


def test_the_oldest_slot_is_overwritten_when_all_are_filled() -> None:
    sab = make({"capacity": 3})
    x, _ = sequence(8, 1)
    _, state = sab(x)
    assert state.written_at.tolist() == [[6, 7, 5]]
    _, state = sab(x, state)
    assert state.written_at.tolist() == [[15, 13, 14]]


def test_the_uncredited_ablation_computes_the_same_but_sends_no_gradient_into_the_past() -> None:
    sab, uncredited = make({"bptt_steps": 1}), make({"bptt_steps": 1}, UncreditedSAB)
    uncredited.load_state_dict(sab.state_dict())
    x, _ = sequence()
    x.requires_grad_()
    output, plain = uncredited(x)[0], sab(x)[0]
    assert torch.equal(output, plain)
    (gradient,) = torch.autograd.grad(output[-1].sum(), x, retain_graph=True)
    assert gradient[:-1].abs().max() == 0
    assert torch.autograd.grad(plain[-1].sum(), x)[0][:-1].abs().max() > 0
    key = uncredited.attention.key.weight
    assert torch.autograd.grad(output.sum(), key)[0].abs().max() > 0


def test_the_softmax_ablation_reads_every_slot_and_a_low_temperature_the_best_alone() -> None:
    x, _ = sequence(10, 2)
    _, _, dense = make({"bptt_steps": 3}, SoftmaxSAB)(x, None, None, return_attention=True)
    assert torch.all((dense.weights[9] > 0).sum(dim=1) == 9)
    torch.testing.assert_close(dense.weights[1:].sum(dim=2), torch.ones(9, 2, dtype=DOUBLE))
    _, _, sharp = make({"bptt_steps": 3, "temperature": 1e-6}, SoftmaxSAB)(x, None, None, return_attention=True)
    assert sharp.weights[9].amax(dim=1).min() > 0.999


def test_a_starting_memory_receives_its_gradient() -> None:
    sab = make({"capacity": 4, "bptt_steps": 1})
    _, state = sab(sequence(6)[0])
    memory = state.memory.detach().requires_grad_()
    output, _ = sab(sequence(3)[0], replace(state.detach(), memory=memory))
    assert torch.autograd.grad(output.sum(), memory)[0].abs().max() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_long_inference_in_parts_is_the_same_and_its_state_keeps_nothing_else_alive(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    sab = SAB(3, 8, top_k=2, bptt_steps=4, capacity=5, dtype=dtype)
    x, start = torch.randn(50, 2, 3, dtype=dtype), torch.rand(50, 2) < 0.05
    with torch.no_grad():
        whole, state = sab(x, None, start)
        monkeypatch.setattr("sab_agents.core.sab.INFERENCE_STEPS", 7)
        parts, other = sab(x, None, start)
    torch.testing.assert_close(parts, whole)
    for one, two in zip(state.tensors(), other.tensors(), strict=True):
        torch.testing.assert_close(one, two)
        assert one.untyped_storage().nbytes() < 50 * 2 * 8 * one.element_size()

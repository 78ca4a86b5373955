"""One step with the native kernel: equal to the plain loop in float64, in one call, with the same errors."""

from __future__ import annotations

import random
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor

from sab_agents import SAB, SABState, SoftmaxSAB, UncreditedSAB
from sab_agents.core.base import Core
from sab_agents.kernels import ScanArguments, ScanOutputs, ScanPlan, reference_scan
from sab_agents.kernels.native_backend import step as compiled_step
from tests.core.test_sab_edges import foreign_states
from tests.kernels.extension import INSTRUCTION_SETS, needs_native, with_instruction_set
from tests.readings import random_reading

pytestmark = needs_native


class PlainSAB(SAB):
    """SAB by the plain loop."""

    def scan(self, x: Tensor, h: Tensor, c: Tensor, memory: Tensor, plan: ScanPlan) -> ScanOutputs:
        return reference_scan(ScanArguments(x, *self.step_weights(), h, c, memory), plan)

    def step(
        self, x: Tensor, state: SABState | None = None, episode_start: Tensor | None = None
    ) -> tuple[Tensor, SABState]:
        return Core.step(self, x, state, episode_start)


@pytest.fixture(autouse=True)
def unforced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAB_KERNEL", raising=False)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each call of the one-step kernel took its arguments."""
    found: list[bool] = []
    original = compiled_step.step

    def spied(*arguments: Any) -> Any:
        result = original(*arguments)
        found.append(result is not None)
        return result

    monkeypatch.setattr(compiled_step, "step", spied)
    return found


def random_case(seed: int) -> tuple[SAB, SABState, int]:
    """A network, a state that no run would reach (any slot filled, any count of steps), and the rows."""
    choose = random.Random(seed)
    torch.manual_seed(seed)
    B, H, S = choose.randint(1, 5), choose.randint(1, 70), choose.choice([1, 2, 5, 16, 33, 64, 70])
    sab = SAB(
        choose.randint(1, 40),
        H,
        top_k=choose.randint(1, 20),
        write_every=choose.randint(1, 3),
        capacity=S,
        attention=choose.choice(["mlp", "dot"]),
        attention_size=choose.randint(1, 40),
        **random_reading(seed),
    )
    filled = torch.rand(B, S) < choose.choice([0.0, 0.5, 1.0])
    state = SABState(
        h=torch.randn(B, H),
        c=torch.randn(B, H),
        memory=torch.randn(B, S, H) * filled.unsqueeze(2),
        filled=filled,
        written_at=torch.randint(0, 99, (B, S)) * filled,
        step=torch.randint(0, 3 * S + 2, (B,)),
    )
    return sab, state, B


def exact(sab: SAB) -> PlainSAB:
    """The same network in float64, by the plain loop."""
    rules, attention = sab.rules, sab.attention
    plain = PlainSAB(
        sab.input_size,
        sab.hidden_size,
        top_k=rules.reading.top_k,
        write_every=rules.write_every,
        capacity=rules.capacity,
        attention=attention.kind,
        attention_size=attention.key.out_features,
        summary_gain="gate" if rules.reading.gate else rules.reading.gain,
        age=rules.reading.age,
        output_gate=rules.reading.output_gate,
        floor=rules.reading.floor,
        sharpness=rules.reading.sharpness,
        age_scale=rules.reading.age_scale,
        stored=rules.reading.stored,
        dtype=torch.float64,
    )
    plain.load_state_dict(sab.state_dict())
    return plain


def deviation(actual: tuple[Tensor, SABState], expected: tuple[Tensor, SABState]) -> float:
    """Largest difference of the real numbers, in units of 1e-5; what is counted must be equal."""
    worst = (actual[0].double() - expected[0]).abs().amax().item()
    for field in fields(SABState):
        one, other = getattr(actual[1], field.name), getattr(expected[1], field.name)
        assert one.shape == other.shape
        if other.is_floating_point():
            worst = max(worst, (one.double() - other).abs().amax().item())
        else:
            assert one.dtype == other.dtype
            assert torch.equal(one, other), field.name
    return worst / 1e-5


@torch.no_grad()
def test_a_step_equals_the_plain_loop(calls: list[bool]) -> None:
    compared = 0
    for seed in range(150):
        sab, state, B = random_case(seed)
        plain, x = exact(sab), torch.randn(B, sab.input_size)
        start = None if seed % 3 == 0 else torch.rand(B) < 0.3
        before = [tensor.clone() for tensor in state.tensors()]
        expected = plain.step(x.double(), state.to(dtype=torch.float64), start)
        # Where scores nearly tie, rounding is amplified without bound: the plain loop shows where.
        moved = plain.step(x.double() * (1 + 1e-6), state.to(dtype=torch.float64), start)
        if deviation(moved, expected) > 0.5:
            continue
        compared += 1
        for name in INSTRUCTION_SETS:
            with with_instruction_set(name):
                found = sab.step(x, state, start)
            assert deviation(found, expected) <= 1, (seed, name)
        for tensor, old, new in zip(state.tensors(), before, found[1].tensors(), strict=True):
            assert torch.equal(tensor, old)
            assert tensor.data_ptr() != new.data_ptr()
    assert compared >= 120
    assert all(calls)


@pytest.mark.parametrize("attention", ["mlp", "dot"])
@torch.no_grad()
def test_many_steps_equal_one_sequence_while_the_ring_turns(attention: Any, calls: list[bool]) -> None:
    torch.manual_seed(0)
    sab = SAB(3, 20, top_k=3, write_every=2, capacity=6, attention=attention, attention_size=8)
    x, start = torch.randn(40, 3, 3), torch.rand(40, 3) < 0.04
    whole, last = sab(x, None, start)
    state, outputs = sab.initial_state(3), []
    for t in range(40):
        output, state = sab.step(x[t], state, start[t])
        outputs.append(output)
    torch.testing.assert_close(torch.stack(outputs), whole, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(state.memory, last.memory, rtol=1e-4, atol=1e-4)
    for field in ("filled", "written_at", "step"):
        assert torch.equal(getattr(state, field), getattr(last, field))
    assert calls == [True] * 40


@torch.no_grad()
def test_rows_are_the_same_alone_and_on_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    sab = SAB(3, 20, top_k=3, capacity=18, attention_size=8)
    _, state = sab(torch.randn(25, 7, 3))
    x = torch.randn(7, 3)
    output, _ = sab.step(x, state)
    monkeypatch.setattr(compiled_step, "threads", lambda _: 3)
    assert torch.equal(sab.step(x, state)[0], output)
    alone = SABState(*(tensor[2:3] for tensor in state.tensors()))
    assert torch.equal(sab.step(x[2:3], alone)[0], output[2:3])


def test_gradient_other_scans_and_unbounded_memory_go_the_other_way(calls: list[bool]) -> None:
    x = torch.randn(2, 3)
    for sab, gradient, taken in (
        (SAB(3, 4, capacity=5), False, [True]),
        (UncreditedSAB(3, 4, capacity=5), False, [True]),
        (SAB(3, 4, capacity=5), True, [False]),
        (SAB(3, 4, capacity=5).requires_grad_(False), True, [True]),
        (SAB(3, 4), False, []),
        (SoftmaxSAB(3, 4, capacity=5), False, []),
        (SAB(3, 4, capacity=5, dtype=torch.float64), False, [False]),
    ):
        with torch.no_grad():
            _, state = sab(torch.randn(4, 2, 3, dtype=sab.cell.weight_hh.dtype))
        calls.clear()
        with torch.set_grad_enabled(gradient):
            output, after = sab.step(x.to(sab.cell.weight_hh.dtype), state)
            whole, expected = sab(x.to(sab.cell.weight_hh.dtype).unsqueeze(0), state)
        assert calls == taken
        torch.testing.assert_close(output, whole[0])
        torch.testing.assert_close(after.memory, expected.memory)
        assert output.requires_grad == (gradient and sab.cell.weight_hh.requires_grad)


@torch.no_grad()
def test_what_does_not_fit_is_refused_as_ever() -> None:
    sab = SAB(2, 4, capacity=3)
    state = sab.initial_state(2)
    for wrong, message in foreign_states(sab):
        with pytest.raises(ValueError, match=message):
            sab.step(torch.zeros(2, 2), wrong)
    for x, message in (
        (torch.zeros(2, 3), r"shape \(B, I\) with I = 2, but has \(2, 3\)"),
        (torch.zeros(1, 2, 2), "with I = 2"),
        (torch.zeros(2, 2, dtype=torch.float64), "x must be torch.float32"),
        (torch.full((2, 2), torch.nan), "x must be finite"),
        (torch.full((2, 2), torch.inf), "x must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            sab.step(x, state)
    with pytest.raises(ValueError, match="episode_start must have shape"):
        sab.step(torch.zeros(2, 2), state, torch.zeros(3, dtype=torch.bool))
    with pytest.raises(TypeError, match="must be a bool tensor"):
        sab.step(torch.zeros(2, 2), state, torch.zeros(2))


@torch.no_grad()
def test_tensors_that_are_not_contiguous_give_the_same_step() -> None:
    torch.manual_seed(0)
    sab = SAB(3, 4, top_k=2, capacity=5)
    _, state = sab(torch.randn(9, 2, 3))
    x = torch.randn(2, 3)
    expected, _ = sab.step(x, state)
    odd = SABState(*(torch.stack([tensor, tensor], dim=-1)[..., 0] for tensor in state.tensors()))
    torch.testing.assert_close(sab.step(x.t().contiguous().t(), odd)[0], expected)


@torch.no_grad()
def test_a_weight_computed_from_others_is_used() -> None:
    sab = SAB(3, 4, capacity=5)
    _, state = sab(torch.randn(9, 2, 3))
    torch.nn.utils.parametrizations.weight_norm(sab.attention.key)
    x = torch.randn(2, 3)
    torch.testing.assert_close(sab.step(x, state)[0], sab(x.unsqueeze(0), state)[0][0])

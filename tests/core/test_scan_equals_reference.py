"""The whole-sequence autograd function against the plain loop, over random plans: any cut, any write, any start."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from sab_agents.core.reference import reference_scan
from sab_agents.kernels import ScanInputs, ScanOutputs, ScanPlan, scan


def random_plan(choose: random.Random, T: int, B: int, held: int) -> ScanPlan:
    """A plan that no rule would make: recorded writes overwrite any slot, also within the sequence."""
    start = torch.rand(T, B) < choose.choice([0.0, 0.15, 0.3])
    writes = choose.choice(["any", "together", "append"]) if held else "append"
    if writes == "append":
        slots, write_slot = held + T, (torch.arange(T) + held).unsqueeze(1).expand(T, B)
    else:
        slots = held
        write_slot = torch.randint(-1, held, (T, 1 if writes == "together" else B)).expand(T, B)
    return ScanPlan(
        start=start,
        cut=(torch.rand(T, B) < choose.choice([0.0, 0.3, 1.0])) | start,
        write_slot=write_slot,
        filled=torch.rand(B, held) < choose.choice([0.0, 0.5, 1.0]),
        slots=slots,
        top_k=choose.randint(1, 6),
        credit=choose.random() < 0.8,
    )


def random_scan(seed: int) -> tuple[list[Any], ScanPlan]:
    """The arguments of `ScanInputs`, and a plan."""
    choose = random.Random(seed)
    torch.manual_seed(seed)
    T, B, H, A = choose.randint(1, 14), choose.randint(1, 4), choose.randint(1, 5), choose.randint(1, 4)
    held = choose.randint(0, 6)
    shapes = [(T, B, 4 * H), (4 * H, H), (A, H), (A, H), (A,), (A,), (B, H), (B, H), (B, held, H)]
    arguments: list[Any] = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    if choose.random() < 0.5:
        arguments[5] = None
    return arguments, random_plan(choose, T, B, held)


def by_version(outputs: ScanOutputs, versions: int) -> Tensor:
    """Weights (T, B, V): of every version, however the read named it."""
    T, B, _ = outputs.versions.shape
    table = outputs.weights.new_zeros(T, B, versions + 1)
    index = torch.where(outputs.versions < 0, versions, outputs.versions)
    return table.scatter_add(2, index, outputs.weights)[:, :, :versions]


def results(compute: Any, arguments: list[Any], plan: ScanPlan) -> list[Tensor]:
    """Outputs, weights by version, and the gradient of a random loss with respect to every argument."""
    outputs = compute(ScanInputs(*arguments), plan)
    torch.manual_seed(0)
    parts = (outputs.h, outputs.summary, outputs.c)
    loss = torch.stack([(part * torch.randn(part.shape, dtype=torch.float64)).sum() for part in parts]).sum()
    tensors = [argument for argument in arguments if argument is not None]
    gradients = torch.autograd.grad(loss, tensors, materialize_grads=True)
    return [*parts, by_version(outputs, plan.filled.shape[1] + len(plan.start)), *gradients]


@pytest.mark.parametrize("seed", range(150))
def test_values_reads_and_gradients_equal_the_reference(seed: int) -> None:
    arguments, plan = random_scan(seed)
    fast, plain = results(scan, arguments, plan), results(reference_scan, arguments, plan)
    for actual, expected in zip(fast, plain, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9 * (1 + expected.abs().sum().item()))


def test_a_long_scan_that_needs_several_blocks_equals_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sab_agents.kernels.eager_backward.BLOCK_ELEMENTS", 100)
    for seed in range(20):
        arguments, plan = random_scan(seed)
        fast, plain = results(scan, arguments, plan), results(reference_scan, arguments, plan)
        for actual, expected in zip(fast, plain, strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9 * (1 + expected.abs().sum().item()))


def test_float32_stays_within_its_rounding() -> None:
    arguments, plan = random_scan(5)
    single = [None if argument is None else argument.detach().float().requires_grad_() for argument in arguments]
    for actual, expected in zip(results(scan, single, plan), results(scan, arguments, plan), strict=True):
        torch.testing.assert_close(actual.double(), expected, rtol=1e-4, atol=1e-4)


def test_gradients_can_be_taken_twice_from_one_forward_pass() -> None:
    arguments, plan = random_scan(2)
    outputs = scan(ScanInputs(*arguments), plan)
    tensors = [argument for argument in arguments if argument is not None]
    first = torch.autograd.grad(outputs.h.sum(), tensors, retain_graph=True, materialize_grads=True)
    second = torch.autograd.grad(outputs.h.sum(), tensors, materialize_grads=True)
    for before, after in zip(first, second, strict=True):
        assert torch.equal(before, after)

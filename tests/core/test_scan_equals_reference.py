"""Every way of computing a scan against the plain loop, over random plans: any cut, any write, any start.

Plain torch is compared in float64. The native kernel computes in float32 and is compared with the float64 reference:
values to 1e-5 and gradients to 1e-4 of the largest element, or of 1 where all are smaller (a gradient that cancels
exactly has nothing else to be measured by). A scan can amplify rounding without bound: weights are divided by how far
the best scores stand above the threshold, and the gradient jumps where another slot comes to set the threshold. So a
case counts only if the reference itself moves by less than a fifth of the tolerance when its inputs move by a
millionth; about half the cases do, and a test counts them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sab_agents.kernels import (
    SCORES,
    Reading,
    ScanArguments,
    ScanOutputs,
    ScanPlan,
    forced_kernel,
    reference_scan,
    scan,
)
from tests.kernels.extension import INSTRUCTION_SETS, needs_native, with_instruction_set
from tests.selection import first

Compute = Callable[[ScanArguments, ScanPlan], ScanOutputs]


def by(kernel: str) -> Compute:
    """The scan, computed by a kernel."""

    def compute(inputs: ScanArguments, plan: ScanPlan) -> ScanOutputs:
        with forced_kernel(kernel):
            return scan(inputs.weights, inputs.x, inputs.h, inputs.c, inputs.memory, plan)

    return compute


by_torch, by_native = by("torch"), by("native")


def place(field: str) -> int:
    """Where an argument stands among all."""
    return ScanArguments._fields.index(field)


def shapes_of(T: int, B: int, inputs: int, H: int, A: int, held: int) -> list[tuple[int, ...]]:
    """The shapes of `ScanArguments`."""
    weights = [(4 * H, inputs), (4 * H, H), (4 * H,), (4 * H,), (A, H), (A, H), (A,), (1, A)]
    weights += [(1, H), (1,), (H, H), (H,), (H,), (H,)]
    return [(T, B, inputs), *weights, (B, H), (B, H), (B, held, H)]


def random_score(choose: random.Random) -> str:
    """Any kind of score."""
    return sorted(SCORES)[int(choose.random() * len(SCORES))]


def random_plan(choose: random.Random, T: int, B: int, held: int, score: str) -> ScanPlan:
    """A plan that no rule would make: recorded writes overwrite any slot, also within the sequence."""
    start = torch.rand(T, B) < choose.choice([0.0, 0.15, 0.3])
    writes = choose.choice(["any", "together", "append"]) if held else "append"
    if writes == "append":
        slots, write_slot = held + T, (torch.arange(T) + held).unsqueeze(1).expand(T, B)
    else:
        slots = held
        write_slot = torch.randint(-1, held, (T, 1 if writes == "together" else B)).expand(T, B)
    plan = ScanPlan(
        start=start,
        cut=(torch.rand(T, B) < choose.choice([0.0, 0.3, 1.0])) | start,
        write_slot=write_slot,
        filled=torch.rand(B, held) < choose.choice([0.0, 0.5, 1.0]),
        slots=slots,
        reading=Reading(
            top_k=choose.randint(1, 6),
            credit=choose.random() < 0.8,
            gain=choose.choice([1.0, 1.0, 0.5, 0.0]),
            score=score,
        ),
    )
    return beyond_the_paper(choose, plan) if choose.random() < 0.7 else plan


def beyond_the_paper(choose: random.Random, plan: ScanPlan) -> ScanPlan:
    """The plan with reads that may know age, may be declined, and enter and store what they like."""
    B, held = plan.filled.shape
    step = torch.randint(0, 10 ** choose.randint(1, 9), (B,))
    reading = plan.reading._replace(
        age=choose.random() < 0.6,
        floor=choose.choice([0.0, 0.1, 1.0]),
        sharpness=choose.choice([0.0, 0.0, 0.5, 4.0]),
        gate=choose.random() < 0.4,
        stored=choose.choice(["output", "cell"]),
        output_gate=choose.random() < 0.5,
        age_scale=choose.choice([1, 1, 9, 10**6]),
    )
    return replace(plan, reading=reading, step=step, written_at=(torch.rand(B, held) * step.unsqueeze(1)).long())


def fitting(arguments: list[Any], plan: ScanPlan) -> list[Any]:
    """The arguments without the weights that the plan's reading does not have."""
    reading = plan.reading
    if not SCORES[reading.score].has_vector:
        arguments[place("score_weight")] = None
    for part, there in (("age", reading.age), ("gate", reading.gate), ("output_gate", reading.output_gate)):
        if not there:
            arguments[place(f"{part}_weight")] = arguments[place(f"{part}_bias")] = None
    return arguments


def random_scan(seed: int) -> tuple[list[Any], ScanPlan]:
    """The arguments of a scan, and a plan."""
    choose = random.Random(seed)
    torch.manual_seed(seed)
    T, B, H, A = choose.randint(1, 14), choose.randint(1, 4), choose.randint(1, 5), choose.randint(1, 4)
    held = choose.randint(0, 6)
    shapes = shapes_of(T, B, 1 + seed % 4, H, A, held)
    arguments: list[Any] = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    arguments[place("weight_ih")] /= math.sqrt(shapes[0][2])  # gates of the size that they have in a network
    for name in ("bias_ih", "bias_hh"):
        arguments[place(name)] *= 0.1
    arguments = [x.requires_grad_() for x in arguments]
    plan = random_plan(choose, T, B, held, random_score(choose))
    return fitting(arguments, plan), plan


def by_version(outputs: ScanOutputs, versions: int) -> Tensor:
    """Weights (T, B, V): of every version, however the read named it."""
    T, B, _ = outputs.versions.shape
    table = outputs.weights.new_zeros(T, B, versions + 1)
    index = torch.where(outputs.versions < 0, versions, outputs.versions)
    return table.scatter_add(2, index, outputs.weights)[:, :, :versions]


def results(compute: Compute, arguments: list[Any], plan: ScanPlan) -> list[Tensor]:
    """Outputs, weights by version, and the gradient of a random loss with respect to every argument."""
    outputs = compute(ScanArguments(*arguments), plan)
    torch.manual_seed(0)
    parts = (outputs.h, outputs.summary, outputs.stored, outputs.c)
    loss = torch.stack([(part * torch.randn(part.shape, dtype=torch.float64)).sum() for part in parts]).sum()
    tensors = [argument for argument in arguments if argument is not None]
    gradients = torch.autograd.grad(loss, tensors, materialize_grads=True)
    return [*parts, by_version(outputs, plan.filled.shape[1] + len(plan.start)), *gradients]


VALUES = 5  # the first of `results` that are no gradients


def in_single(arguments: list[Any]) -> list[Any]:
    """The arguments in float32."""
    return [None if x is None else x.detach().float().requires_grad_() for x in arguments]


def deviation(actual: list[Tensor], expected: list[Tensor]) -> float:
    """The largest difference, in units of the float32 tolerance of its tensor: 1e-5 for values, 1e-4 for gradients."""
    worst = 0.0
    for i, (x, y) in enumerate(zip(actual, expected, strict=True)):
        if y.numel():
            scale = max(1.0, y.detach().abs().amax().item()) * (1e-5 if i < VALUES else 1e-4)
            worst = max(worst, (x.detach().double() - y.detach()).abs().amax().item() / scale)
    return worst


def well_conditioned(arguments: list[Any], plan: ScanPlan, expected: list[Tensor]) -> bool:
    for draw in range(4):
        torch.manual_seed(draw)
        moved = [
            None if x is None else (x.detach() * (1 + 1e-6 * torch.randn_like(x))).requires_grad_() for x in arguments
        ]
        if not deviation(results(reference_scan, moved, plan), expected) < 0.2:
            return False
    return True


@pytest.mark.parametrize("seed", range(100))
def test_values_reads_and_gradients_equal_the_reference(seed: int) -> None:
    arguments, plan = random_scan(seed)
    fast, plain = results(by_torch, arguments, plan), results(reference_scan, arguments, plan)
    for actual, expected in zip(fast, plain, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9 * (1 + expected.abs().sum().item()))


def test_a_long_scan_that_needs_several_blocks_equals_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sab_agents.kernels.torch_backend.backward.BLOCK_ELEMENTS", 100)
    for seed in range(20):
        arguments, plan = random_scan(seed)
        fast, plain = results(by_torch, arguments, plan), results(reference_scan, arguments, plan)
        for actual, expected in zip(fast, plain, strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9 * (1 + expected.abs().sum().item()))


@needs_native
@pytest.mark.parametrize("part", first(1, range(3)))
def test_native_equals_the_reference(part: int) -> None:
    compared = 0
    for seed in range(120 * part, 120 * (part + 1)):
        arguments, plan = random_scan(seed)
        expected = results(reference_scan, arguments, plan)
        if well_conditioned(arguments, plan, expected):
            compared += 1
            for name in INSTRUCTION_SETS:
                with with_instruction_set(name):
                    actual = results(by_native, in_single(arguments), plan)
                assert deviation(actual, expected) <= 1, (seed, name)
    assert compared >= 50


@needs_native
@pytest.mark.parametrize(("T", "B", "H", "A"), [(40, 1, 64, 32), (30, 21, 24, 17), (25, 9, 33, 40)])
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("beyond", [False, True], ids=["paper", "beyond"])
def test_native_equals_the_reference_at_sizes_that_fill_its_blocks(
    T: int, B: int, H: int, A: int, score: str, beyond: bool
) -> None:
    arguments, plan = blocked_scan(T, B, H, A, score, beyond=beyond)
    expected = results(reference_scan, arguments, plan)
    for name in INSTRUCTION_SETS:
        with with_instruction_set(name):
            assert deviation(results(by_native, in_single(arguments), plan), expected) <= 1, name


MANY_SLOTS = ((1.0, 75), (0.0, 75), (0.0, 300))
"""Gains and numbers of slots. With gain, rounding grows from step to step: by how much, depends on close scores."""


@needs_native
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(("gain", "held"), MANY_SLOTS)
def test_native_reads_many_slots_as_the_reference(score: str, gain: float, held: int) -> None:
    """Most are passed over by a bound on the lowest rank's score; without gain, several steps are scored together.

    "mlp" scores them together from 256 slots on.
    """
    arguments, plan = blocked_scan(30, 3, 16, 8, score, held=held, top_k=3)
    plan = replace(plan, reading=plan.reading._replace(gain=gain))
    expected = results(reference_scan, arguments, plan)
    for name in INSTRUCTION_SETS:
        with with_instruction_set(name):
            assert deviation(results(by_native, in_single(arguments), plan), expected) <= 1, name


def blocked_scan(
    T: int, B: int, H: int, A: int, score: str, *, beyond: bool = False, held: int = 19, top_k: int = 5
) -> tuple[list[Any], ScanPlan]:
    """A scan of a realistic network: weights of an initialised one, a ring that is overwritten, episode starts.

    With `beyond`, reads know age, have a floor, and enter and leave through gates, and ĥ is stored.
    """
    torch.manual_seed(T * B)
    arguments: list[Any] = [torch.randn(shape, dtype=torch.float64) for shape in shapes_of(T, B, H, H, A, held)]
    for name in ("weight_ih", "weight_hh", "key_weight", "query_weight", "age_weight", "gate_weight"):
        arguments[place(name)] *= H**-0.5
    for name in ("bias_ih", "bias_hh"):
        arguments[place(name)] *= 0.1
    arguments = [x.requires_grad_() for x in arguments]
    start = torch.rand(T, B) < 0.03
    write_slot = (torch.arange(T) % held).unsqueeze(1).where(torch.rand(T, B) < 0.8, torch.tensor(-1))
    filled = torch.rand(B, held) < 0.5
    cut = (torch.rand(T, B) < 0.2) | start
    reading = Reading(top_k=top_k, score=score)
    if beyond:
        reading = reading._replace(age=True, floor=0.1, sharpness=2.0, gate=True, stored="cell", output_gate=True)
    step, written_at = torch.full((B,), 100), torch.randint(0, 100, (B, held))
    plan = ScanPlan(start, cut, write_slot, filled, held, reading, step, written_at)
    return fitting(arguments, plan), plan


def test_float32_stays_within_its_rounding() -> None:
    arguments, plan = random_scan(5)
    single, double = results(by_torch, in_single(arguments), plan), results(by_torch, arguments, plan)
    for actual, expected in zip(single, double, strict=True):
        torch.testing.assert_close(actual.double(), expected, rtol=1e-4, atol=1e-4)


PATHS = [by_torch, pytest.param(by_native, marks=needs_native)]


@pytest.mark.parametrize("path", PATHS)
def test_gradients_can_be_taken_twice_from_one_forward_pass(path: Compute) -> None:
    arguments, plan = random_scan(2)
    arguments = in_single(arguments)
    outputs = path(ScanArguments(*arguments), plan)
    tensors = [argument for argument in arguments if argument is not None]
    first = torch.autograd.grad(outputs.h.sum(), tensors, retain_graph=True, materialize_grads=True)
    second = torch.autograd.grad(outputs.h.sum(), tensors, materialize_grads=True)
    for before, after in zip(first, second, strict=True):
        assert torch.equal(before, after)

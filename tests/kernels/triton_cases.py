"""What the tests of the fused kernel share: whether Triton is there, and scans on its device compared on the CPU."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sab_agents.kernels import Reading, ScanArguments, ScanOutputs, ScanPlan, reference_scan
from sab_agents.kernels.triton_backend import available
from tests.core.test_scan_equals_reference import VALUES, by, place, results, shapes_of

HAS_GPU = torch.cuda.is_available() and available.imports()

# Of the largest element, or of 1 where all are smaller: values, gradients, and how far inputs move in `steady`.
TOLERANCES = {torch.float32: (1e-5, 1e-4, 2e-7), torch.bfloat16: (4e-2, 8e-2, 2e-3)}

Scan = Callable[[ScanArguments, ScanPlan], ScanOutputs]


def fused(device: str, dtype: torch.dtype) -> Scan:
    """The fused scan on a device and in a dtype, from tensors on the CPU and to float64 tensors there."""

    def compute(inputs: ScanArguments, plan: ScanPlan) -> ScanOutputs:
        moved = ScanArguments(*(None if x is None else x.to(device, dtype) for x in inputs))  # type: ignore[arg-type]
        outputs = by("triton")(moved, on(plan, device))
        return ScanOutputs(*(x.cpu() if x.dtype == torch.int64 else x.cpu().double() for x in outputs))

    return compute


def on(plan: ScanPlan, device: str) -> ScanPlan:
    """The plan with its tensors on a device."""
    return replace(
        plan,
        start=plan.start.to(device),
        cut=plan.cut.to(device),
        write_slot=plan.write_slot.to(device),
        filled=plan.filled.to(device),
        step=None if plan.step is None else plan.step.to(device),
        written_at=None if plan.written_at is None else plan.written_at.to(device),
    )


def deviation(actual: list[Tensor], expected: list[Tensor], dtype: torch.dtype) -> float:
    """The largest difference, in units of the tolerance of its tensor."""
    worst = 0.0
    for i, (x, y) in enumerate(zip(actual, expected, strict=True)):
        if y.numel():
            difference = (x.detach().double() - y.detach()).abs().amax().item()
            assert not math.isnan(difference)
            unit = TOLERANCES[dtype][0 if i < VALUES else 1] * max(1.0, y.detach().abs().amax().item())
            worst = max(worst, difference / unit)
    return worst


def rounded(arguments: list[Any], dtype: torch.dtype) -> list[Any]:
    """The float64 arguments as they are in another dtype."""
    return [None if x is None else x.detach().to(dtype).double().requires_grad_() for x in arguments]


def moved_results(arguments: list[Any], plan: ScanPlan, dtype: torch.dtype) -> Iterator[list[Tensor]]:
    """What the reference finds where its inputs are moved by a rounding, four times."""
    for draw in range(4):
        torch.manual_seed(draw)
        moved = [
            None if x is None else (x.detach() * (1 + TOLERANCES[dtype][2] * torch.randn_like(x))).requires_grad_()
            for x in arguments
        ]
        yield results(reference_scan, moved, plan)


def steady(arguments: list[Any], plan: ScanPlan, expected: list[Tensor], dtype: torch.dtype) -> bool:
    """Whether the reference moves by less than a fifth of the tolerance when its inputs move by a rounding."""
    return all(deviation(found, expected, dtype) < 0.2 for found in moved_results(arguments, plan, dtype))


def rows_of(arguments: list[Any], plan: ScanPlan, rows: Tensor) -> tuple[list[Any], ScanPlan]:
    """Some rows of a scan."""
    x, h, c, memory = arguments[0][:, rows], *(x[rows] for x in arguments[place("h") :])
    parts = [x if x is None else x.detach().requires_grad_() for x in (x, *arguments[1 : place("h")], h, c, memory)]
    start, cut, write_slot = (x[:, rows] for x in (plan.start, plan.cut, plan.write_slot))
    step, written_at = (None if x is None else x[rows] for x in (plan.step, plan.written_at))
    return parts, replace(
        plan,
        start=start,
        cut=cut,
        write_slot=write_slot,
        filled=plan.filled[rows],
        step=step,
        written_at=written_at,
    )


def steadiest(arguments: list[Any], plan: ScanPlan, count: int) -> tuple[list[Any], ScanPlan]:
    """The `count` rows of a scan that move least when inputs move by a rounding: a large scan has near ties in some."""
    dtype = torch.bfloat16
    expected, moves = results(reference_scan, arguments, plan), torch.zeros(len(plan.filled), dtype=torch.float64)
    for found in moved_results(arguments, plan, dtype):
        for i, rows in {
            0: 1,
            1: 1,
            2: 1,
            3: 0,
            4: 1,
            5: 1,
            -3: 0,
            -2: 0,
            -1: 0,
        }.items():  # those that have rows, and where
            x, y = (z.detach().transpose(0, rows).flatten(1) for z in (found[i], expected[i]))
            moves = torch.maximum(moves, (x - y).abs().amax(dim=1) / y.abs().amax(dim=1).clamp(min=1))
    return rows_of(arguments, plan, moves.argsort()[:count])


def compare(arguments: list[Any], plan: ScanPlan, device: str, dtype: torch.dtype) -> float | None:
    """The deviation of the fused scan from the reference in float64; None if rounding alone decides the result."""
    arguments = rounded(arguments, dtype)
    kind = "dot" if arguments[place("score_weight")] is None else "mlp"
    plan = replace(plan, reading=plan.reading._replace(score=kind))
    expected = results(reference_scan, arguments, plan)
    if not steady(arguments, plan, expected, dtype):
        return None
    return deviation(results(fused(device, dtype), arguments, plan), expected, dtype)


def network(seed: int, T: int, B: int, H: int, A: int, held: int, *, beyond: bool = False) -> list[Any]:
    """The arguments of a scan by an initialised network, whose gates are its inputs: no product is rounded before.

    With `beyond` it fits a ring that reads beyond the paper.
    """
    torch.manual_seed(seed)
    shapes = shapes_of(T, B, 4 * H, H, A, held)
    arguments: list[Any] = [None for _ in shapes]
    # Those of the output gate last: whether bfloat16 keeps to its rounding hangs on what is drawn for the rest.
    for index in sorted(range(len(shapes)), key=lambda index: "output_gate" in ScanArguments._fields[index]):
        arguments[index] = torch.randn(shapes[index], dtype=torch.float64)
    for name in ("weight_hh", "key_weight", "query_weight", "age_weight", "gate_weight"):
        arguments[place(name)] *= H**-0.5
    arguments[place("weight_ih")] = torch.eye(4 * H, dtype=torch.float64)
    for name in ("bias_ih", "bias_hh"):
        arguments[place(name)] *= 0
    arguments = [x.requires_grad_() for x in arguments]
    if kind_of(seed) == "dot":
        arguments[place("score_weight")] = None
    if not beyond:
        for name in (f"{part}_{kind}" for part in ("age", "gate", "output_gate") for kind in ("weight", "bias")):
            arguments[place(name)] = None
    return arguments


def kind_of(seed: int) -> str:
    """The kind of score that the network of a seed has."""
    return "dot" if random.Random(seed).random() < 0.5 else "mlp"


def ring(
    seed: int,
    T: int,
    B: int,
    held: int,
    *,
    bptt_steps: int = 3,
    starts: float = 0.1,
    credit: bool = True,
    gain: float = 1.0,
    beyond: bool = False,
) -> ScanPlan:
    """A memory that is overwritten in order, some writes left out, with episode starts.

    With `beyond`, reads know age, have a floor, and enter and leave through gates, and ĥ is stored.
    """
    torch.manual_seed(seed)
    start = torch.rand(T, B) < starts
    write_slot = (torch.arange(T) % held).unsqueeze(1).where(torch.rand(T, B) < 0.8, torch.tensor(-1))
    cut = (torch.arange(T) % bptt_steps == 0).unsqueeze(1) | start
    reading = Reading(3, credit, kind_of(seed), gain)
    if beyond:
        reading = reading._replace(
            age=True, floor=0.1, sharpness=1.0, gate=True, stored="cell", output_gate=True, age_scale=7
        )
    filled, written_at = torch.rand(B, held) < 0.5, torch.randint(0, 50, (B, held))
    step = torch.full((B,), 50)
    return ScanPlan(start, cut, write_slot, filled, held, reading, step, written_at)

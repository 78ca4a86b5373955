"""The checks of what goes into a scan and what stands around it: made once, for every kernel.

Dimensions as in `sab_agents.kernels.types`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sab_agents.kernels.torch_backend.scores import SCORES
from sab_agents.kernels.types import ScanArguments, ScanPlan


def check_scan(inputs: ScanArguments, plan: ScanPlan) -> None:
    """Compares every shape, dtype and device with those that the sizes of x, of the weights and of the plan demand.

    Whether each entry of `write_slot` lies in −1 … S − 1 is left to the kernels: on a GPU it would have to wait.

    Raises:
        ValueError: one of them differs.
    """
    x = inputs.x
    if x.dim() != 3 or inputs.h.dim() != 2 or plan.filled.dim() != 2:
        raise ValueError(
            f"scan: x must have shape (T, B, I), h (B, H) and plan.filled (B, S), but have {tuple(x.shape)}, "
            f"{tuple(inputs.h.shape)} and {tuple(plan.filled.shape)}."
        )
    (T, B, width), H, A, held = x.shape, inputs.h.shape[1], inputs.query_bias.shape[0], plan.filled.shape[1]
    for field, tensor, shape in zip(ScanArguments._fields, inputs, _shapes(T, B, width, H, A, held), strict=True):
        if tensor is not None and (tensor.shape != shape or tensor.dtype != x.dtype or tensor.device != x.device):
            raise _mismatch("scan", field, tensor, shape, x.dtype, x.device)
    flags = (plan.start, (T, B)), (plan.cut, (T, B)), (plan.filled, (B, held))
    for name, (tensor, size) in zip(("start", "cut", "filled"), flags, strict=True):
        if tensor.shape != size or tensor.dtype != torch.bool or tensor.device != x.device:
            raise _mismatch("scan", f"plan.{name}", tensor, size, torch.bool, x.device)
    slot = plan.write_slot
    if slot.shape != (T, B) or slot.dtype != torch.int64 or slot.device != x.device:
        raise _mismatch("scan", "plan.write_slot", slot, (T, B), torch.int64, x.device)
    reading = plan.reading
    for name, needed, given in (
        ("age", reading.age, (inputs.age_weight, inputs.age_bias)),
        ("gate", reading.gate, (inputs.gate_weight, inputs.gate_bias)),
        ("output_gate", reading.output_gate, (inputs.output_gate_weight, inputs.output_gate_bias)),
    ):
        if any((each is not None) != needed for each in given):
            raise ValueError(
                f"scan: {name}_weight and {name}_bias must be given if plan.reading.{name} is True, and only then."
            )
    if reading.age:
        _check_times(plan, B, held, x.device)
    score = reading.score
    if score not in SCORES or SCORES[score].has_vector != (inputs.score_weight is not None):
        raise ValueError(
            f"scan: plan.reading.score must be one of {', '.join(map(repr, SCORES))}, with a score_weight where it has "
            f"one, but is {score!r} with{'out' if inputs.score_weight is None else ''} it."
        )
    if held > plan.slots or reading.top_k < 1 or T < 1:
        raise ValueError(
            f"scan: there must be at least one step, {held} slots and a top_k of 1, but there are {T} steps, "
            f"{plan.slots} slots and a top_k of {reading.top_k}."
        )


def _check_times(plan: ScanPlan, rows: int, held: int, device: torch.device) -> None:
    for name, tensor, shape in (("step", plan.step, (rows,)), ("written_at", plan.written_at, (rows, held))):
        if tensor is None:
            raise ValueError(f"scan: plan.{name} must be given if plan.reading.age is True.")
        if tensor.shape != shape or tensor.dtype != torch.int64 or tensor.device != device:
            raise _mismatch("scan", f"plan.{name}", tensor, shape, torch.int64, device)


def _shapes(T: int, B: int, width: int, H: int, A: int, held: int) -> tuple[tuple[int, ...], ...]:
    """The shapes of `ScanArguments`."""
    lstm, read = ((4 * H, width), (4 * H, H), (4 * H,), (4 * H,)), ((A, H), (A, H), (A,), (1, A), (1, H), (1,))
    gates = (H, H), (H,), (H,), (H,)
    return (T, B, width), *lstm, *read, *gates, (B, H), (B, H), (B, held, H)


def check_remember(plan: ScanPlan, step: Tensor, written_at: Tensor, memory: Tensor, hidden: Tensor) -> None:
    """The same for the arguments of `remember`.

    Raises:
        ValueError: a shape, dtype or device differs.
    """
    (T, B, H), held = hidden.shape, plan.filled.shape[1]
    for name, tensor, shape, dtype in (
        ("step", step, (T, B), torch.int64),
        ("plan.start", plan.start, (T, B), torch.bool),
        ("plan.write_slot", plan.write_slot, (T, B), torch.int64),
        ("plan.filled", plan.filled, (B, held), torch.bool),
        ("written_at", written_at, (B, held), torch.int64),
        ("memory", memory, (B, held, H), hidden.dtype),
    ):
        if tensor.shape != shape or tensor.dtype != dtype or tensor.device != hidden.device:
            raise _mismatch("remember", name, tensor, shape, dtype, hidden.device)
    if held > plan.slots:
        raise ValueError(f"remember: plan.slots must be at least {held}, but is {plan.slots}.")


def _mismatch(
    function: str, name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> ValueError:
    return ValueError(
        f"{function}: {name} must have shape {tuple(shape)} and be {dtype} on {device}, but has shape "
        f"{tuple(tensor.shape)} and is {tensor.dtype} on {tensor.device}."
    )

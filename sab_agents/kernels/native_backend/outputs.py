"""From inputs to outputs [h, s] with the native kernel, and back to every weight, with little around the scan.

Dimensions: T steps, B rows, I input size, H hidden size, A attention size, S slots.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sab_agents.kernels.native_backend import scan as compiled
from sab_agents.kernels.native_backend.extension import new_empty
from sab_agents.kernels.native_backend.products import product
from sab_agents.kernels.types import ScanInputs, ScanPlan, StepWeights


class Start(NamedTuple):
    """Where a scan begins: h (B, H), c (B, H) and the memory (B, S, H)."""

    h: Tensor
    c: Tensor
    memory: Tensor


def outputs(weights: StepWeights, x: Tensor, start: Start, plan: ScanPlan) -> Tensor:
    """Outputs (T, B, 2H) of a scan; gradient flows to x (T, B, I), every weight and the starting memory."""
    found: Tensor = _Outputs.apply(x, start.memory, *weights, start, plan)  # type: ignore[no-untyped-call]
    return found


class _Outputs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, memory: Tensor, *arguments: Any) -> Tensor:
        weights, x = StepWeights(*arguments[:8]), x.contiguous()
        start: Start = arguments[8]
        inputs, plan = _inputs(weights, x, start._replace(memory=memory), arguments[9])
        tape = compiled.forward(inputs, plan, keep=True, own_gates=True)
        ctx.plan = plan
        ctx.save_for_backward(x, weights.weight_ih, *inputs, *tape)
        return torch.cat([tape.hidden[plan.filled.shape[1] :], tape.summary], dim=2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, weight_ih, *saved = ctx.saved_tensors
        count = len(ScanInputs._fields)
        inputs, tape = ScanInputs(*saved[:count]), compiled.Tape(*saved[count:])
        H = inputs.h.shape[1]
        for_x, for_memory, *for_weights = ctx.needs_input_grad[:10]
        grads = (grad[..., :H], grad[..., H:], None)
        width, A = x.shape[2], inputs.query_bias.shape[0]
        shapes = ((4 * H, width), (4 * H, H), (4 * H,), (4 * H,), (A, H), (A, H), (A,), (1, A))
        wanted = zip(shapes, for_weights, strict=True)
        into = StepWeights(*[new_empty(*shape) if needed else None for shape, needed in wanted])  # type: ignore[arg-type]
        gates, _, _, starting = compiled.backward_into(
            inputs, ctx.plan, tape, grads, x, into, add=False, memory=for_memory
        )
        return product(gates, weight_ih) if for_x else None, starting, *into, None, None


def _inputs(weights: StepWeights, x: Tensor, start: Start, plan: ScanPlan) -> tuple[ScanInputs, ScanPlan]:
    score = weights.score_weight
    return compiled.contiguous(
        ScanInputs(
            gates=product(x, weights.weight_ih.detach().t(), weights.bias_ih, weights.bias_hh),
            weight_hh=weights.weight_hh,
            key_weight=weights.key_weight,
            query_weight=weights.query_weight,
            query_bias=weights.query_bias,
            score_weight=None if score is None else score.detach().squeeze(0),
            h=start.h,
            c=start.c,
            memory=start.memory,
        ),
        plan,
    )

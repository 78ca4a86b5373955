"""From inputs to outputs [h, s] in compiled C++ and back to every weight, with as little around the scan as can be.

Dimensions: T steps, B rows, I input size, H hidden size, A attention size, S slots.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sab_agents.kernels import compiled
from sab_agents.kernels.compiled_products import outer, product
from sab_agents.kernels.interface import ScanInputs, ScanPlan, StepWeights


class Start(NamedTuple):
    """Where a scan begins: h (B, H), c (B, H) and the memory (B, S, H)."""

    h: Tensor
    c: Tensor
    memory: Tensor


def outputs(weights: StepWeights, x: Tensor, start: Start, plan: ScanPlan) -> Tensor:
    """Outputs (T, B, 2H) of a scan; gradient flows to x (T, B, I), every weight and the starting memory."""
    found: Tensor = _Outputs.apply(x, start.memory, *weights, start, plan)  # type: ignore[no-untyped-call]
    return found


def accumulate(
    weights: StepWeights, x: Tensor, start: Start, plan: ScanPlan, grad_hidden: Tensor, *, onward: bool
) -> Tensor | None:
    """Runs a scan and adds to each weight's `.grad` what the gradient (T, B, H) of its h sends there, without a graph.

    Returns:
        (B, S, H) the gradient of the starting memory, None unless `onward`.
    """
    inputs, plan = _inputs(weights, x, start, plan)
    tape = compiled.forward(inputs, plan, keep=True, own_gates=True)
    found = compiled.backward(inputs, plan, tape, (grad_hidden, None, None), memory=onward)
    for weight, gradient in zip(weights, _weight_gradients(found, x), strict=True):
        if weight is None or gradient is None or not weight.requires_grad:
            continue
        if weight.grad is None:
            weight.grad = gradient.clone()  # the two biases share theirs
        else:
            weight.grad += gradient
    return found.memory if onward else None


class _Outputs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, memory: Tensor, *arguments: Any) -> Tensor:
        weights = StepWeights(*arguments[:8])
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
        found = compiled.backward(inputs, ctx.plan, tape, grads, memory=for_memory)
        wanted = zip(for_weights, _weight_gradients(found, x), strict=True)
        return (
            product(found.gates, weight_ih, None) if for_x else None,
            found.memory,
            *[gradient if needed else None for needed, gradient in wanted],
            None,
            None,
        )


def _inputs(weights: StepWeights, x: Tensor, start: Start, plan: ScanPlan) -> tuple[ScanInputs, ScanPlan]:
    bias = weights.bias_ih.detach() + weights.bias_hh.detach()
    score = weights.score_weight
    return compiled.contiguous(
        ScanInputs(
            gates=product(x.contiguous(), weights.weight_ih.detach().t(), bias),
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


def _weight_gradients(found: ScanInputs, x: Tensor) -> StepWeights:
    bias = found.gates.sum(dim=(0, 1))
    return StepWeights(
        weight_ih=outer(found.gates, x),
        weight_hh=found.weight_hh,
        bias_ih=bias,
        bias_hh=bias,
        key_weight=found.key_weight,
        query_weight=found.query_weight,
        query_bias=found.query_bias,
        score_weight=None if found.score_weight is None else found.score_weight.unsqueeze(0),
    )

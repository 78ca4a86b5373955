"""Scans that are computed once more for their gradient.

Dimensions: T steps, B rows, I input size, H hidden size, S slots.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sab_agents.kernels.backend import linear, outputs, scan, scan_run
from sab_agents.kernels.native_backend.run import Run
from sab_agents.kernels.types import ScanInputs, ScanPlan, StepWeights


class Replay(NamedTuple):
    """Steps that were computed once more, for their gradient.

    Attributes:
        outputs: (T, B, F), without a graph.
        backward: takes the gradient of the outputs, of the same shape, once; it adds to every parameter's `.grad`, and
            to that of the inputs where these were passed and require gradient.
    """

    outputs: Tensor
    backward: Callable[[Tensor], None]


def scan_outputs(weights: StepWeights, x: Tensor, h: Tensor, c: Tensor, memory: Tensor, plan: ScanPlan) -> Tensor:
    """Returns outputs [h, s] (T, B, 2H) of a scan from x (T, B, I); gradient flows to x, the weights and the memory."""
    found = outputs(weights, x, h, c, memory, plan)
    if found is not None:
        return found
    score = weights.score_weight
    inputs = ScanInputs(
        gates=linear(x, weights.weight_ih, weights.bias_ih + weights.bias_hh),
        weight_hh=weights.weight_hh,
        key_weight=weights.key_weight,
        query_weight=weights.query_weight,
        query_bias=weights.query_bias,
        score_weight=None if score is None else score.squeeze(0),
        h=h,
        c=c,
        memory=memory,
    )
    scanned = scan(inputs, plan, own_gates=True)
    return torch.cat([scanned.h, scanned.summary], dim=2)


def replay(weights: StepWeights, x: Tensor, h: Tensor, c: Tensor, memory: Tensor, plan: ScanPlan) -> Replay:
    """Replays a scan; the gradient goes to the `.grad` of every weight, of x and of the memory that requires it."""
    if are_leaves(weights) and not x.requires_grad:
        found = scan_run(weights, x, h, c, memory, plan)
        if found is not None:
            return native_replay(*found, memory)
    with torch.enable_grad():
        return graph_replay(scan_outputs(weights, x, h, c, memory, plan))


def are_leaves(weights: StepWeights) -> bool:
    """Whether every weight keeps its own `.grad`, and is not computed from others."""
    return all(each is None or each.is_leaf for each in weights)


def graph_replay(outputs: Tensor) -> Replay:
    """Returns a replay whose gradient takes the graph of `outputs`."""

    def backward(gradient: Tensor) -> None:
        if outputs.requires_grad:
            torch.autograd.backward(outputs, gradient)

    return Replay(outputs.detach(), backward)


def gradient_like(output: Tensor, gradient: Tensor) -> Tensor:
    """Returns the gradient of a replay's outputs, contiguous.

    Raises:
        ValueError: it has not their shape and dtype.
    """
    if gradient.shape != output.shape or gradient.dtype is not output.dtype:
        raise ValueError(
            f"replay: the gradient must be {output.dtype} of shape {tuple(output.shape)}, as the outputs, "
            f"but is {gradient.dtype} of shape {tuple(gradient.shape)}."
        )
    return gradient.contiguous()


def native_replay(run: Run, outputs: Tensor, memory: Tensor) -> Replay:
    """Returns a replay without a graph, which leaves the gradient of the memory before it in `memory.grad`."""

    def backward(gradient: Tensor) -> None:
        received = torch.empty_like(memory, requires_grad=False) if memory.requires_grad else None
        rows, width = gradient_like(outputs, gradient), gradient.shape[2]
        first = rows.data_ptr()
        run.backward(first, first + width // 2 * rows.element_size(), width, received)
        memory.grad = received

    return Replay(outputs, backward)

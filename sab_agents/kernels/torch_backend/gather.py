"""The last part of a backward pass in torch: from what its loop left to the gradients of the scan's inputs.

Dimensions as in `sab_agents.kernels.torch_backend.scan`.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from sab_agents.kernels.types import ScanInputs, ScanPlan


class LoopGradients(NamedTuple):
    """What a backward loop leaves: gradients of everything that it visited, none yet of a matrix."""

    gates: Tensor  # (T, B, 4H)
    states: Tensor  # (V, B, H) of every version
    keys: Tensor  # (V, B, A) of their keys
    query: Tensor  # (T, B, Q)
    score_weight: Tensor | None  # (A,)
    cell: Tensor  # (B, H) of c before the first step


def outer(left: Tensor, right: Tensor) -> Tensor:
    """Σ over steps and rows of left (T, B, M) ⊗ right (T, B, N), as (M, N)."""
    return left.reshape(-1, left.shape[2]).t() @ right.reshape(-1, right.shape[2])


def input_gradients(
    inputs: ScanInputs,
    plan: ScanPlan,
    any_start: bool,
    hidden: Tensor,
    state: Tensor,
    output: Tensor,
    found: LoopGradients,
) -> ScanInputs:
    """The gradient of every input: one product for each matrix.

    Args:
        inputs: of the scan.
        plan: of the scan.
        any_start: whether an episode starts within it.
        hidden: (V, B, H) all versions.
        state: (T, B, H) h of every step.
        output: (T, B, H) ĥ of every step.
        found: what the loop left.
    """
    held, before, later = plan.filled.shape[1], inputs.h, state[:-1]
    if any_start:
        before = before.masked_fill(plan.start[0].unsqueeze(1), 0)
        later = later.masked_fill(plan.start[1:].unsqueeze(2), 0)
    memory = found.states.new_zeros(found.states[:held].shape)
    if plan.reading.credit:
        memory = found.states[:held] + found.keys[:held] @ inputs.key_weight
    return ScanInputs(
        gates=found.gates,
        weight_hh=outer(found.gates[1:], later).addmm_(found.gates[0].t(), before),
        key_weight=outer(found.keys, hidden),
        query_weight=outer(found.query, output),
        query_bias=found.query.sum(dim=(0, 1)),
        score_weight=found.score_weight,
        h=found.gates[0].masked_fill(plan.cut[0].unsqueeze(1), 0) @ inputs.weight_hh,
        c=found.cell,
        memory=memory.transpose(0, 1),
    )

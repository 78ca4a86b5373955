"""The gate through which a summary leaves: 2σ(w ⊙ h + b) ⊙ s, after a scan, and before its backward pass.

Dimensions: T steps, B rows, H hidden size.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sab_agents.kernels.types import ScanArguments


def opened(h: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """2σ(w ⊙ h + b) of hidden states h (…, H): between 0 and 2, and 1 where w and b are 0."""
    assert weight is not None
    assert bias is not None
    return 2 * torch.sigmoid(torch.addcmul(bias, weight, h))


class GateGradients(NamedTuple):
    """What a gate's backward pass finds."""

    output: Tensor  # of the outputs without the gate, of their shape
    weight: Tensor | None  # (H,)
    bias: Tensor | None  # (H,)


def through_output_gate(inputs: ScanArguments, grad_output: Tensor, h: Tensor, summary: Tensor) -> GateGradients:
    """Takes the gradient of a scan's outputs to that of the outputs without the gate; unchanged where there is none.

    Args:
        inputs: of the scan.
        grad_output: (T, B, 2H) or (T, B, 3H).
        h: (T, B, H) hidden states.
        summary: (T, B, H) s, before the gate.
    """
    weight = inputs.output_gate_weight
    if weight is None:
        return GateGradients(grad_output, None, None)
    H = h.shape[2]
    gate, grad_summary = opened(h, weight, inputs.output_gate_bias), grad_output[..., H : 2 * H]
    of_sum = grad_summary * summary * gate * (1 - gate / 2)
    parts = [torch.addcmul(grad_output[..., :H], of_sum, weight), grad_summary * gate, grad_output[..., 2 * H :]]
    return GateGradients(torch.cat(parts, dim=2), (of_sum * h).sum(dim=(0, 1)), of_sum.sum(dim=(0, 1)))

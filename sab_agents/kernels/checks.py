"""What kernels that are handed addresses must know of their arguments, since they trust them.

Dimensions as in `sab_agents.kernels.types`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sab_agents.kernels.types import ScanInputs, ScanPlan


def check_shapes(inputs: ScanInputs, plan: ScanPlan, dtype: torch.dtype) -> None:
    """Compares every shape and dtype with that of the gates, which are in `dtype`; a difference is a ValueError."""
    T, B, width = inputs.gates.shape
    H, A, held = width // 4, inputs.query_bias.shape[0], plan.filled.shape[1]
    shapes = {
        "gates": (T, B, 4 * H),
        "weight_hh": (4 * H, H),
        "key_weight": (A, H),
        "query_weight": (A, H),
        "query_bias": (A,),
        "score_weight": (A,),
        "h": (B, H),
        "c": (B, H),
        "memory": (B, held, H),
    }
    for name, shape in shapes.items():
        tensor: Tensor | None = getattr(inputs, name)
        if tensor is not None and (tuple(tensor.shape) != shape or tensor.dtype != dtype):
            raise ValueError(
                f"scan: {name} must have shape {shape} and dtype {dtype}, but has {tuple(tensor.shape)} and "
                f"{tensor.dtype}."
            )
    for name, shape, kind in (
        ("start", (T, B), torch.bool),
        ("cut", (T, B), torch.bool),
        ("write_slot", (T, B), torch.int64),
        ("filled", (B, held), torch.bool),
    ):
        tensor = getattr(plan, name)
        if tuple(tensor.shape) != shape or tensor.dtype != kind:
            raise ValueError(
                f"scan: plan.{name} must have shape {shape} and dtype {kind}, but has {tuple(tensor.shape)} and "
                f"{tensor.dtype}."
            )

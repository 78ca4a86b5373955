"""Questions about all elements of a tensor that are asked at every step, answered fast."""

from __future__ import annotations

import torch
from torch import Tensor

from sab_agents.kernels.backend import is_plain, runs_native
from sab_agents.kernels.native_backend import extension
from sab_agents.kernels.native_backend import head as native_head
from sab_agents.kernels.native_backend import plan as native_plan


def all_finite(x: Tensor) -> bool:
    """Whether no element is NaN or infinite.

    True for a tensor whose elements are not known: while a transform of `torch.func`, a trace or a dispatch mode is
    active, and for subclasses such as fake tensors.
    """
    if not is_plain(x):
        return True
    # The answer is the same whatever computes it, so that `SAB_KERNEL` need not be asked.
    if extension.native is not None and x.dtype is torch.float32 and x.is_cpu:
        return native_plan.all_finite(x)
    return bool(torch.isfinite(x).all())


def norm(x: Tensor) -> float:
    """The Euclidean norm of all elements."""
    return native_head.norm(x) if runs_native(x) else float(torch.linalg.vector_norm(x))

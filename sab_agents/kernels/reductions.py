"""Questions about all elements of a tensor that are asked at every step, answered fast."""

from __future__ import annotations

import torch
from torch import Tensor

from sab_agents.kernels.backend import is_plain, runs_native
from sab_agents.kernels.native_backend.extension import native, threads

WORK = 32  # multiply-adds that take as long as looking at one element


def all_finite(x: Tensor) -> bool:
    """Whether no element is NaN or infinite.

    True for a tensor whose elements are not known: while a transform of `torch.func`, a trace or a dispatch mode is
    active, for subclasses such as fake tensors, and on the meta device.
    """
    if not is_plain(x):
        return True
    # The answer is the same whatever computes it, so that `SAB_KERNEL` need not be asked.
    if native is not None and x.dtype is torch.float32 and x.is_cpu:
        count = x.numel()
        return bool(native.AllFinite(threads=threads(count * WORK), count=count, x=x.contiguous()).run())
    return x.is_meta or bool(torch.isfinite(x).all())


def norm(x: Tensor) -> float:
    """The Euclidean norm of all elements."""
    if runs_native(x):
        return float(native.Norm(count=x.numel(), x=x.contiguous()).run())
    return float(torch.linalg.vector_norm(x))

"""Whether the fused kernel can run: is Triton there, and does the device do what it needs."""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module

import torch

DTYPES = (torch.float32, torch.bfloat16)

CAPABILITY = (8, 0)
"""The first of NVIDIA's processors that compute in bfloat16 and that Triton supports without reserve."""


@cache
def imports() -> bool:
    """Whether Triton is installed and can be loaded."""
    try:
        import_module("triton")
    except ImportError:
        return False
    return True


def lacks(score: str) -> bool:
    """Whether the kernel does not have a kind of score; where Triton cannot be imported it is not asked."""
    try:
        known: tuple[str, ...] = import_module("sab_agents.kernels.triton_backend.scores").SCORES
    except ImportError:
        return False
    return score not in known


def interpreted() -> bool:
    """Whether Triton was asked to run its kernels in Python, on tensors of a CPU: `TRITON_INTERPRET=1`."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def recent(device: torch.device) -> bool:
    """Whether a CUDA device is one that the kernel is chosen for without being asked."""
    return torch.cuda.is_available() and torch.cuda.get_device_capability(device) >= CAPABILITY

"""Which way a scan is computed: by a kernel made for its device and dtype where there is one, else in plain torch.

"native" is compiled C++ for float32 on a CPU, "triton" fused kernels for float32 and bfloat16 on a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sab_agents.kernels import compiled, compiled_products, eager, extension
from sab_agents.kernels.fused import available, sizes
from sab_agents.kernels.interface import ScanInputs, ScanOutputs, ScanPlan

VARIABLE = "SAB_KERNEL"
"""The environment variable that forces a way."""

NATIVE, TORCH, TRITON = "native", "torch", "triton"


def scan(inputs: ScanInputs, plan: ScanPlan) -> ScanOutputs:
    """Computes a scan by the way in use for its device and dtype; gradient flows to every tensor of `inputs`.

    A scan that is too large for the fused kernel (`sab_agents.kernels.fused.sizes.fits`) takes plain torch.

    Raises:
        ValueError: as `kernel_in_use`, or `SAB_KERNEL` is "triton" and the scan is too large for it.
        RuntimeError: as `kernel_in_use`.
    """
    kernel = kernel_in_use(inputs.gates.device, inputs.gates.dtype)
    if kernel == NATIVE:
        return compiled.scan(inputs, plan)
    if kernel == TRITON and sizes.fits(inputs, plan):
        return _fused_scan(inputs, plan)
    if kernel == TRITON and os.environ.get(VARIABLE) == TRITON:
        raise ValueError(
            f'{VARIABLE} is "triton", which takes at most {sizes.MOST_SLOTS} slots, hidden size {sizes.MOST_HIDDEN}, '
            f"attention size {sizes.MOST_ATTENTION} and (top_k + 1) * hidden size {sizes.MOST_READ}, but the scan has "
            f"{plan.slots}, {inputs.h.shape[1]}, {len(inputs.query_bias)} and top_k {plan.top_k}. Unset {VARIABLE} to "
            f"use plain torch, or set a capacity."
        )
    return eager.scan(inputs, plan)


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Computes x (T, B, I) · weight (N, I)ᵀ + bias (N,), as (T, B, N), by the way that a scan of x takes."""
    if kernel_in_use(x.device, x.dtype) == NATIVE:
        return compiled_products.linear(x, weight, bias)
    return functional.linear(x, weight, bias)


def kernel_in_use(device: torch.device | str, dtype: torch.dtype) -> str:
    """The way in which scans of tensors on `device` of `dtype` are computed: "native", "triton" or "torch".

    The environment variable `SAB_KERNEL` forces one of them.

    Raises:
        ValueError: `SAB_KERNEL` is none of them, or names a kernel that does not take such tensors.
        RuntimeError: `SAB_KERNEL` is "native", but the compiled kernel was not built; or "triton", and there is none.
    """
    wanted, device = os.environ.get(VARIABLE, ""), torch.device(device)
    if wanted not in {"", NATIVE, TORCH, TRITON}:
        raise ValueError(
            f'{VARIABLE} must be "native", "torch" or "triton", but is {wanted!r}. Unset it to let the library choose.'
        )
    if wanted == NATIVE:
        _require_native(device, dtype)
    if wanted == TRITON:
        _require_triton(device, dtype)
    if wanted:
        return wanted
    if device.type == "cpu" and dtype == torch.float32 and extension.native is not None:
        return NATIVE
    on_gpu = device.type == "cuda" and dtype in available.DTYPES and not available.interpreted()
    return TRITON if on_gpu and available.recent(device) and available.imports() else TORCH


def _require_native(device: torch.device, dtype: torch.dtype) -> None:
    if extension.native is None:
        raise RuntimeError(
            f'{VARIABLE} is "native", but the compiled kernel was not built when sab-agents was installed. Install a '
            f'C++ compiler (GCC or Clang) and reinstall, or set {VARIABLE} to "torch".'
        )
    if device.type != "cpu" or dtype != torch.float32:
        raise ValueError(
            f'{VARIABLE} is "native", which takes float32 on a CPU only, but the tensors are {dtype} on {device}. '
            f"Convert them, or unset {VARIABLE}."
        )


def _require_triton(device: torch.device, dtype: torch.dtype) -> None:
    if not available.imports():
        raise RuntimeError(
            f'{VARIABLE} is "triton", but Triton cannot be imported. It comes with torch\'s CUDA builds for Linux: '
            f'install one of those, or set {VARIABLE} to "torch".'
        )
    if dtype not in available.DTYPES:
        raise ValueError(
            f'{VARIABLE} is "triton", which takes float32 and bfloat16 only, but the tensors are {dtype}. '
            f"Convert them, or unset {VARIABLE}."
        )
    if device.type != "cuda" and not (device.type == "cpu" and available.interpreted()):
        raise ValueError(
            f'{VARIABLE} is "triton", which takes tensors on a GPU only, but they are on {device}. Move them, unset '
            f"{VARIABLE}, or, to test the kernel on a CPU, start Python with TRITON_INTERPRET=1."
        )


def _fused_scan(inputs: ScanInputs, plan: ScanPlan) -> ScanOutputs:
    """Imports Triton when it is first needed: most installations have none."""
    launch: Any = import_module("sab_agents.kernels.fused.launch")
    outputs: ScanOutputs = launch.scan(inputs, plan)
    return outputs


@contextmanager
def forced_kernel(name: str) -> Iterator[None]:
    """Forces "native", "torch" or "triton" within a `with` block, by the environment variable; for measurements."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before

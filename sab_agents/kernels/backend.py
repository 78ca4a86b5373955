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

from sab_agents.kernels.native_backend import (
    agent as compiled_agent,
)
from sab_agents.kernels.native_backend import (
    extension,
)
from sab_agents.kernels.native_backend import (
    head as compiled_head,
)
from sab_agents.kernels.native_backend import (
    outputs as compiled_outputs,
)
from sab_agents.kernels.native_backend import (
    plan as compiled_plan,
)
from sab_agents.kernels.native_backend import (
    products as compiled_products,
)
from sab_agents.kernels.native_backend import (
    run as compiled_run,
)
from sab_agents.kernels.native_backend import (
    scan as compiled,
)
from sab_agents.kernels.native_backend import (
    segment as compiled_segment,
)
from sab_agents.kernels.native_backend import (
    step as compiled_step,
)
from sab_agents.kernels.native_backend.extension import VARIABLE
from sab_agents.kernels.torch_backend import scan as eager
from sab_agents.kernels.triton_backend import available, sizes
from sab_agents.kernels.types import (
    Counted,
    Held,
    ScanInputs,
    ScanOutputs,
    ScanPlan,
    StepRules,
    StepState,
    StepWeights,
)

NATIVE, TORCH, TRITON = "native", "torch", "triton"


def scan(inputs: ScanInputs, plan: ScanPlan, *, own_gates: bool = False) -> ScanOutputs:
    """Computes a scan by the way in use for its device and dtype; gradient flows to every tensor of `inputs`.

    With `own_gates` nobody else looks at `inputs.gates` afterwards, and the scan may write over them.
    A scan that is too large for the fused kernel (`sab_agents.kernels.triton_backend.sizes.fits`) takes plain torch.

    Raises:
        ValueError: as `kernel_in_use`, or `SAB_KERNEL` is "triton" and the scan is too large for it.
        RuntimeError: as `kernel_in_use`.
    """
    kernel = kernel_in_use(inputs.gates.device, inputs.gates.dtype)
    if kernel == NATIVE:
        return compiled.scan(inputs, plan, own_gates=own_gates)
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


def count_steps(
    before: Tensor,
    start: Tensor | None,
    steps: int,
    *,
    slots: int,
    write_every: int,
    bptt_steps: int,
    dtype: torch.dtype,
) -> Counted | None:
    """Counts the steps of a scan by compiled code; None where scans of `dtype` do not go that way.

    Args:
        before: (B,) int64, steps that each row's episode took before.
        start: (T, B) bool, episode starts, or None for none.
        steps: T.
        slots: of the ring that is written to; 0 for as many as are written.
        write_every: steps between two writes.
        bptt_steps: steps between two cuts.
        dtype: of the scan.
    """
    if kernel_in_use(before.device, dtype) != NATIVE:
        return None
    return compiled_plan.count_steps(before, start, steps, slots=slots, write_every=write_every, bptt_steps=bptt_steps)


def remember(plan: ScanPlan, step: Tensor, written_at: Tensor, memory: Tensor, hidden: Tensor) -> Held | None:
    """What the memory holds after a scan, by compiled code; None where such scans do not go that way.

    Args:
        plan: of the scan.
        step: (T, B) int64, 1-based step of its episode.
        written_at: (B, S₀) int64, 0-based step of the episode at which the slots of the starting memory were written.
        memory: (B, S₀, H), the starting memory.
        hidden: (T, B, H), the scan's h.
    """
    if kernel_in_use(hidden.device, hidden.dtype) != NATIVE:
        return None
    return compiled_plan.remember(plan, step, written_at, memory, hidden)


def all_finite(x: Tensor) -> bool:
    """Whether no number of x is NaN or infinite: a question with one answer, so that no way need be chosen for it."""
    if extension.native is not None and x.dtype is torch.float32 and x.is_cpu:
        return compiled_plan.all_finite(x)
    return bool(torch.isfinite(x).all())


def norm(x: Tensor) -> float:
    """The Euclidean norm of all numbers of x together."""
    if kernel_in_use(x.device, x.dtype) == NATIVE:
        return compiled_head.norm(x)
    return float(torch.linalg.vector_norm(x))


def step(
    weights: StepWeights, rules: StepRules, x: Tensor, state: StepState, episode_start: Tensor | None
) -> tuple[Tensor, StepState] | None:
    """Takes one step without gradient: the output [h, s] (B, 2H) and the new state, in one call of compiled code.

    None where there is no such code for these tensors, where gradient is wanted, or where an argument is wrong: then a
    scan of one step is the way.
    """
    # Which tensors it takes is checked there: no need to ask here too, unless a way is forced.
    if os.environ.get(VARIABLE) and kernel_in_use(x.device, x.dtype) != NATIVE:
        return None
    if extension.native is not None:
        return compiled_step.step(weights, rules, x, state, episode_start)
    return None


def lstm_step(
    weights: tuple[Tensor, Tensor, Tensor, Tensor], x: Tensor, h: Tensor, c: Tensor, episode_start: Tensor | None
) -> tuple[Tensor, Tensor] | None:
    """One step of a plain LSTM without gradient: the new h and c (B, H), or None as `step`."""
    if extension.native is None or (os.environ.get(VARIABLE) and kernel_in_use(x.device, x.dtype) != NATIVE):
        return None
    return compiled_step.lstm_step(weights, x, h, c, episode_start)


def lstm_run(
    weights: tuple[Tensor, Tensor, Tensor, Tensor], x: Tensor, h: Tensor, c: Tensor, start: Tensor, cut: Tensor
) -> tuple[compiled_run.Run, Tensor] | None:
    """A plain LSTM without a graph by compiled code, see `compiled_run.lstm_run`; None where there is none for it."""
    if kernel_in_use(x.device, x.dtype) != NATIVE:
        return None
    return compiled_run.lstm_run(weights, x, h, c, start, cut)


def scan_run(
    weights: StepWeights, x: Tensor, h: Tensor, c: Tensor, memory: Tensor, plan: ScanPlan
) -> tuple[compiled_run.Run, Tensor] | None:
    """A scan without a graph by compiled code, see `compiled_run.scan_run`; None where there is none for it."""
    if kernel_in_use(x.device, x.dtype) != NATIVE:
        return None
    return compiled_run.scan_run(weights, x, h, c, memory, plan)


def bind_readout(
    parameters: tuple[Tensor, ...], gradients: tuple[Tensor, ...], slope: float, epsilon: float
) -> compiled_agent.CompiledReadout | None:
    """The compiled code for these layers; None where scans of such tensors do not go that way."""
    if kernel_in_use(parameters[0].device, parameters[0].dtype) != NATIVE:
        return None
    return compiled_agent.CompiledReadout.bound(parameters, gradients, slope, epsilon)


def bind_descent(
    vector: Tensor, gradient: Tensor, trace: Tensor, **settings: float
) -> compiled_agent.CompiledDescent | None:
    """The compiled code for steps of this vector; None where scans of such tensors do not go that way."""
    if kernel_in_use(vector.device, vector.dtype) != NATIVE:
        return None
    return compiled_agent.CompiledDescent.bound(vector, gradient, trace, **settings)


def bind_lstm(weights: tuple[Tensor, ...], steps: int) -> compiled_segment.CompiledLSTM | None:
    """The compiled code for an LSTM with these weights; None where scans of such tensors do not go that way."""
    if kernel_in_use(weights[0].device, weights[0].dtype) != NATIVE:
        return None
    return compiled_segment.CompiledLSTM.bound(weights, steps)


def bind_units(parameters: tuple[Tensor, ...], gradients: tuple[Tensor, ...]) -> compiled_agent.CompiledUnits | None:
    """The compiled code for these trace units; None where scans of such tensors do not go that way."""
    if kernel_in_use(parameters[0].device, parameters[0].dtype) != NATIVE:
        return None
    return compiled_agent.CompiledUnits.bound(parameters, gradients)


def outputs(weights: StepWeights, x: Tensor, h: Tensor, c: Tensor, memory: Tensor, plan: ScanPlan) -> Tensor | None:
    """Outputs [h, s] (T, B, 2H) of a scan from inputs x (T, B, I), with gradient, in one call of compiled code.

    None where scans of x do not go that way.
    """
    if kernel_in_use(x.device, x.dtype) != NATIVE:
        return None
    return compiled_outputs.outputs(weights, x, compiled_outputs.Start(h, c, memory), plan)


def head_gradient(
    loss: str, weight: Tensor, bias: Tensor, outputs: Tensor, place: Tensor | None, target: Tensor
) -> Tensor | None:
    """The gradient of a head's mean loss by compiled code, see `compiled_head.py`; None where there is none for it."""
    if kernel_in_use(outputs.device, outputs.dtype) != NATIVE:
        return None
    return compiled_head.head_gradient(loss, weight, bias, outputs, place, target)


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
    launch: Any = import_module("sab_agents.kernels.triton_backend.launch")
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

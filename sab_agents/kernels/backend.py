"""Which kernel computes what: by device and dtype, by what is built, and by `SAB_KERNEL`; and what is asked of tensors.

"native" is compiled C++ for float32 on a CPU, "triton" fused kernels for float32 and bfloat16 on a GPU, "torch" plain
torch for everything else. Native kernels are handed addresses, so they take ordinary tensors only: see `is_plain`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.compiler import is_compiling

from sab_agents.kernels.native_backend import extension
from sab_agents.kernels.triton_backend import available, sizes
from sab_agents.kernels.types import ScanArguments, ScanPlan

NATIVE, TORCH, TRITON = "native", "torch", "triton"

VARIABLE = "SAB_KERNEL"
"""The environment variable that forces a kernel."""

INTERNALS: Any = torch._C

WORK = 32  # multiply-adds that take as long as looking at one element

PLAIN_TYPES = frozenset({Tensor, nn.Parameter, type(None)})


def _in_python(name: str) -> str:
    return os.environ.get(name, "")


# Every step asks.
_environment_variable: Callable[[str], str] = getattr(extension.native, "environment_variable", _in_python)


def forced_way() -> str:
    """The value of `SAB_KERNEL`, empty if it is unset."""
    # A compiler traces Python only.
    return _in_python(VARIABLE) if is_compiling() else _environment_variable(VARIABLE)


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


def kernel_in_use(device: torch.device | str, dtype: torch.dtype) -> str:
    """The kernel for tensors on `device` of `dtype`: "native", "triton" or "torch".

    The environment variable `SAB_KERNEL` forces one of them. Where the native kernel would be taken but was not built,
    a RuntimeWarning says so, once in a process.

    Raises:
        ValueError: `SAB_KERNEL` is none of them, or names a kernel that does not take such tensors.
        RuntimeError: `SAB_KERNEL` is "native", but the native kernel was not built; or "triton", which is missing.
    """
    wanted, device = forced_way(), torch.device(device)
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
    if device.type == "cpu" and dtype == torch.float32:
        if extension.native is not None:
            return NATIVE
        if not is_compiling():
            _warn_not_built()
    on_gpu = device.type == "cuda" and dtype in available.DTYPES and not available.interpreted()
    return TRITON if on_gpu and available.recent(device) and available.imports() else TORCH


def scan_kernel(inputs: ScanArguments, plan: ScanPlan) -> str:
    """The kernel for a scan: as `kernel_in_use`, but "torch" for what others do not compute.

    That is a softmax and a kind of score that they lack, whatever `SAB_KERNEL` says, and a scan that is too large for
    Triton's kernel.

    Raises:
        ValueError: as `kernel_in_use`, or `SAB_KERNEL` is "triton" and the scan is too large for it.
        RuntimeError: as `kernel_in_use`.
    """
    if plan.reading.sparsifier == "softmax":
        return TORCH
    kernel = kernel_in_use(inputs.x.device, inputs.x.dtype)
    if kernel == NATIVE and plan.reading.score not in extension.SCORES:
        return TORCH
    if kernel == TRITON and available.lacks(plan.reading.score):
        return TORCH
    if kernel != TRITON or sizes.fits(inputs, plan):
        return kernel
    if forced_way() == TRITON:
        raise ValueError(
            f'{VARIABLE} is "triton", which takes at most {sizes.MOST_SLOTS} slots, hidden size {sizes.MOST_HIDDEN}, '
            f"attention size {sizes.MOST_ATTENTION} and (top_k + 1) * hidden size {sizes.MOST_READ}, but the scan has "
            f"{plan.slots}, {inputs.h.shape[1]}, {len(inputs.query_bias)} and top_k {plan.reading.top_k}. Unset "
            f"{VARIABLE} to use plain torch, or set a capacity."
        )
    return TORCH


def is_plain(*tensors: Tensor | None) -> bool:
    """Whether these are ordinary tensors that nothing but autograd looks at, so that a kernel may read their memory.

    False for subclasses (fake, functional, distributed and others), under the transforms of `torch.func`, under a
    dispatch mode, in forward-mode differentiation, and while `torch.compile`, `torch.export` or `torch.jit.trace`
    records. False, too, if the first of them is a view that is yet to be negated, as the imaginary part of a conjugate
    number is: inputs come from anywhere, parameters and states do not.
    """
    return (
        not is_compiling()
        and not INTERNALS._are_functorch_transforms_active()
        and INTERNALS._len_torch_dispatch_stack() == 0
        and forward_ad._current_level < 0
        and not INTERNALS._get_tracing_state()
        and PLAIN_TYPES.issuperset(map(type, tensors))
        and (tensors[0] is None or not tensors[0].is_neg())
    )


def is_known(*tensors: Tensor | None) -> bool:
    """Whether Python may look at the elements of these: they are plain, and not on the meta device, which has none."""
    return is_plain(*tensors) and not any(tensor is not None and tensor.is_meta for tensor in tensors)


def is_batched(tensor: Tensor) -> bool:
    """Whether this is one of the batched gradients of `torch.autograd.grad(…, is_grads_batched=True)`."""
    return bool(INTERNALS._functorch.is_legacy_batchedtensor(tensor))


def transforms_active() -> bool:
    """Whether a transform of `torch.func` or forward-mode differentiation is at work, and no compiler records it."""
    return (bool(INTERNALS._are_functorch_transforms_active()) or in_forward_mode()) and not is_compiling()


def in_forward_mode() -> bool:
    """Whether derivatives are carried along with the values, by `torch.autograd.forward_ad` or `torch.func.jvp`."""
    return forward_ad._current_level >= 0


def runs_native(reference: Tensor, *tensors: Tensor | None) -> bool:
    """Whether the native kernel takes these tensors: the first decides for its device and dtype, all must be plain."""
    return is_plain(reference, *tensors) and kernel_in_use(reference.device, reference.dtype) == NATIVE


def all_finite(x: Tensor) -> bool:
    """Whether no element is NaN or infinite.

    True for a tensor whose elements are not known: while a transform of `torch.func`, a trace or a dispatch mode is
    active, for subclasses such as fake tensors, and on the meta device.
    """
    if not is_plain(x):
        return True
    # The answer is the same whatever computes it, so that `SAB_KERNEL` need not be asked.
    if extension.native is not None and x.dtype is torch.float32 and x.is_cpu:
        count, native = x.numel(), extension.native
        return bool(native.AllFinite(threads=extension.threads(count * WORK), count=count, x=x.contiguous()).run())
    return x.is_meta or bool(torch.isfinite(x).all())


def norm(x: Tensor) -> float:
    """The Euclidean norm of all elements."""
    if runs_native(x):
        return float(extension.native.Norm(count=x.numel(), x=x.contiguous()).run())
    return float(torch.linalg.vector_norm(x))


@cache
def _warn_not_built() -> None:
    warnings.warn(
        "sab_agents computes in plain torch, several times slower, since the native kernel was not built when it was "
        f"installed. Install a C++ compiler (GCC or Clang) and reinstall, or set {VARIABLE}=torch to go without.",
        RuntimeWarning,
        stacklevel=3,
    )


def _require_native(device: torch.device, dtype: torch.dtype) -> None:
    if extension.native is None:
        raise RuntimeError(
            f'{VARIABLE} is "native", but the native kernel was not built when sab-agents was installed. Install a '
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

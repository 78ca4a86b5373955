"""The compiled extension, if it was built, and what every call of it needs."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ctypes import Array, c_double, c_int64
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

try:
    native: Any = import_module("sab_agents.kernels.native_backend._native")
except ImportError:  # not built: no C++ compiler when the package was installed
    native = None

WORK_PER_THREAD = 1 << 21  # multiply-adds below which starting another thread costs more than it saves
CPU = torch.device("cpu")
LARGE = 1 << 22  # bytes from which a buffer is asked to have large pages


def threads(work: int) -> int:
    """As many as torch uses, fewer for few multiply-adds; no result depends on it."""
    return 1 if work < 2 * WORK_PER_THREAD else min(torch.get_num_threads(), work // WORK_PER_THREAD)


def whole_numbers(values: Sequence[int]) -> Array[c_int64]:
    """Numbers in a row that stay where they are: fields of a struct of the compiled code, behind `addressof`."""
    return (c_int64 * len(values))(*values)


def real_numbers(values: Sequence[float]) -> Array[c_double]:
    """The same of doubles."""
    return (c_double * len(values))(*values)


def bits(value: float) -> int:
    """The 64 bits of a double as a whole number: how a real field of a struct is passed among whole ones."""
    found: int = struct.unpack("q", struct.pack("d", value))[0]
    return found


def addresses(*tensors: Tensor | None) -> list[int]:
    """Where each tensor's numbers begin, 0 for None."""
    return [0 if tensor is None else tensor.data_ptr() for tensor in tensors]


def new_empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A buffer on the CPU, whatever torch's defaults are.

    A large one has large pages, so that its first touch is several times as fast.
    """
    tensor = torch.empty(shape, dtype=dtype, device=CPU)
    if tensor.nbytes >= LARGE:
        native.use_large_pages(tensor.data_ptr(), tensor.nbytes)
    return tensor

"""The native extension, if it was built, and what every use of it needs.

The extension has one type for each operation, such as `native.Count`. Its arguments are set by name, all at once,
`native.Count(rows=B, start=None, …)`, or later as attributes, and `run()` calls it. A name that the operation does not
have raises at once, and one that was not set raises at `run()`; the names come from the structures' one definition, in
src/arguments.h.

An array is a tensor; `(tensor, offset)`, the rest of it from an element on; or `()`, no elements. The tensor lives as
long as the arguments that name it. None says that an optional array is absent, and nothing else does: an empty tensor
is there. A group of arguments, such as the weights, is taken from the attributes of those names of any object.
"""

from __future__ import annotations

import threading
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

try:
    native: Any = import_module("sab_agents.kernels.native_backend._native")
except ImportError:  # not built: no C++ compiler when the package was installed
    native = None

SCORES: tuple[str, ...] = () if native is None else native.SCORES
"""The kinds of score that it has, by which its operations know them by number."""

REAL, WHOLE, FLAG = torch.float32, torch.int64, torch.bool
WORK_PER_THREAD = 1 << 21  # multiply-adds below which starting another thread costs more than it saves
CPU = torch.device("cpu")
LIKE = {dtype: torch.empty(0, dtype=dtype, device=CPU) for dtype in (REAL, WHOLE, FLAG)}
"""Of which buffers are made: that takes two thirds of the time of `torch.empty` with a dtype and a device."""

new_row = LIKE[REAL].new_empty
"""Makes a buffer of float32 that is small, such as one row of features, faster than `new_empty`."""

LARGE = 1 << 22  # bytes from which a buffer is asked to have large pages
LARGEST_SCRATCH = 1 << 27  # bytes of a buffer that is kept


def threads(work: int) -> int:
    """Returns how many threads to use: as many as torch, fewer for few multiply-adds. No result depends on it."""
    return 1 if work < 2 * WORK_PER_THREAD else min(torch.get_num_threads(), work // WORK_PER_THREAD)


def new_empty(*shape: int, dtype: torch.dtype = REAL) -> Tensor:
    """Returns a buffer on the CPU, whatever torch's defaults are.

    A large one has large pages, which makes its first touch several times as fast.
    """
    tensor = LIKE[dtype].new_empty(*shape)
    if tensor.nbytes >= LARGE:
        native.LargePages(bytes=tensor.nbytes, buffer=tensor).run()
    return tensor


class _Scratch(threading.local):
    """What each thread keeps."""

    buffer = LIKE[REAL]


_scratch = _Scratch()


def scratch(floats: int) -> Tensor:
    """Returns at least so many floats, anything, to be used until this thread asks again, and not to be returned.

    They are kept, up to `LARGEST_SCRATCH`: first touches of a new buffer cost an eighth of a long scan.
    """
    if _scratch.buffer.numel() < floats:
        _scratch.buffer = LIKE[REAL]  # before the new one is made
        buffer = new_empty(floats)
        if buffer.nbytes > LARGEST_SCRATCH:
            return buffer
        _scratch.buffer = buffer
    return _scratch.buffer


def fits(tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
    """Returns whether a tensor is contiguous on the CPU, with this shape and dtype."""
    return tensor.dtype is dtype and tensor.shape == shape and tensor.is_cpu and tensor.is_contiguous()

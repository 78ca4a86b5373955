"""Tensors that are mostly empty or repeat themselves, in a few bytes for a file; nothing is lost."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

LEVEL = 1
"""The fastest: what is saved is mostly zeros, or images that overlap."""
MARK = "compressed"


def dtype_named(name: str) -> torch.dtype:
    """Returns torch's dtype of that name.

    Raises:
        ValueError: there is none.
    """
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"load: a dtype of torch must be named, but the file has {name!r}. Use another copy of it.")
    return dtype


def compressed(state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a state with each tensor as compressed bytes, and its dtype and shape beside them; see `expanded`."""
    found: dict[str, Any] = {}
    for name, value in state.items():
        if not isinstance(value, Tensor):
            found[name] = value
            continue
        raw = value.detach().cpu().contiguous().flatten().view(torch.uint8)
        packed = zlib.compress(raw.numpy().tobytes(), LEVEL)
        found[f"{name}.{MARK}"] = torch.frombuffer(bytearray(packed), dtype=torch.uint8)
        found[f"{name}.{MARK}_as"] = [str(value.dtype).removeprefix("torch."), list(value.shape)]
    return found


def expanded(state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the state of which `compressed` was taken; what is not compressed stays as it is.

    Raises:
        ValueError: compressed bytes are damaged, or more or fewer than a tensor's.
    """
    found = {name: value for name, value in state.items() if not name.endswith((f".{MARK}", f".{MARK}_as"))}
    for name, described in state.items():
        if name.endswith(f".{MARK}_as"):
            short = name.removesuffix(f".{MARK}_as")
            whole = torch.empty(tuple(described[1]), dtype=dtype_named(described[0]))
            found[short] = _expanded(short, state[f"{short}.{MARK}"], whole)
    return found


def _expanded(name: str, packed: Tensor, whole: Tensor) -> Tensor:
    """Returns the tensor with its contents; never more bytes than it has are expanded."""
    reader = zlib.decompressobj()
    try:
        raw = reader.decompress(packed.cpu().numpy().tobytes(), max(1, whole.nbytes))
    except zlib.error as error:
        raise ValueError(f"load: {name} is damaged ({error}). Use another copy of the file.") from error
    if len(raw) != whole.nbytes or reader.unconsumed_tail:
        raise ValueError(f"load: {name} must have {whole.nbytes} bytes, but has others. Use another copy of the file.")
    if raw:
        whole.flatten().view(torch.uint8).copy_(torch.frombuffer(bytearray(raw), dtype=torch.uint8))
    return whole

"""States in archives: flat dictionaries of tensors and of values that JSON can hold, as `state_dict` returns them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sab_agents.checkpoint import archive


def under(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    """Returns the entries with a prefix and a dot in front of their names."""
    return {f"{prefix}.{name}": value for name, value in state.items()}


def within(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    """Returns the entries whose names begin with a prefix and a dot, by the rest of their names; see `under`."""
    return {name[len(prefix) + 1 :]: value for name, value in state.items() if name.startswith(f"{prefix}.")}


def on_device(state: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Returns the tensors on a device, but for states of random generators (uint8), which stay on the CPU."""
    return {name: value if value.dtype is torch.uint8 else value.to(device) for name, value in state.items()}


def save_state(path: archive.Target, kind: str, settings: dict[str, Any], state: dict[str, Any]) -> None:
    """Writes an archive of settings and a state; arguments and errors are those of `archive.save`."""
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    values = {name: value for name, value in state.items() if name not in tensors}
    archive.save(path, kind, {**settings, "state": values}, tensors)


def load_state(path: archive.Target, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the settings and the state that `save_state` wrote; errors are those of `archive.load`.

    Of a file without a state, which an older version wrote, all values are settings, and the tensors are the state.
    """
    settings, tensors = archive.load(path, kind)
    return settings, {**settings.pop("state", {}), **tensors}

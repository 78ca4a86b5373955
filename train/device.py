"""The device of a run or a benchmark."""

from __future__ import annotations

import torch

from sab_agents.train.errors import UserError, one_line


def device_of(name: str) -> torch.device:
    """Returns the torch device of that name; "auto" is the GPU if torch can use one, else the CPU.

    Raises:
        UserError: torch does not know it, or it is not available.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device '{name}' cannot be used: {one_line(error)}") from error
    return device

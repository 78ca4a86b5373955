"""What a stream's step may be given."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sab_agents.kernels import all_finite


def checked_step(
    name: str, observation: Any, episode_start: Any, rows: int, shape: tuple[int, ...], like: Tensor
) -> tuple[Tensor, Tensor]:
    """The observation and the flags of episode starts, (rows,) bool, of one step.

    Raises:
        ValueError: a shape, dtype or device does not fit, or the observation is not finite.
    """
    whole = (rows, *shape)
    if not isinstance(observation, Tensor) or tuple(observation.shape) != whole:
        received = tuple(observation.shape) if isinstance(observation, Tensor) else type(observation).__name__
        raise ValueError(
            f"{name}.step: observation must be a tensor of shape {whole}, one row for each stream, but is {received}."
        )
    if observation.dtype != like.dtype or observation.device != like.device:
        raise ValueError(
            f"{name}.step: observation must be {like.dtype} on {like.device} like the parameters, "
            f"but is {observation.dtype} on {observation.device}. Convert it first."
        )
    if not all_finite(observation):
        raise ValueError(f"{name}.step: observation must be finite, but holds NaN or infinity. Clean it first.")
    if episode_start is None:
        return observation, torch.zeros(rows, dtype=torch.bool, device=like.device)
    if (
        not isinstance(episode_start, Tensor)
        or episode_start.dtype != torch.bool
        or tuple(episode_start.shape) != (rows,)
    ):
        received = (
            f"{episode_start.dtype} of shape {tuple(episode_start.shape)}"
            if isinstance(episode_start, Tensor)
            else type(episode_start).__name__
        )
        raise ValueError(f"{name}.step: episode_start must be a bool tensor of shape ({rows},), but is {received}.")
    return observation, episode_start.to(like.device)

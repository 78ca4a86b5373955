"""Where each row stands in its episode, and which columns of a memory belong to that episode.

Dimensions: T steps of a call, B rows, n columns carried from earlier calls.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sab_agents.core.state import State


def steps_in_episode(step: Tensor, episode_start: Tensor | None, length: int) -> Tensor:
    """Counts each step of a call from the start of its episode.

    Args:
        step: (B,) int64, steps that each row's episode took before the call.
        episode_start: (T, B) bool, or None where no episode starts.
        length: T.

    Returns:
        (T, B) int64, 1 at an episode's first step.
    """
    count = torch.arange(1, length + 1, device=step.device).unsqueeze(1)
    if episode_start is None:
        return step + count
    last_start = torch.where(episode_start, count, 0).cummax(dim=0).values
    return torch.where(last_start > 0, count - last_start + 1, step + count)


def same_episode(filled: Tensor, step: Tensor) -> Tensor:
    """Which columns of a memory hold the present step, or an earlier one of the same episode.

    The memory's columns are the n carried ones, then one for each step of the call.

    Args:
        filled: (B, n) bool, which carried columns hold anything.
        step: (T, B) from `steps_in_episode`.

    Returns:
        (B, T, n + T) bool; entry [b, t, n + t] is the present step itself, and True.
    """
    time = torch.arange(step.shape[0], device=step.device).unsqueeze(1)
    age = time - time.squeeze(1)
    step = step.transpose(0, 1).unsqueeze(-1)
    # An episode that is longer than the call so far began in an earlier call.
    carried = filled.unsqueeze(1) & (step > time + 1)
    return torch.cat([carried, (age >= 0) & (age < step)], dim=-1)


def first_used(filled: Tensor) -> int:
    """Index of the first column of filled (B, n) that some row uses; the ones before it can be dropped."""
    return int(filled.any(dim=0).int().argmax())


def fixed_columns(name: str, *limits: int | None) -> int:
    """Returns how many columns a memory of fixed size needs for all steps but the present one.

    Args:
        name: of the core, for the error.
        limits: steps that are remembered at most; None for no limit.

    Raises:
        ValueError: there is no limit.
    """
    known = [steps for steps in limits if steps is not None]
    if not known:
        raise ValueError(
            f"{name}: the state grows with the episode, but an exported state has a fixed size. Pass max_steps, the "
            "steps of the longest episode: beyond it, the oldest steps are forgotten."
        )
    return max(1, min(known) - 1)


def check_shapes(name: str, state: State, shapes: dict[str, tuple[int, ...]]) -> None:
    """Raises ValueError where a tensor of `state` has not its shape in `shapes`."""
    for field, shape in shapes.items():
        received = tuple(getattr(state, field).shape)
        if received != shape:
            raise ValueError(
                f"{name}: state.{field} must have shape {shape}, but has {received}. "
                f"Pass a state that this module, or one built with the same sizes, returned."
            )

"""Rewards at which an episode was cut off, and not over: the value of what would have followed is added.

Dimensions: n environments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]


def bootstrapped(
    rewards: Array, new_obs: Any, infos: list[dict[str, Any]], gamma: float, value_of: Callable[[Any], Array]
) -> Array:
    """Rewards (n,) of a step, with the discounted value of its last observation where an episode was truncated.

    Args:
        rewards: (n,).
        new_obs: (n, …), or a dict of such: what was observed, after a reset where an episode ended.
        infos: of the step, with stable-baselines3's "TimeLimit.truncated" and "terminal_observation".
        gamma: discount.
        value_of: (n,) values of observations that go on with the episodes.
    """
    cut = [i for i, info in enumerate(infos) if info.get("TimeLimit.truncated") and "terminal_observation" in info]
    if not cut:
        return rewards
    following = _with_rows(new_obs, {i: infos[i]["terminal_observation"] for i in cut})
    rewards = rewards.copy()
    rewards[cut] += gamma * value_of(following)[cut]
    return rewards


def _with_rows(observations: Any, rows: dict[int, Any]) -> Any:
    """A copy of observations (n, …) in which some rows are others."""
    if isinstance(observations, dict):
        return {key: _with_rows(part, {i: row[key] for i, row in rows.items()}) for key, part in observations.items()}
    changed = observations.copy()
    for i, row in rows.items():
        changed[i] = row
    return changed

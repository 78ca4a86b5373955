"""Small environments whose every number is known."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


class Clock(gym.Env[Any, Any]):
    """Observations and rewards follow from the step's number alone, so that it can be started at any step.

    Episodes last `length` steps and end by `terminated`, or by `truncated`.
    """

    def __init__(self, step: int = 0, length: int = 7, truncates: bool = False, continuous: bool = False) -> None:
        self.observation_space = spaces.Box(-2, 2, (3,), np.float32)
        self.action_space = spaces.Box(-1, 1, (2,), np.float32) if continuous else spaces.Discrete(3)
        self.now, self.length, self.truncates = step, length, truncates
        self.actions: list[Any] = []

    def observation(self) -> Any:
        return np.sin(np.arange(1, 4) * (self.now + 1)).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        return self.observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self.actions.append(action)
        self.now += 1
        end = self.now % self.length == 0
        reward = float(np.cos(self.now) * np.mean(action))
        return self.observation(), reward, end and not self.truncates, end and self.truncates, {}

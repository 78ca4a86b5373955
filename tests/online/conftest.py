"""Small environments whose every number is known, and cores that are registered for one test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from sab_agents.core import Core, register_core, registry

Register = Callable[..., type[Core[Any]]]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Register:
    """Registers a class of cores under a name, until the test ends."""

    def register(name: str, make: type[Core[Any]], **settings: Any) -> type[Core[Any]]:
        monkeypatch.setitem(registry._CORES, name, None)  # so that it is removed in the end
        del registry._CORES[name]
        return register_core(name, f"{name} of a test", **settings)(make)

    return register


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

"""An environment whose every number is exact, so that it is the same on every machine."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

OBSERVATIONS: dict[str, spaces.Space[Any]] = {
    "Mlp": spaces.Box(-1, 1, (3,), np.float32),
    "Cnn": spaces.Box(0, 255, (36, 36, 1), np.uint8),
    "MultiInput": spaces.Dict({"far": spaces.Discrete(3), "near": spaces.Box(-1, 1, (2,), np.float32)}),
}
ACTIONS: dict[str, spaces.Space[Any]] = {
    "Mlp": spaces.Box(-1, 1, (2,), np.float32),
    "Cnn": spaces.Discrete(3),
    "MultiInput": spaces.MultiDiscrete([2, 3]),
}


class Signals(gym.Env[Any, Any]):
    """Observations are drawn; the reward is what the first one of the episode says times the action.

    Args:
        observation: kind of observations.
        action: kind of actions, by the kind of observations that has it in the cases of PPO.
        length: steps of an episode; every other one is truncated, and the others are terminated.
        seed: of everything that is drawn; `reset` does not change it.
    """

    def __init__(self, observation: str = "Mlp", action: str = "Mlp", length: int = 6, seed: int = 0) -> None:
        self.observation_space, self.action_space = OBSERVATIONS[observation], ACTIONS[action]
        self.length = length
        self.rng = np.random.default_rng(seed)
        self.taken, self.episode, self.cue = 0, 0, 0.0
        self.actions: list[Any] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.taken, self.episode = 0, self.episode + 1
        self.cue = self.rng.integers(-4, 5) / 4
        return self.observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.taken += 1
        self.actions.append(np.array(action))
        end, truncates = self.taken == self.length, self.episode % 2 == 0
        reward = self.cue * float(np.sum(action))
        return self.observation(), reward, end and not truncates, end and truncates, {}

    def observation(self) -> Any:
        """Draws an observation; the first of an episode shows the cue."""
        shown = self.cue if self.taken == 0 else 0.0
        if isinstance(self.observation_space, spaces.Dict):
            return {"far": self.rng.integers(3), "near": self._numbers(2, shown)}
        if self.observation_space.dtype == np.uint8:
            pixels = self.rng.integers(0, 256, (36, 36, 1), dtype=np.uint8)
            pixels[:12] = int(128 + 64 * shown)
            return pixels
        return self._numbers(3, shown)

    def _numbers(self, size: int, shown: float) -> Any:
        found = (self.rng.integers(-8, 9, size) / 8).astype(np.float32)
        found[0] = shown
        return found

"""A toy environment for the tests of wrappers and bridges: random observations, random episodes, two endings."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

OBSERVATIONS: dict[str, spaces.Space[Any]] = {
    "box": spaces.Box(-1, 1, (2, 3), np.float32),
    "double": spaces.Box(-np.inf, np.inf, (2,), np.float64),
    "bytes": spaces.Box(0, 255, (2, 2), np.uint8),
    "image": spaces.Box(0, 255, (4, 4, 3), np.uint8),
    "discrete": spaces.Discrete(4, start=2),
    "dict": spaces.Dict({"near": spaces.Box(-1, 1, (2,)), "far": spaces.Discrete(3)}),
}
ACTIONS: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(3, start=-1),
    "multi_discrete": spaces.MultiDiscrete([2, 3]),
    "multi_binary": spaces.MultiBinary(3),
    "box": spaces.Box(0.5, 2, (2, 2), np.float32),
}


class Toy(gym.Env[Any, Any]):
    """Ends after 1 to 4 steps, terminated or truncated; whatever it returns is drawn from its own generator."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    favourite = 7

    def __init__(self, observation: str = "box", action: str = "discrete", render_mode: str | None = None) -> None:
        self.observation_space = OBSERVATIONS[observation]
        self.action_space = ACTIONS[action]
        self.render_mode = render_mode
        self.left = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(1, 5))
        return self._observation(), {"begins": self.left, "options": str(options or {})}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.left > 0, "a step after the end"
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self.left -= 1
        ended = self.left == 0
        ending = int(self.np_random.integers(3)) if ended else -1  # terminated, truncated or both
        reward = float(self.np_random.normal() + np.sum(action))
        info = {"left": self.left, "drawn": self.np_random.random(2)} | ({"goal": "reached"} if ended else {})
        return self._observation(), reward, ending in {0, 2}, ending in {1, 2}, info

    def render(self) -> Any:
        return np.full((4, 5, 3), self.left, np.uint8)

    def double(self, number: int) -> int:
        return 2 * number + self.left

    def _observation(self) -> Any:
        self.observation_space.seed(int(self.np_random.integers(1 << 30)))
        return self.observation_space.sample()

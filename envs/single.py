"""One copy of an environment as Gymnasium's `Env`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded

from sab_agents.envs.actions import ActionCheck
from sab_agents.envs.checks import known_arguments, one_of
from sab_agents.envs.dynamics import Array, Dynamics, Image, Returns

ONLY = np.zeros(1, dtype=np.int64)
RENDERING: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 10}


class DynamicsEnv(gym.Env[Any, Any]):
    """A single environment; a subclass names its dynamics, whose docstring describes the task.

    Args:
        render_mode: "rgb_array", "ansi" or None.
        arguments: the settings of the dynamics.

    Attributes:
        dynamics: the one copy.
        metadata: as in Gymnasium, and "returns" (best, random, memoryless for these settings) and "tests".

    Raises:
        TypeError: an argument has the wrong type or an unknown name.
        ValueError: an argument is out of range.
    """

    metadata: dict[str, Any] = RENDERING
    dynamics_class: ClassVar[type[Dynamics]]

    def __init__(self, *, render_mode: str | None = None, **arguments: Any) -> None:
        self.dynamics = build(self.dynamics_class, arguments)
        self.dynamics.allocate(1)
        self.render_mode = checked_render_mode(type(self), render_mode)
        self.metadata = described(type(self).metadata, self.dynamics)
        self.observation_space = self.dynamics.observation_space
        self.action_space = self.dynamics.action_space
        self._check = ActionCheck(type(self).__name__, self.action_space, 1)
        self._begun = False
        self._running = False

    @property
    def returns(self) -> Returns:
        """What the best, the random and the best memoryless policy earn with these settings."""
        return self.dynamics.returns

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode; see `gymnasium.Env.reset`. There are no options."""
        super().reset(seed=seed, options=options)
        self.dynamics.begin(ONLY, [self.np_random])
        self._begun = self._running = True
        return self.dynamics.observe()[0], {key: unbatched(value) for key, value in self.dynamics.info().items()}

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Takes one step; see `gymnasium.Env.step`.

        Raises:
            TypeError: the action is no number of the space's kind.
            ValueError: the action is outside the space.
            gymnasium.error.ResetNeeded: no episode is under way.
        """
        if not self._running:
            came = "the last one has ended" if self._begun else "none has begun"
            raise ResetNeeded(f"{type(self).__name__}.step needs an episode, but {came}. Call reset() first.")
        rewards, terminated, truncated = self.dynamics.advance(self._check([action]))
        ended = bool(terminated[0] or truncated[0])
        self._running = not ended
        facts = {**self.dynamics.info(), **(self.dynamics.ending_info() if ended else {})}
        info = {key: unbatched(value) for key, value in facts.items()}
        return self.dynamics.observe()[0], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), info

    def render(self) -> Any:
        """Returns a picture, (height, width, 3) uint8, or text, as `render_mode` says.

        Raises:
            gymnasium.error.ResetNeeded: no episode has begun.
        """
        if not self._begun:
            raise ResetNeeded(f"{type(self).__name__}.render needs an episode, but none has begun. Call reset() first.")
        return rendered(self.dynamics, self.render_mode, 0)


def build(dynamics_class: type[Dynamics], arguments: dict[str, Any]) -> Dynamics:
    """Makes the dynamics from arguments that may be wrong."""
    known_arguments(dynamics_class, arguments)
    return dynamics_class(**arguments)


def checked_render_mode(owner: type, render_mode: str | None) -> str | None:
    """Returns a mode that the environment has."""
    modes = owner.metadata["render_modes"]  # type: ignore[attr-defined]
    return None if render_mode is None else one_of(owner.__name__, "render_mode", render_mode, modes)


def described(metadata: dict[str, Any], dynamics: Dynamics) -> dict[str, Any]:
    """Returns the metadata with what reports print about these dynamics."""
    return {**metadata, "returns": asdict(dynamics.returns), "tests": dynamics.purpose}


def rendered(dynamics: Dynamics, render_mode: str | None, copy: int) -> Image | str | None:
    """Renders one copy."""
    if render_mode == "rgb_array":
        return dynamics.picture(copy)
    return dynamics.text(copy) if render_mode == "ansi" else None


def unbatched(values: Array) -> Any:
    """Returns the only entry of an array: Python's number where it has the same precision, else as numpy holds it."""
    entry = values[0]
    return entry.item() if isinstance(entry, (np.bool_, np.int64, np.float64)) else entry

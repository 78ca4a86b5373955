"""Where the copies of an environment are in their episodes, so that a run resumes there bit-exactly."""

from __future__ import annotations

from typing import Any, Self

from stable_baselines3.common.vec_env import VecEnv, VecMonitor

from sab_agents.envs.forms import DynamicsVectorEnv
from sab_agents.vec_env.vector import VectorToVecEnv

COUNTED = ("episode_returns", "episode_lengths")


class Place:
    """The place of copies that `make_vec_env` made.

    Args:
        env: which counts their returns.
        copies: the environments themselves.
    """

    def __init__(self, env: VecMonitor, copies: DynamicsVectorEnv) -> None:
        self._env, self._copies = env, copies

    @classmethod
    def of(cls, env: VecEnv) -> Self | None:
        """Returns the place of an environment's copies; None if they cannot tell it, as others and wrappers cannot."""
        if not isinstance(env, VecMonitor) or not isinstance(env.venv, VectorToVecEnv):
            return None
        copies = env.venv.env
        return cls(env, copies) if isinstance(copies, DynamicsVectorEnv) else None

    def state_dict(self) -> dict[str, Any]:
        """Returns where copies that have begun are: arrays, and values that JSON can hold, by name."""
        counted = {name: getattr(self._env, name).copy() for name in COUNTED}
        return {**counted, **{f"copies.{name}": value for name, value in self._copies.state_dict().items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Brings the copies to the place of others of the same environment: they continue bit-exactly.

        Raises:
            ValueError: it is that of other copies.
        """
        self._env.reset()
        own = {name: value for name, value in state_dict.items() if name.startswith("copies.")}
        self._copies.load_state_dict({name.removeprefix("copies."): value for name, value in own.items()})
        for name in COUNTED:
            getattr(self._env, name)[:] = state_dict[name]

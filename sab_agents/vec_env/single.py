"""One environment as a stable-baselines3 VecEnv, whose step copies no more than others could change."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

UNCHANGING = frozenset({bool, int, float, str, type(None), np.bool_, np.float32, np.float64, np.int32, np.int64})
"""Types of values in an info that nobody can change, so that a copy of the dict is a copy of everything."""


class SingleVecEnv(DummyVecEnv):
    """Runs one environment as a `DummyVecEnv` of it does, in half of the time.

    Args:
        env: the environment. It is wrapped in a `Monitor`, which counts returns, unless it is already.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        monitored = env if is_wrapped(env, Monitor) else Monitor(env)
        super().__init__([lambda: monitored])

    def step_wait(self) -> VecEnvStepReturn:
        """Takes the step, and resets the environment if the episode is over; see stable-baselines3."""
        env: gym.Env[Any, Any] = self.envs[0]
        observation, reward, terminated, truncated, info = env.step(self.actions[0])
        done = bool(terminated or truncated)
        info["TimeLimit.truncated"] = truncated and not terminated
        if done:
            # A copy, since the environment may write the next episode's start into the same array.
            info["terminal_observation"] = deepcopy(observation)
            observation, self.reset_infos[0] = env.reset()
        self.buf_infos[0], self.buf_dones[0], self.buf_rews[0] = info, done, reward
        self._save_obs(0, observation)
        return self._obs_from_buf(), self.buf_rews.copy(), self.buf_dones.copy(), [_copied(info)]

    def _obs_from_buf(self) -> Any:
        """Returns what was observed, (1, …), as arrays of their own."""
        if self.keys == [None]:
            (observation,) = self.buf_obs.values()
            return observation.copy()
        return super()._obs_from_buf()


def _copied(info: dict[str, Any]) -> dict[str, Any]:
    plain = type(info) is dict and UNCHANGING.issuperset(map(type, info.values()))
    return dict(info) if plain else deepcopy(info)

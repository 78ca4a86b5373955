"""Whatever is given as an environment, as a VecEnv of stable-baselines3."""

from __future__ import annotations

from typing import Any

from gymnasium.vector import VectorEnv
from stable_baselines3.common.vec_env import VecEnv, VecMonitor

from sab_agents.bridge import VectorToVecEnv


def as_vec_env(env: Any) -> Any:
    """A Gymnasium vector environment as a VecEnv that counts returns; anything else as it is."""
    if isinstance(env, VectorEnv):
        found: VecEnv = VecMonitor(VectorToVecEnv(env))
        return found
    return env

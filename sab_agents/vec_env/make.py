"""Makers of stable-baselines3's VecEnvs from whatever a user has as an environment."""

from __future__ import annotations

from typing import Any

from gymnasium.vector import VectorEnv
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor, is_vecenv_wrapped

from sab_agents.vec_env.previous import VecPreviousActionReward
from sab_agents.vec_env.vector import VectorToVecEnv


def as_vec_env(env: Any, *, observe_previous: bool = False) -> Any:
    """Returns a Gymnasium vector environment as a VecEnv that counts returns, and anything else unchanged.

    Args:
        env: an environment or its id, a VecEnv, or a Gymnasium vector environment; None stays None.
        observe_previous: add the previous action and reward to the observations, unless they are there already; the
            result is then always a VecEnv.
    """
    if isinstance(env, VectorEnv):
        env = VecMonitor(VectorToVecEnv(env))
    if not observe_previous or env is None:
        return env
    if not isinstance(env, VecEnv):
        made: Any = maybe_make_env(env, verbose=0)
        env = DummyVecEnv([lambda: made if is_wrapped(made, Monitor) else Monitor(made)])
    return env if is_vecenv_wrapped(env, VecPreviousActionReward) else VecPreviousActionReward(env)

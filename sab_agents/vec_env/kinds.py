"""What is passed as an environment: checks of its kind, whose errors say how to make the right one of another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import VectorEnv
from stable_baselines3.common.vec_env import VecEnv

from sab_agents.checks import did_you_mean

DUMMY = "stable_baselines3.common.vec_env.DummyVecEnv"


def check_id(owner: str, env_id: str) -> None:
    """Checks that Gymnasium knows an environment of this id.

    Raises:
        ValueError: there is none.
    """
    try:
        gym.spec(env_id)
    except (gym.error.Error, ModuleNotFoundError) as error:
        raise ValueError(
            f"{owner}: env must be a registered id, but is '{env_id}'. {did_you_mean(env_id, gym.registry)} Ids of "
            "other packages are registered once they are imported."
        ) from error


def check_environment(owner: str, env: Any) -> None:
    """Checks that this is an environment of any kind.

    Raises:
        TypeError: it is something else.
    """
    # What only looks like an environment may be one of Gym, which stable-baselines3 converts.
    if isinstance(env, gym.Env | VecEnv | VectorEnv) or (hasattr(env, "step") and not isinstance(env, type)):
        return
    if callable(env):
        remedy = "Pass what it returns: env = env()."
    elif isinstance(env, EnvSpec):
        remedy = "Pass env = gymnasium.make(env)."
    elif isinstance(env, Sequence) and env:
        makers = "env" if callable(env[0]) else "[lambda each=each: each for each in env]"
        remedy = f"Pass env = {DUMMY}({makers})."
    else:
        remedy = "Pass gymnasium.make(id), or the id."
    kinds = "an environment or its id, a VecEnv, or a Gymnasium vector environment"
    raise TypeError(f"{owner}: env must be {kinds}, but is {env!r}. {remedy}")


def check_vec_env(owner: str, env: Any) -> None:
    """Checks that this is a VecEnv of stable-baselines3.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(env, VecEnv):
        return
    if isinstance(env, VectorEnv):
        remedy = "Pass env = sab_agents.VectorToVecEnv(env)."
    elif isinstance(env, gym.Env):
        remedy = f"Pass env = {DUMMY}([lambda: env])."
    else:
        remedy = f"Pass {DUMMY}([lambda: gymnasium.make(id)])."
    raise TypeError(f"{owner}: env must be a VecEnv of stable-baselines3, but is {env!r}. {remedy}")


def check_vector_env(owner: str, env: Any) -> None:
    """Checks that this is a vector environment of Gymnasium.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(env, VectorEnv):
        return
    if isinstance(env, VecEnv):
        remedy = f"It is a VecEnv already, which needs no {owner}: use it as it is."
    elif isinstance(env, gym.Env):
        remedy = f"Use env = {DUMMY}([lambda: env]) in place of {owner}(env)."
    else:
        remedy = "Pass gymnasium.make_vec(id, num_envs=n)."
    raise TypeError(f"{owner}: env must be a Gymnasium vector environment, but is {env!r}. {remedy}")

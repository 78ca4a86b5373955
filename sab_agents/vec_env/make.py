"""Makes environments for agents, evaluation and benchmarks: of an id, or of whatever is passed as an environment."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import FlattenObservation, TransformObservation
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, is_vecenv_wrapped

from sab_agents.checks import did_you_mean
from sab_agents.envs.registration import ENVIRONMENTS
from sab_agents.envs.wrappers import VectorPreviousActionReward
from sab_agents.vec_env.elapsed import VecElapsedTime
from sab_agents.vec_env.layers import AnyVectorEnv
from sab_agents.vec_env.previous import VecPreviousActionReward
from sab_agents.vec_env.single import SingleVecEnv
from sab_agents.vec_env.usable import Usable, check_environment, check_id, check_spaces
from sab_agents.vec_env.vector import VectorToVecEnv

Single = gym.Env[Any, Any]


def as_vec_env(env: Any, owner: str, usable: Usable, *, observe_previous: bool = False) -> Any:
    """Returns whatever is passed as an environment as stable-baselines3 takes it.

    Args:
        env: an environment or its id, a VecEnv, or a Gymnasium vector environment.
        owner: who asks, for an error.
        usable: the spaces that it can use.
        observe_previous: adds the previous action and reward to the observations unless they contain them already; the
            result is then another VecEnv.

    Returns:
        A VecEnv that counts returns for an id, an environment or a vector environment; anything else as it is.

    Raises:
        TypeError: it is no environment, or a space is not usable.
        ValueError: there is no such id, or a vector environment cannot be used, see `VectorToVecEnv`.
    """
    code = "env"
    if isinstance(env, str):
        check_id(owner, env)
        code = f"gymnasium.make({env!r})"
        env = maybe_make_env(env, verbose=0)
    check_environment(owner, env)
    if isinstance(env, gym.Env | VecEnv | VectorEnv):
        check_spaces(owner, env, usable, code)
    if isinstance(env, VectorEnv):
        env = VecMonitor(VectorToVecEnv(env))
    if isinstance(env, gym.Env):
        env = SingleVecEnv(env)
    if not observe_previous:
        return env
    return env if is_vecenv_wrapped(env, VecPreviousActionReward) else VecPreviousActionReward(env)


def image_only(env: Single) -> Single:
    """Keeps only the entry "image" of a dict of observations.

    Raises:
        TypeError: there is none.
    """
    space = env.observation_space
    if not isinstance(space, spaces.Dict) or "image" not in space.spaces:
        raise TypeError(f"wrappers: image goes with a dict of observations that has an image, but {env} has {space}.")
    return TransformObservation(env, lambda observation: observation["image"], space["image"])


def mask_velocity(env: Single) -> Single:
    """Keeps the positions of CartPole's observations, without the velocities.

    Raises:
        TypeError: the environment is not CartPole.
    """
    space = env.observation_space
    if env.spec is None or not env.spec.id.startswith("CartPole") or not isinstance(space, spaces.Box):
        raise TypeError(f"wrappers: mask_velocity goes with CartPole, but the environment is {env}.")
    kept = np.array([0, 2])
    positions = spaces.Box(space.low[kept], space.high[kept], dtype=np.float32)
    return TransformObservation(env, lambda observation: observation[kept], positions)


WRAPPERS: Mapping[str, Callable[[Single], Single]] = MappingProxyType(
    {"flatten": FlattenObservation, "image": image_only, "mask_velocity": mask_velocity}
)
"""Wrappers of single environments by the names that a config uses."""


def make_vector_env(
    env_id: str, num_envs: int, arguments: Mapping[str, Any], wrappers: Sequence[str] = ()
) -> AnyVectorEnv:
    """Makes copies of an environment as a Gymnasium vector environment that resets in the step that ends an episode.

    Environments of this library step all copies at once unless wrappers need single ones; others step in turn.

    Args:
        env_id: Gymnasium's id, or module:Id for one that the module registers when it is imported.
        num_envs: number of copies.
        arguments: of the environment.
        wrappers: names in `WRAPPERS`, for each copy, the innermost first.

    Raises:
        ValueError: there is no such id or wrapper.
        TypeError, gymnasium.error.Error: an argument or a wrapper does not fit.
        OSError, ImportError: the environment's data or package is missing.
    """
    env_id = _checked(env_id, wrappers)
    if env_id in ENVIRONMENTS and not wrappers:
        return gym.make_vec(env_id, num_envs=num_envs, autoreset_mode=AutoresetMode.SAME_STEP, **arguments)
    single = partial(make_single_env, env_id, arguments, wrappers)
    return SyncVectorEnv([single] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)


def make_single_env(env_id: str, arguments: Mapping[str, Any], wrappers: Sequence[str] = ()) -> Single:
    """Makes one environment with its wrappers; arguments and errors are those of `make_vector_env`."""
    made = gym.make(_checked(env_id, wrappers), **arguments)
    for name in wrappers:
        made = WRAPPERS[name](made)
    return made


def _checked(env_id: str, wrappers: Sequence[str]) -> str:
    """Returns the id under which Gymnasium knows the environment.

    Raises:
        ValueError: there is no such id or wrapper.
    """
    env_id = registered_id(env_id)
    if env_id not in gym.registry:
        raise ValueError(f"env must be a registered id, but is '{env_id}'. {did_you_mean(env_id, gym.registry)}")
    for name in wrappers:
        if name not in WRAPPERS:
            raise ValueError(f"wrappers: there is no '{name}'. {did_you_mean(name, WRAPPERS)}")
    return env_id


def registered_id(env_id: str) -> str:
    """Returns the id under which Gymnasium knows an environment, after importing the module of `module:Id`.

    Raises:
        ImportError: the module cannot be imported.
    """
    module, _, name = env_id.rpartition(":")
    if module:
        importlib.import_module(module)
    return name


def make_vec_env(
    env_id: str,
    num_envs: int,
    arguments: Mapping[str, Any] = MappingProxyType({}),
    *,
    wrappers: Sequence[str] = (),
    previous_action_reward: bool = False,
    elapsed_time: bool = False,
) -> VecMonitor:
    """Makes copies of an environment as a VecEnv that counts returns.

    Args:
        env_id: see `make_vector_env`.
        num_envs: number of copies.
        arguments: of the environment.
        wrappers: see `make_vector_env`.
        previous_action_reward: adds the previous action and reward to the observations.
        elapsed_time: adds the elapsed fraction of the longest episode to the observations.

    Raises:
        Exception: as `make_vector_env` and `horizon_of`.
    """
    copies = make_vector_env(env_id, num_envs, arguments, wrappers)
    if previous_action_reward:
        copies = VectorPreviousActionReward(copies)
    venv: VecEnv = VectorToVecEnv(copies)
    if elapsed_time:
        venv = VecElapsedTime(venv, horizon_of(env_id, arguments))
    return VecMonitor(venv)


def horizon_of(env_id: str, arguments: Mapping[str, Any]) -> int:
    """Returns the number of steps of the longest episode.

    Raises:
        ValueError: there is no longest one.
    """
    if env_id in ENVIRONMENTS:
        horizon = ENVIRONMENTS[env_id].horizon(arguments)
    else:
        horizon = arguments.get("max_episode_steps", gym.spec(env_id).max_episode_steps)
    if horizon is None:
        raise ValueError(f"{env_id} has no longest episode, so there is no elapsed fraction of it. Leave it out.")
    return int(horizon)

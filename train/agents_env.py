"""The environments that PPO agents learn in: any of Gymnasium's ids, at one size, as a VecEnv that counts returns."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import FlattenObservation, TransformObservation
from stable_baselines3.common.vec_env import VecEnv, VecMonitor

from sab_agents import VectorToVecEnv
from sab_agents.checks import did_you_mean
from sab_agents.envs.dynamics import Returns
from sab_agents.envs.registration import ENVIRONMENTS
from sab_agents.envs.wrappers import VectorPreviousActionReward
from sab_agents.train.agents_time import VecElapsedShare
from sab_agents.train.errors import UserError, one_line

Single = gym.Env[Any, Any]


def image_only(env: Single) -> Single:
    """The part "image" of a dict of observations.

    Raises:
        UserError: there is none.
    """
    space = env.observation_space
    if not isinstance(space, spaces.Dict) or "image" not in space.spaces:
        raise UserError(f"wrappers: image goes with a dict of observations that has an image, but {env} has {space}.")
    return TransformObservation(env, lambda observation: observation["image"], space["image"])


def mask_velocity(env: Single) -> Single:
    """The first and third number of CartPole's observations: positions without velocities.

    Raises:
        UserError: the environment is not CartPole.
    """
    space = env.observation_space
    if env.spec is None or not env.spec.id.startswith("CartPole") or not isinstance(space, spaces.Box):
        raise UserError(f"wrappers: mask_velocity goes with CartPole, but the environment is {env}.")
    kept = np.array([0, 2])
    seen = spaces.Box(space.low[kept], space.high[kept], dtype=np.float32)
    return TransformObservation(env, lambda observation: observation[kept], seen)


WRAPPERS: Mapping[str, Callable[[Single], Single]] = MappingProxyType(
    {"flatten": FlattenObservation, "image": image_only, "mask_velocity": mask_velocity}
)
"""By the names that a config calls them."""


def make_vec_env(
    env: str,
    argument: str | None,
    value: int | str,
    n: int,
    *,
    env_arguments: Mapping[str, Any] = MappingProxyType({}),
    imports: Sequence[str] = (),
    wrappers: Sequence[str] = (),
    previous_action_reward: bool = False,
    elapsed_share: bool = False,
) -> VecMonitor:
    """Makes n copies of an environment at one size.

    Environments of this library step all copies at once, unless wrappers ask for single ones; others in turn.

    Args:
        env: Gymnasium's id; without an argument the value is put in place of its "{}".
        argument: that takes the value.
        value: the size.
        n: copies.
        env_arguments: other arguments.
        imports: modules that register environments.
        wrappers: names of `WRAPPERS`, for each copy, the innermost first.
        previous_action_reward: whether observations get the previous action and reward.
        elapsed_share: whether they get the share of the longest episode that is over.

    Raises:
        UserError: there is no such module, id or argument, or a wrapper does not fit.
    """
    for module in imports:
        _import(module)
    env_id = env if argument is not None else env.format(value)
    arguments = {**env_arguments, **({} if argument is None else {argument: value})}
    if env_id not in gym.registry:
        raise UserError(f"env must be a registered id, but is '{env_id}'. {did_you_mean(env_id, gym.registry)}")

    def single() -> Single:
        made = gym.make(env_id, **arguments)
        for name in wrappers:
            made = WRAPPERS[name](made)
        return made

    same_step = AutoresetMode.SAME_STEP
    copies: gym.vector.VectorEnv[Any, Any, Any]
    try:
        if env_id in ENVIRONMENTS and not wrappers:
            copies = gym.make_vec(env_id, num_envs=n, autoreset_mode=same_step, **arguments)
        else:
            copies = SyncVectorEnv([single] * n, autoreset_mode=same_step)
        if previous_action_reward:
            copies = VectorPreviousActionReward(copies)
        venv: VecEnv = VectorToVecEnv(copies)
        if elapsed_share:
            venv = VecElapsedShare(venv, horizon_of(env_id, arguments))
    except (TypeError, ValueError, ImportError, gym.error.Error) as error:
        at = "" if argument is None else f" with {argument} = {value}"
        raise UserError(f"{env_id}{at}: {one_line(error)}") from error
    return VecMonitor(venv)


def horizon_of(env_id: str, arguments: Mapping[str, Any]) -> int:
    """Steps of the longest episode.

    Raises:
        UserError: there is no longest.
    """
    if env_id in ENVIRONMENTS:
        horizon = ENVIRONMENTS[env_id].dynamics(**arguments).horizon
    else:
        horizon = arguments.get("max_episode_steps", gym.spec(env_id).max_episode_steps)
    if horizon is None:
        raise UserError(f"elapsed_share: {env_id} has no longest episode. Leave it out.")
    return int(horizon)


def known_returns(env: str, argument: str | None, value: int | str, env_arguments: Mapping[str, Any]) -> Returns:
    """What the best, the random and the best memoryless policy earn, as far as it is known."""
    if env not in ENVIRONMENTS or argument is None:
        return Returns(None, None, None)
    return ENVIRONMENTS[env].dynamics(**{**env_arguments, argument: value}).returns


def _import(module: str) -> None:
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"imports: '{module}' is not there: {one_line(error)}. Install it, or leave it out.") from error

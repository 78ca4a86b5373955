"""Environments and episodes of PPO agents, also at sizes of the environment at which they were not trained.

Dimensions: n copies.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize

from sab_agents.train.errors import UserError, one_line
from sab_agents.vec_env.make import make_vec_env

COPIES = 16


class Ended(NamedTuple):
    """An episode that has ended.

    Attributes:
        total: its undiscounted return.
        success: whether it counts as a success; NaN if success is not defined.
    """

    total: float
    success: float


def sized_vec_env(
    env: str,
    argument: str | None,
    value: int | str,
    n: int,
    *,
    env_arguments: Mapping[str, Any] = MappingProxyType({}),
    imports: Sequence[str] = (),
    **settings: Any,
) -> VecMonitor:
    """Makes n copies of an environment at one size.

    Args:
        env: Gymnasium's id; without an argument the value replaces its "{}".
        argument: the argument that takes the value.
        value: the size.
        n: number of copies.
        env_arguments: other arguments.
        imports: modules that register environments.
        settings: of `make_vec_env`.

    Raises:
        UserError: there is no such module, id or argument, or a wrapper does not fit.
    """
    for module in imports:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UserError(
                f"imports: '{module}' cannot be imported: {one_line(error)}. Install it, or leave it out."
            ) from error
    env_id = env if argument is not None else env.format(value)
    arguments = {**env_arguments, **({} if argument is None else {argument: value})}
    try:
        return make_vec_env(env_id, n, arguments, **settings)
    except (TypeError, ValueError, OSError, ImportError, gym.error.Error) as error:
        at = "" if argument is None else f" with {argument} = {value}"
        raise UserError(f"{env_id}{at}: {one_line(error)}") from error


def ending(info: Mapping[str, Any], success: float | str | None) -> Ended:
    """Returns what `info` says of an episode at its end.

    Args:
        info: of its last step, from a VecEnv that counts returns.
        success: a least return, a key of `info`, or None.

    Raises:
        UserError: `info` has no such key.
    """
    total = float(info["episode"]["r"])
    if success is None:
        return Ended(total, math.nan)
    if not isinstance(success, str):
        return Ended(total, float(total >= success))
    if success not in info:
        raise UserError(f"success: at an episode's end info has no '{success}', but {', '.join(info)}. Give a return.")
    return Ended(total, float(info[success]))


def play_agent(model: Any, env: VecEnv, episodes: int, *, success: float | str | None, seed: int) -> list[Ended]:
    """Plays episodes with the likeliest actions of a trained agent.

    Which episodes count is determined in advance, by their number on their copy, so that short ones are not preferred.

    Args:
        model: has `predict(observation, state, episode_start, deterministic)`.
        env: counts returns.
        episodes: how many.
        success: see `ending`.
        seed: of the first copy.
    """
    return [ending(info, success) for info in endings(model, env, episodes, seed=seed)]


def endings(
    model: Any, env: VecEnv, episodes: int, *, seed: int, watch: Callable[[int], object] = int
) -> list[Mapping[str, Any]]:
    """Returns the last `info` of each episode; arguments are those of `play_agent`.

    `watch` is called with the number of episodes that are over.
    """
    n = env.num_envs
    left = episodes // n + (np.arange(n) < episodes % n)
    env.seed(seed)
    observations: Any = env.reset()
    state, episode_start = None, np.ones(n, np.bool_)
    played: list[Mapping[str, Any]] = []
    while left.any():
        actions, state = model.predict(observations, state=state, episode_start=episode_start, deterministic=True)
        observations, _, episode_start, infos = env.step(actions)
        for copy in np.flatnonzero(episode_start & (left > 0)):
            played.append(infos[copy])
            watch(len(played))
            left[copy] -= 1
    return played


def normalised_as(model: Any, env: VecEnv) -> VecEnv:
    """Returns the environment with observations normalised as during the agent's training, if they were."""
    learnt = getattr(model, "get_vec_normalize_env", lambda: None)()
    if learnt is None or not learnt.norm_obs:
        return env
    normalised = VecNormalize(env, training=False, norm_reward=False, clip_obs=learnt.clip_obs, epsilon=learnt.epsilon)
    normalised.obs_rms = learnt.obs_rms
    return normalised


def evaluate_lengths(
    model: Any,
    env_id: str,
    argument: str | None,
    values: Sequence[int | str],
    episodes: int = 100,
    *,
    success: float | str | None = None,
    seed: int = 10_000,
    **settings: Any,
) -> dict[int | str, dict[str, float]]:
    """Tests a trained agent at several sizes of its environment.

    Args:
        model: a `RecurrentPPO` of this library or of sb3-contrib, or whatever predicts like one. If it was trained in a
            `VecNormalize`, observations are normalised by its statistics.
        env_id: Gymnasium's id.
        argument: the argument that takes the values; None if they are part of the id.
        values: sizes.
        episodes: at each.
        success: a least return, or a key of `info`; None if success is not defined.
        seed: of the environments.
        settings: more of `sized_vec_env`: `env_arguments`, `wrappers`, ….

    Returns:
        For each size: "success" (fraction of episodes, or NaN), "return" (mean), "least" and "greatest" return,
        "episodes".

    Examples:
        >>> import gymnasium as gym
        >>> from sab_agents import RecurrentPPO
        >>> env = gym.make_vec("SAB/PassiveTMaze-v0", num_envs=4, corridor_length=5)
        >>> model = RecurrentPPO("MlpSabPolicy", env, n_steps=16, policy_kwargs={"lstm_hidden_size": 16})
        >>> sorted(evaluate_lengths(model, "SAB/PassiveTMaze-v0", "corridor_length", [5, 10], 4))
        [5, 10]
    """
    results = {}
    for value in values:
        env = normalised_as(model, sized_vec_env(env_id, argument, value, min(COPIES, episodes), **settings))
        played = play_agent(model, env, episodes, success=success, seed=seed)
        env.close()
        returns = [each.total for each in played]
        results[value] = {
            "success": float(np.mean([each.success for each in played])),
            "return": float(np.mean(returns)),
            "least": min(returns),
            "greatest": max(returns),
            "episodes": len(played),
        }
    return results

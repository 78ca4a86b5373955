"""Episodes of a trained agent, also at sizes of the environment that it was not trained at.

Dimensions: n copies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sab_agents.train.agents_env import make_vec_env
from sab_agents.train.errors import UserError

COPIES = 16


class Ended(NamedTuple):
    """An episode that is over.

    Attributes:
        total: its undiscounted return.
        success: whether it counts as a success; NaN where nobody asked.
    """

    total: float
    success: float


def ending(info: Mapping[str, Any], success: float | str | None) -> Ended:
    """What `info` says of an episode at its end.

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
    """Lets a trained agent play with its likeliest actions.

    Which episodes count is settled beforehand, by their number on their copy, so that short ones are not preferred.

    Args:
        model: has `predict(observation, state, episode_start, deterministic)`.
        env: counts returns.
        episodes: how many.
        success: see `ending`.
        seed: of the first copy.
    """
    n = env.num_envs
    left = episodes // n + (np.arange(n) < episodes % n)
    env.seed(seed)
    observations: Any = env.reset()
    state, first = None, np.ones(n, np.bool_)
    found: list[Ended] = []
    while left.any():
        actions, state = model.predict(observations, state=state, episode_start=first, deterministic=True)
        observations, _, first, infos = env.step(actions)
        for copy in np.flatnonzero(first & (left > 0)):
            found.append(ending(infos[copy], success))
            left[copy] -= 1
    return found


def normalised_as(model: Any, env: VecEnv) -> VecEnv:
    """The environment with observations normalised as in the one that the agent learnt in, if they were."""
    learnt = getattr(model, "get_vec_normalize_env", lambda: None)()
    if learnt is None or not learnt.norm_obs:
        return env
    found = VecNormalize(env, training=False, norm_reward=False, clip_obs=learnt.clip_obs, epsilon=learnt.epsilon)
    found.obs_rms = learnt.obs_rms
    return found


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
        model: a `RecurrentPPO` of this library or of sb3-contrib, or whatever predicts like one. Where it learnt in a
            `VecNormalize`, observations are normalised by its statistics.
        env_id: Gymnasium's id.
        argument: the argument that takes the values; None where they are part of the id.
        values: sizes.
        episodes: at each.
        success: a least return, or a key of `info`; None if there is no such thing.
        seed: of the environments.
        settings: more of `agents_env.make_vec_env`: `env_arguments`, `wrappers`, ….

    Returns:
        For each size: "success" (share of episodes; NaN if nobody asked), "return" (mean), "least" and "greatest"
        return, "episodes".

    Example:
        >>> import gymnasium as gym
        >>> from sab_agents import RecurrentPPO
        >>> env = gym.make_vec("SAB/PassiveTMaze-v0", num_envs=4, corridor_length=5)
        >>> model = RecurrentPPO("MlpSabPolicy", env, n_steps=16, policy_kwargs={"lstm_hidden_size": 16})
        >>> sorted(evaluate_lengths(model, "SAB/PassiveTMaze-v0", "corridor_length", [5, 10], 4))
        [5, 10]
    """
    results = {}
    for value in values:
        env = normalised_as(model, make_vec_env(env_id, argument, value, min(COPIES, episodes), **settings))
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

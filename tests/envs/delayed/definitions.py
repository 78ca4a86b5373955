"""Checks that the tests of each environment share: its definition step by step, and its stated returns.

A transcription is one copy of an environment, written from its definition and not from its code. It draws its random
numbers from the same generator, in the order that the environment documents.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import pytest

from sab_agents.envs.dynamics import Dynamics
from sab_agents.envs.policies import Policy, Uniform
from sab_agents.envs.registration import registered

Episode = Generator[tuple[list[float], float, bool], int, None]
Settings = dict[str, Any]


def check_definition(
    env_id: str,
    settings: Settings,
    transcription: Callable[[np.random.Generator], Episode],
    *,
    steer: Callable[[npt.NDArray[np.float32], int], int | None] | None = None,
    success: Callable[[list[float]], bool] | None = None,
) -> set[float]:
    """Compares 40 episodes of random actions with a transcription, bit-exactly but for rounding of rewards.

    Args:
        env_id: Gymnasium's id.
        settings: settings of the environment.
        transcription: yields observation, reward and whether the episode has ended, and is sent the actions.
        steer: the action that is often taken for an observation at a step, where random actions would not get far.
        success: the expected `info["is_success"]` for the rewards of an episode; None if there is none.

    Returns:
        The returns that occurred, at least two different ones.
    """
    env = gym.make(f"sab_agents:{env_id}", **settings).unwrapped
    env.action_space.seed(1)
    generator = np.random.default_rng(2)
    returns = set()
    for episode in range(40):
        wander = generator.choice([0, 0.1, 1])  # probability of a random action although there is a preferred one
        observation, _ = env.reset(seed=episode)
        expected = transcription(np.random.default_rng(episode))
        expected_observation, expected_reward, ended = next(expected)
        assert (expected_reward, ended) == (0, False)
        rewards: list[float] = []
        info: dict[str, Any] = {}
        terminated = False
        while not terminated:
            assert "is_success" not in info
            np.testing.assert_array_equal(observation, np.array(expected_observation, np.float32))
            assert not ended
            action = env.action_space.sample()
            preferred = None if steer is None else steer(observation, len(rewards))
            if preferred is not None and generator.random() >= wander:
                action = np.int64(preferred)
            observation, reward, terminated, truncated, info = env.step(action)
            rewards.append(float(reward))
            assert not truncated
            expected_observation, expected_reward, ended = expected.send(int(action))
            assert reward == pytest.approx(expected_reward, abs=1e-15)
        np.testing.assert_array_equal(observation, np.array(expected_observation, np.float32))
        assert ended
        assert info.get("is_success") == (None if success is None else success(rewards))
        returns.add(round(sum(rewards), 9))
    assert len(returns) > 1, "all episodes had the same return"
    return returns


def earned(env_id: str, settings: Settings, policy: Policy, episodes: int = 2000) -> npt.NDArray[np.float64]:
    """The returns of this many episodes, the first of each of as many copies."""
    envs = gym.make_vec(f"sab_agents:{env_id}", num_envs=episodes, **settings)
    observations, _ = envs.reset(seed=1)
    returns = np.zeros(episodes)
    running = np.ones(episodes, dtype=np.bool_)
    start = running.copy()
    while running.any():
        observations, rewards, terminated, truncated, _ = envs.step(policy.act(observations, start))
        returns += rewards * running
        running &= ~(terminated | truncated)
        start[:] = False
    return returns


def agrees(returns: npt.NDArray[np.float64], stated: float | None) -> bool:
    """Whether the mean is within four standard errors of the stated return, or equal to it if nothing is random."""
    assert stated is not None
    return bool(abs(returns.mean() - stated) <= 4 * returns.std() / len(returns) ** 0.5 + 1e-9)


def check_returns(env_id: str, settings: Settings) -> None:
    """Lets the scripted policies earn the stated returns."""
    dynamics = registered(env_id).dynamics(**settings)
    stated = dynamics.returns
    assert agrees(earned(env_id, settings, dynamics.oracle()), stated.best)
    assert agrees(earned(env_id, settings, dynamics.memoryless()), stated.memoryless)
    assert agrees(earned(env_id, settings, Uniform(dynamics.action_space, seed=3)), stated.random)


def best_by_trying(dynamics: Dynamics, draws: list[list[Any]], rows: npt.NDArray[Any]) -> float:
    """The best mean return, over equally likely episodes, of all functions from observations to actions.

    Args:
        dynamics: the dynamics.
        draws: for each equally likely episode, what its generator draws, in order.
        rows: (m, …) all observations on which an action may depend.
    """
    actions = range(int(getattr(dynamics.action_space, "n")))  # noqa: B009
    policies = np.array(list(itertools.product(actions, repeat=len(rows))))
    n = len(draws)
    dynamics.allocate(n * len(policies))
    generators: list[Any] = [ScriptedGenerator(draw) for _ in policies for draw in draws]
    dynamics.begin(np.arange(dynamics.n), generators)
    total = np.zeros(dynamics.n)
    assert dynamics.horizon is not None
    for _ in range(dynamics.horizon):
        matches = (dynamics.observe()[:, None] == rows).all(axis=-1)
        assert matches.any(axis=1).all(), "an observation is missing from the rows"
        rewards, _, _ = dynamics.advance(policies.repeat(n, axis=0)[np.arange(dynamics.n), matches.argmax(axis=1)])
        total += rewards
    return float(total.reshape(-1, n).mean(axis=1).max())


class ScriptedGenerator:
    """A random generator with scripted draws, one list entry for each call."""

    def __init__(self, draws: list[Any]) -> None:
        self._draws = iter(draws)

    def random(self, size: int | None = None) -> Any:  # noqa: ARG002
        return next(self._draws)

    def integers(self, *_: Any, **__: Any) -> Any:
        return next(self._draws)

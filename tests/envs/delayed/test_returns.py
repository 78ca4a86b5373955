"""The stated returns of every id: scripted policies earn them, and they are known at once for long episodes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from sab_agents.envs.policies import Reactive
from sab_agents.envs.registration import DELAYED, registered
from tests.envs.delayed.definitions import agrees, check_returns

IDS = [entry.id for entry in DELAYED]


@pytest.mark.parametrize("env_id", IDS)
def test_scripted_policies_earn_the_returns_of_the_registered_settings(env_id: str) -> None:
    check_returns(env_id, {})


@pytest.mark.parametrize("env_id", IDS)
def test_the_memoryless_policy_has_no_memory_and_a_new_episode_empties_the_oracles(env_id: str) -> None:
    arguments: dict[str, Any] = {registered(env_id).length_argument(): 5}
    dynamics = registered(env_id).dynamics(**arguments)
    assert isinstance(dynamics.memoryless(), Reactive)
    envs = gym.make_vec(f"sab_agents:{env_id}", num_envs=50, autoreset_mode="SameStep", **arguments)
    policy = dynamics.oracle()
    observations, _ = envs.reset(seed=2)
    start = np.ones(50, dtype=np.bool_)
    total, ends = np.zeros(50), []
    for _ in range(200):
        observations, rewards, terminated, _, _ = envs.step(policy.act(observations, start))
        start = terminated
        total += rewards
        if terminated.all():
            ends.append(total.copy())
            total[:] = 0
    assert agrees(np.concatenate(ends), dynamics.returns.best)


@pytest.mark.parametrize("env_id", IDS)
def test_a_long_episode_states_its_returns_at_once(env_id: str) -> None:
    dynamics = registered(env_id).dynamics(**{registered(env_id).length_argument(): 1_000_000})
    assert np.isfinite(np.array(list(asdict(dynamics.returns).values()), dtype=np.float64)).all()

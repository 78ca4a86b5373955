"""Agents in environments behind wrappers of stable-baselines3 are copied and pickled with them."""

from __future__ import annotations

import copy
import pickle
from typing import Any, cast

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper, VecFrameStack, VecMonitor
from torch import equal

from sab_agents import RecurrentPPO, StreamAC


def vector() -> Any:
    return gym.make_vec("SAB/MemoryChain-v0", num_envs=2, length=3)


def stacked() -> Any:
    return VecFrameStack(VecMonitor(DummyVecEnv([lambda: gym.make("SAB/MemoryChain-v0", length=3)] * 2)), 2)


@pytest.mark.parametrize("way", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("make", [vector, stacked])
def test_a_copy_learns_on_as_the_original(make: Any, way: Any) -> None:
    kwargs = {"lstm_hidden_size": 4}
    model = RecurrentPPO("MlpSabPolicy", make(), n_steps=8, batch_size=16, policy_kwargs=kwargs, seed=0)
    model.learn(16)
    twin = way(model)
    before = [parameter.clone() for parameter in model.policy.parameters()]
    for agent in (model, twin):
        set_random_seed(1)  # actions and minibatches are drawn from random states that are no part of an agent
        agent.learn(32, reset_num_timesteps=False)
    for mine, its in zip(model.policy.parameters(), twin.policy.parameters(), strict=True):
        assert equal(mine, its)
        assert mine is not its
    assert any(not equal(*pair) for pair in zip(before, model.policy.parameters(), strict=True))
    layers = [cast(VecEnvWrapper, agent.get_env()) for agent in (model, twin)]
    assert layers[0].class_attributes.keys() == layers[1].class_attributes.keys()


def test_a_copy_of_a_stream_learns_on_as_the_original() -> None:
    kwargs = {"hidden_size": 4, "width": 4}
    model = StreamAC("MlpSabPolicy", gym.make_vec("SAB/MemoryChain-v0", num_envs=1), policy_kwargs=kwargs, seed=0)
    model.learn(20)
    twin = copy.deepcopy(model)
    for agent in (model, twin):
        agent.learn(40, reset_num_timesteps=False)
    assert all(equal(*pair) for pair in zip(model.policy.parameters(), twin.policy.parameters(), strict=True))
    np.testing.assert_array_equal(model._last_obs, twin._last_obs)

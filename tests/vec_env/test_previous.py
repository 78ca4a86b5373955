"""The previous action and reward in a VecEnv are those that Gymnasium's single environments show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.vec_env import DummyVecEnv, is_vecenv_wrapped

from sab_agents import RecurrentPPO, VectorToVecEnv
from sab_agents.envs.wrappers import PreviousActionReward
from sab_agents.vec_env.make import as_vec_env
from sab_agents.vec_env.previous import VecPreviousActionReward
from sab_agents.vec_env.usable import FOR_PPO
from tests.envs.conftest import same
from tests.toys import ACTIONS, OBSERVATIONS, Toy

N = 3


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_every_copy_shows_what_it_would_by_itself(observation: str, action: str) -> None:
    apart = DummyVecEnv([lambda: PreviousActionReward(Toy(observation, action))] * N)
    dummy = DummyVecEnv([lambda: Toy(observation, action)] * N)
    bridge = VectorToVecEnv(
        SyncVectorEnv([lambda: Toy(observation, action)] * N, autoreset_mode=AutoresetMode.SAME_STEP)
    )
    for inner in (dummy, bridge):
        together = VecPreviousActionReward(inner)
        assert together.observation_space == apart.observation_space
        ends = 0
        for env in (apart, together):
            env.seed(3)
        assert same(together.reset(), apart.reset())
        for t in range(25):
            space = ACTIONS[action]
            space.seed(t)
            actions = np.stack([space.sample() for _ in range(N)])
            expected, found = apart.step(actions), together.step(actions)
            assert same(found[0], expected[0])
            assert np.array_equal(found[1], expected[1])
            assert np.array_equal(found[2], expected[2])
            assert same(found[3], expected[3])  # with the terminal observations
            ends += int(found[2].sum())
        assert ends > N


def toys(n: int) -> Any:
    return SyncVectorEnv([lambda: Toy("dict", "multi_discrete")] * n, autoreset_mode=AutoresetMode.SAME_STEP)


@pytest.mark.parametrize("kind", ["id", "single", "vector", "vec_env", "wrapped"])
def test_any_kind_of_environment_is_wrapped_once(kind: str) -> None:
    given: dict[str, Callable[[], Any]] = {
        "id": lambda: "SAB/PassiveTMaze-v0",
        "single": lambda: gym.make("SAB/PassiveTMaze-v0"),
        "vector": lambda: gym.make_vec("SAB/PassiveTMaze-v0", num_envs=2),
        "vec_env": lambda: DummyVecEnv([lambda: gym.make("SAB/PassiveTMaze-v0")]),
        "wrapped": lambda: VecPreviousActionReward(DummyVecEnv([lambda: gym.make("SAB/PassiveTMaze-v0")])),
    }
    env = as_vec_env(given[kind](), "agent", FOR_PPO, observe_previous=True)
    plain = gym.make("SAB/PassiveTMaze-v0").observation_space.shape
    assert plain is not None
    assert env.observation_space.shape == (plain[0] + 4 + 1,)


def test_without_it_the_environment_stays_as_it_is() -> None:
    env = DummyVecEnv([lambda: gym.make("SAB/PassiveTMaze-v0")])
    assert as_vec_env(env, "agent", FOR_PPO) is env


def test_recurrent_ppo_learns_from_previous_actions_and_rewards() -> None:
    settings: dict[str, Any] = {"n_steps": 16, "n_epochs": 1, "policy_kwargs": {"lstm_hidden_size": 8}}
    model = RecurrentPPO("MultiInputSabPolicy", toys(2), **settings, observe_previous=True, seed=0)
    model.learn(64)
    keys = {"near", "far", "previous_action", "previous_reward"}
    assert set(model.observation_space.spaces) == keys  # type: ignore[attr-defined]
    model.set_env(toys(2))
    env = model.get_env()
    assert env is not None
    assert is_vecenv_wrapped(env, VecPreviousActionReward)
    model.learn(32, reset_num_timesteps=False)
    assert model.num_timesteps == 96

"""Environments made of an id: vectorised or single ones, with wrappers and the elapsed time."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.wrappers import TimeAwareObservation
from stable_baselines3.common.vec_env import DummyVecEnv

from sab_agents.envs.forms import DynamicsVectorEnv
from sab_agents.vec_env.elapsed import VecElapsedTime
from sab_agents.vec_env.make import horizon_of, make_vec_env, make_vector_env


def test_the_elapsed_time_is_that_of_gymnasiums_wrapper() -> None:
    timed = make_vec_env("MountainCar-v0", 1, {"max_episode_steps": 6}, elapsed_time=True)
    alone = TimeAwareObservation(gym.make("MountainCar-v0", max_episode_steps=6), normalize_time=True)
    timed.seed(3)
    seen, (expected, _) = np.asarray(timed.reset())[0], alone.reset(seed=3)
    for step in range(6):
        assert seen.dtype == np.float32
        np.testing.assert_allclose(seen, expected, rtol=1e-6)
        observations, _, dones, infos = timed.step(np.array([step % 3]))
        expected, _, terminated, truncated, _ = alone.step(step % 3)
        assert dones[0] == (terminated or truncated) == (step == 5)
        seen = infos[0]["terminal_observation"] if dones[0] else np.asarray(observations)[0]
    np.testing.assert_allclose(seen, expected, rtol=1e-6)
    assert seen[-1] == 1
    assert np.asarray(observations)[0, -1] == 0


def test_the_elapsed_time_needs_a_flat_box_and_a_longest_episode() -> None:
    with pytest.raises(TypeError, match="one flat Box"):
        VecElapsedTime(DummyVecEnv([lambda: gym.make("FrozenLake-v1")]), 5)
    with pytest.raises(ValueError, match="has no longest episode"):
        horizon_of("CartPole-v1", {"max_episode_steps": None})


def test_a_limit_of_gymnasium_shortens_the_longest_episode() -> None:
    assert horizon_of("SAB/MemoryChain-v0", {"length": 9}) == 10
    assert horizon_of("SAB/MemoryChain-v0", {"length": 9, "max_episode_steps": 4, "render_mode": "ansi"}) == 4
    assert horizon_of("SAB/MemoryChain-v0", {"length": 9, "max_episode_steps": 40}) == 10


def test_environments_of_others_are_made_of_single_ones_with_their_wrappers() -> None:
    plain = make_vec_env("CartPole-v1", 3, {"max_episode_steps": 20})
    positions = make_vec_env("CartPole-v1", 3, {"max_episode_steps": 20}, wrappers=["mask_velocity"])
    plain.seed(1)
    positions.seed(1)
    seen, masked = np.asarray(plain.reset()), positions.reset()
    np.testing.assert_array_equal(masked, seen[:, [0, 2]])
    assert isinstance(positions.observation_space, Box)
    lengths = []
    for _ in range(21):
        infos = positions.step(np.ones(3, np.int64))[3]
        lengths += [info["episode"]["l"] for info in infos if "episode" in info]
    assert lengths
    assert max(lengths) <= 20


def test_environments_of_this_library_step_all_copies_at_once_unless_they_are_wrapped() -> None:
    together = make_vector_env("SAB/MemoryChain-v0", 3, {"length": 4})
    assert isinstance(together.unwrapped, DynamicsVectorEnv)
    alone = make_vector_env("SAB/MemoryChain-v0", 3, {"length": 4}, ["flatten"])
    assert isinstance(alone.unwrapped, gym.vector.SyncVectorEnv)
    assert alone.metadata["autoreset_mode"] == together.metadata["autoreset_mode"] == gym.vector.AutoresetMode.SAME_STEP


def test_an_unknown_id_or_wrapper_is_named() -> None:
    with pytest.raises(ValueError, match="Did you mean 'SAB/MemoryChain-v0'"):
        make_vector_env("SAB/MemoryChian-v0", 1, {})
    with pytest.raises(ValueError, match="Did you mean 'flatten'"):
        make_vector_env("CartPole-v1", 1, {}, ["flaten"])

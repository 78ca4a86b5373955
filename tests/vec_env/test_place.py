"""Copies of an environment continue where others were."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import VecEnv

from sab_agents.envs.registration import ENVIRONMENTS
from sab_agents.vec_env.make import make_vec_env
from sab_agents.vec_env.place import Place

COPIES = 3
DOWNLOADED = ("SAB/PixelMNIST-v0", "SAB/PixelCIFAR10-v0")


def begun(env_id: str, steps: int, seed: int = 0) -> VecEnv:
    env = make_vec_env(env_id, COPIES)
    env.seed(seed)
    env.reset()
    taken(env, steps, seed)
    return env


def place_of(env: VecEnv) -> Place:
    place = Place.of(env)
    assert place is not None
    return place


def taken(env: VecEnv, steps: int, seed: int) -> list[Any]:
    """Everything that random actions bring."""
    env.action_space.seed(seed)
    found = []
    for _ in range(steps):
        observations, rewards, ended, infos = env.step(np.stack([env.action_space.sample() for _ in range(COPIES)]))
        episodes = [(info["episode"]["r"], info["episode"]["l"]) for info in infos if "episode" in info]
        found.append((np.asarray(observations).tolist(), rewards.tolist(), ended.tolist(), episodes))
    return found


@pytest.mark.parametrize("env_id", [name for name in ENVIRONMENTS if name not in DOWNLOADED])
def test_others_continue_to_the_bit(env_id: str) -> None:
    env, other = begun(env_id, 77), begun(env_id, 20, seed=9)
    place_of(other).load_state_dict(place_of(env).state_dict())
    assert taken(other, 300, 5) == taken(env, 300, 5)


def test_environments_of_others_and_of_another_number_have_no_place() -> None:
    assert Place.of(make_vec_env("CartPole-v1", 2)) is None
    assert Place.of(make_vec_env("SAB/MemoryChain-v0", 2, wrappers=["flatten"])) is None
    saved = place_of(begun("SAB/MemoryChain-v0", 1)).state_dict()
    place = place_of(make_vec_env("SAB/MemoryChain-v0", COPIES + 1))
    with pytest.raises(ValueError, match="must be that of 4 copies of the same environment"):
        place.load_state_dict(saved)
    with pytest.raises(gym.error.ResetNeeded):
        make_vec_env("SAB/MemoryChain-v0", 2).unwrapped.env.state_dict()  # type: ignore[attr-defined]

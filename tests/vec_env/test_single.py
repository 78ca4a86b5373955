"""A single environment as a VecEnv gives what stable-baselines3's `DummyVecEnv` of it gives."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from sab_agents.vec_env.single import SingleVecEnv


class Counting(gym.Env[Any, Any]):
    """Counts its steps, in observations of a given kind and in infos that it changes afterwards."""

    action_space = spaces.Discrete(2)

    def __init__(self, dicts: bool, nested: bool) -> None:
        one = spaces.Box(-np.inf, np.inf, (2,))
        self.observation_space = spaces.Dict({"a": one, "b": spaces.Discrete(9)}) if dicts else one
        self.dicts, self.nested, self.time = dicts, nested, 0
        self.info: dict[str, Any] = {}

    def observed(self) -> Any:
        array = np.full(2, self.time, np.float32)
        return {"a": array, "b": self.time} if self.dicts else array

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.time = 0
        return self.observed(), {"first": True}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.time += 1
        self.info["time"] = [self.time] if self.nested else self.time
        return self.observed(), float(self.time), self.time == 5, self.time == 3 and action == 1, dict(self.info)


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
@pytest.mark.parametrize("dicts", [False, True], ids=["array", "dict"])
def test_every_step_is_that_of_a_dummy_vec_env(dicts: bool, nested: bool) -> None:
    single = SingleVecEnv(Counting(dicts, nested))
    dummy = DummyVecEnv([lambda: Monitor(Counting(dicts, nested))])
    np.testing.assert_equal(single.reset(), dummy.reset())
    ends = 0
    for time in range(20):
        actions = np.array([time // 7 % 2])
        observed: list[Any] = [env.step(actions) for env in (single, dummy)]
        for found in observed:
            for each in found[3]:
                each.get("episode", {}).pop("t", None)  # seconds
        np.testing.assert_equal(observed[0], observed[1])
        assert [[part.dtype for part in found[1:3]] for found in observed] == [[np.float32, np.bool_]] * 2
        assert single.reset_infos == dummy.reset_infos
        ends += int(observed[0][2][0])
    assert ends > 3


def test_what_a_step_returned_stays_as_it_is() -> None:
    env = Counting(dicts=False, nested=True)
    single = SingleVecEnv(env)
    single.reset()
    first = single.step(np.array([0]))
    env.info["time"].append("changed")
    single.step(np.array([0]))
    assert first[0].tolist() == [[1.0, 1.0]]  # type: ignore[union-attr]
    assert first[1].tolist() == [1.0]
    assert first[3][0]["time"] == [1]


def test_an_environment_is_monitored_once() -> None:
    monitored = Monitor(Counting(dicts=False, nested=False))
    assert SingleVecEnv(monitored).envs[0] is monitored
    assert SingleVecEnv(monitored).env_is_wrapped(Monitor) == [True]


class Rewriting(gym.Env[Any, Any]):
    """Returns one array at every step, and writes into it."""

    observation_space, action_space = spaces.Box(0, 9, (1,)), spaces.Discrete(2)

    def __init__(self) -> None:
        self.observed = np.zeros(1, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.observed[:] = 0
        return self.observed, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self.observed += 1
        return self.observed, 0.0, False, bool(self.observed[0] == 3), {}


def test_the_last_observation_is_not_the_next_episodes_first() -> None:
    env = SingleVecEnv(Rewriting())
    env.reset()
    infos = [env.step(np.zeros(1, int))[3][0] for _ in range(3)]
    assert infos[2]["terminal_observation"].tolist() == [3.0]

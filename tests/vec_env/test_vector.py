"""Tests of the bridge to stable-baselines3: what an algorithm sees is what `DummyVecEnv` shows it."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import TimeLimit
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from sab_agents import VectorToVecEnv
from sab_agents.vec_env.vector import rows_of
from tests.envs.conftest import same
from tests.toys import ACTIONS, OBSERVATIONS, Toy

MODES = list(AutoresetMode)


class Native(VectorEnv[Any, Any, Any]):
    """Ten steps of counting, for all copies in one object."""

    favourite = 7

    def __init__(self, n: int, mode: AutoresetMode) -> None:
        self.num_envs = n
        self.metadata = {"autoreset_mode": mode}
        self.single_observation_space = gym.spaces.Box(0, 10, (1,), np.float32)
        self.observation_space = gym.spaces.Box(0, 10, (n, 1), np.float32)
        self.single_action_space = gym.spaces.Discrete(2)
        self.action_space = gym.spaces.MultiDiscrete([2] * n)

    def masks(self) -> Any:
        return np.eye(self.num_envs, 2)

    def name(self) -> str:
        return "native"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_trajectories_equal_those_of_dummy_vec_env(observation: str, mode: AutoresetMode) -> None:
    singles = [lambda: TimeLimit(Toy(observation), 3)] * 4
    dummy, bridge = DummyVecEnv(list(singles)), VectorToVecEnv(SyncVectorEnv(singles, autoreset_mode=mode))
    assert (bridge.observation_space, bridge.action_space) == (dummy.observation_space, dummy.action_space)
    cut = 0
    for seed in (5, None):
        for env in (dummy, bridge):
            env.seed(seed) if seed is not None else None
        assert same(bridge.reset(), dummy.reset())
        assert same(bridge.reset_infos, dummy.reset_infos)
        for step in range(30):
            actions = np.random.default_rng(step).integers(-1, 2, size=4)
            expected, found = dummy.step(actions), bridge.step(actions)
            assert same(found, expected)
            assert same(bridge.reset_infos, dummy.reset_infos)
            cut += sum(info["TimeLimit.truncated"] for info in found[3])
    assert cut > 5


@pytest.mark.parametrize("action", ACTIONS)
def test_every_kind_of_action_is_passed_on(action: str) -> None:
    dummy, bridge = (
        DummyVecEnv([lambda: Toy(action=action)] * 2),
        VectorToVecEnv(SyncVectorEnv([lambda: Toy(action=action)] * 2)),
    )
    dummy.seed(1)
    bridge.seed(1)
    dummy.reset()
    bridge.reset()
    bridge.env.action_space.seed(0)
    for _ in range(10):
        actions = bridge.env.action_space.sample()
        assert same(bridge.step(actions), dummy.step(actions))


def test_results_are_not_changed_by_later_steps() -> None:
    env = VectorToVecEnv(SyncVectorEnv([Toy] * 3, copy=False))
    env.reset()
    kept = env.step(np.ones(3, np.int64))
    before = copy.deepcopy(kept)
    for _ in range(8):
        env.step(np.zeros(3, np.int64))
    assert same(kept, before)


@pytest.mark.parametrize("mode", MODES)
def test_vec_monitor_counts_whole_episodes(mode: AutoresetMode) -> None:
    singles = [Toy] * 3
    dummy, bridge = (
        VecMonitor(DummyVecEnv(list(singles))),
        VecMonitor(VectorToVecEnv(SyncVectorEnv(singles, autoreset_mode=mode))),
    )
    for env in (dummy, bridge):
        env.seed(2)
        env.reset()
    ends = 0
    for _ in range(20):
        steps = [env.step(np.ones(3, np.int64))[3] for env in (dummy, bridge)]
        for expected, found in zip(*steps, strict=True):
            assert ("episode" in expected) == ("episode" in found)
            if "episode" in expected:
                ends += 1
                assert [found["episode"][key] for key in "rl"] == [expected["episode"][key] for key in "rl"]
    assert ends > 10


def test_statistics_of_gymnasiums_own_wrapper_reach_the_end_of_an_episode() -> None:
    inner = RecordEpisodeStatistics(SyncVectorEnv([Toy] * 2, autoreset_mode=AutoresetMode.SAME_STEP))
    env = VectorToVecEnv(inner)
    env.reset()
    for _ in range(12):
        _, _, dones, infos = env.step(np.ones(2, np.int64))
        assert [("episode" in info) for info in infos] == dones.tolist()
        assert not any("episode" in info for info in env.reset_infos)


@pytest.mark.parametrize("mode", MODES)
def test_statistics_of_our_environments_are_right_in_every_mode(mode: AutoresetMode) -> None:
    if mode is AutoresetMode.SAME_STEP and tuple(map(int, gym.__version__.split(".")[:2])) < (1, 4):
        pytest.skip("Gymnasium's own wrapper counts an episode's steps in this mode from version 1.4 on")
    inner = RecordEpisodeStatistics(
        gym.make_vec("SAB/KeyToDoor-v0", num_envs=3, autoreset_mode=mode, length=3, max_episode_steps=20)
    )
    env = VectorToVecEnv(inner)
    env.reset()
    env.step(np.zeros(3, np.int64))
    inner.reset(options={"reset_mask": np.array([True, False, False])})  # so that the copies do not end together
    steps, ends = np.array([0, 1, 1]), 0
    for step in range(120):
        _, _, dones, infos = env.step(np.arange(3) if step % 3 else np.zeros(3, np.int64))
        steps += 1
        for i in np.flatnonzero(dones):
            assert infos[i]["episode"]["l"] == steps[i]
            ends += 1
        steps[dones] = 0
    assert ends > 6


def test_options_reach_the_next_reset_alone() -> None:
    env = VectorToVecEnv(SyncVectorEnv([Toy] * 2))
    env.set_options({"hard": True})
    env.reset()
    assert [info["options"] for info in env.reset_infos] == ["{'hard': True}"] * 2
    env.reset()
    assert [info["options"] for info in env.reset_infos] == ["{}"] * 2
    env.set_options([{"hard": True}, {}])
    with pytest.raises(ValueError, match=r"same options, but .* different ones. Call set_options with one dict"):
        env.reset()


def test_attributes_and_methods_of_single_copies() -> None:
    env = VectorToVecEnv(SyncVectorEnv([Toy, lambda: TimeLimit(Monitor(Toy()), 5), Toy]))
    env.reset()
    assert env.get_attr("favourite") == [7, 7, 7]
    env.set_attr("favourite", 8, indices=1)
    assert env.get_attr("favourite", indices=[1, 2]) == [8, 7]
    env.set_attr("favourite", [1, 2, 3])
    assert env.get_attr("favourite", 0) == [[1, 2, 3]]
    env.set_attr("left", 4)
    assert env.env_method("double", 5) == [14, 14, 14]
    assert env.env_method("double", number=1, indices=[2]) == [6]
    assert env.env_is_wrapped(Monitor) == [False, True, False]
    assert env.env_is_wrapped(TimeLimit, indices=[1]) == [True]
    assert env.has_attr("favourite")
    assert not env.has_attr("absent")


def test_copies_in_other_processes() -> None:
    env = VectorToVecEnv(AsyncVectorEnv([Toy] * 2))
    dummy = DummyVecEnv([Toy] * 2)
    for each in (env, dummy):
        each.seed(3)
    assert same(env.reset(), dummy.reset())
    for _ in range(10):
        assert same(env.step(np.ones(2, np.int64)), dummy.step(np.ones(2, np.int64)))
    env.set_attr("left", 3)
    assert env.env_method("double", 2) == [7, 7]
    with pytest.raises(ValueError, match=r"env_method\('double'\): all 2 copies must be chosen.* but \[1\] are"):
        env.env_method("double", 2, indices=1)
    env.close()


@pytest.mark.parametrize("settings", [{}, {"shared_memory": False}, {"copy": False}], ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_copies_in_other_processes_in_every_mode(mode: AutoresetMode, settings: dict[str, Any]) -> None:
    singles = [lambda: TimeLimit(Toy("dict"), 3)] * 3
    made = AsyncVectorEnv(singles, autoreset_mode=mode, **settings)
    if mode is AutoresetMode.NEXT_STEP and not settings.get("shared_memory", True):
        with pytest.raises(ValueError, match=r"resets twice .* Make it with autoreset_mode=.*DISABLED"):
            VectorToVecEnv(made)
        made.close()
        return
    env, dummy = VectorToVecEnv(made), DummyVecEnv(list(singles))
    for each in (env, dummy):
        each.seed(3)
    assert same(env.reset(), dummy.reset())
    for step in range(12):
        actions = np.random.default_rng(step).integers(-1, 2, size=3)
        assert same(env.step(actions), dummy.step(actions))
        assert same(env.reset_infos, dummy.reset_infos)
    env.close()


def test_attributes_and_methods_where_all_copies_are_one_object() -> None:
    env = VectorToVecEnv(RecordEpisodeStatistics(Native(3, AutoresetMode.SAME_STEP)))
    assert env.get_attr("favourite", indices=[0, 2]) == [7, 7]
    env.set_attr("favourite", 8)
    assert env.get_attr("favourite") == [8, 8, 8]
    assert [mask.tolist() for mask in env.env_method("masks", indices=[1, 2])] == [[0, 1], [0, 0]]
    assert env.env_is_wrapped(RecordEpisodeStatistics) == [True] * 3
    assert env.env_is_wrapped(Monitor) == [False] * 3
    with pytest.raises(ValueError, match=r"set_attr\('favourite'\): all 3 copies must be chosen"):
        env.set_attr("favourite", 9, indices=0)
    with pytest.raises(TypeError, match=r"'name' .* must return None or an entry for each of the 3 copies"):
        env.env_method("name")
    with pytest.raises(AttributeError, match="has no attribute 'absent'"):
        env.get_attr("absent")


def test_frames_of_all_copies_are_tiled() -> None:
    env = VectorToVecEnv(SyncVectorEnv([lambda: Toy(render_mode="rgb_array")] * 4))
    env.reset()
    image = env.render()
    assert image is not None
    assert image.shape == (8, 10, 3)


def test_a_foreign_environment_that_resets_in_the_next_step_is_refused() -> None:
    VectorToVecEnv(Native(2, AutoresetMode.DISABLED))
    with pytest.raises(
        ValueError, match=r"resets in the next step, .* Make it of single environments: env = .*SyncVectorEnv"
    ):
        VectorToVecEnv(Native(2, AutoresetMode.NEXT_STEP))


def test_infos_are_split_by_copies() -> None:
    infos = {
        "a": np.array([1, 2]),
        "_a": np.array([False, True]),
        "b": {"c": np.array([3.0, 4.0]), "_c": np.array([True, False])},
        "d": np.ones((2, 3)),
        "e": "whole",
    }
    first, second = rows_of(infos, 2)
    assert first.pop("d").tolist() == second.pop("d").tolist() == [1, 1, 1]
    assert first == {"b": {"c": 3.0}, "e": "whole"}
    assert second == {"a": 2, "b": {}, "e": "whole"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("env_id", "arguments"),
    [
        ("SAB/PassiveTMaze-v0", {"corridor_length": 3}),
        ("SAB/Copying-v0", {"length": 2, "action_mode": "log_probs"}),
        ("SAB/Adding-v0", {"length": 4}),
        ("SAB/Characters-v0", {"episode_length": 5}),
    ],
)
def test_our_vector_environments_are_what_dummy_vec_env_makes_of_the_single_ones(
    env_id: str, arguments: dict[str, Any], mode: AutoresetMode
) -> None:
    dummy = DummyVecEnv([lambda: gym.make(env_id, **arguments)] * 3)
    bridge = VectorToVecEnv(gym.make_vec(env_id, num_envs=3, autoreset_mode=mode, **arguments))
    for env in (dummy, bridge):
        env.seed(4)
    assert same(bridge.reset(), dummy.reset())
    bridge.env.action_space.seed(0)
    for _ in range(60):
        actions = bridge.env.action_space.sample()
        expected, found = dummy.step(actions), bridge.step(actions)
        assert same(found, expected)
        assert same(bridge.reset_infos, dummy.reset_infos)


@pytest.mark.parametrize(
    ("algorithm", "env_id", "arguments"),
    [
        (PPO, "SAB/PassiveTMaze-v0", {"corridor_length": 5}),
        (PPO, "SAB/Adding-v0", {"length": 5}),
        (PPO, "SAB/Copying-v0", {"length": 2, "action_mode": "log_probs"}),
        (DQN, "SAB/PassiveTMaze-v0", {"corridor_length": 5}),
        (DQN, "SAB/DelayedRecall-v0", {"length": 2}),
    ],
)
def test_algorithms_run_unchanged_by_id_and_through_the_bridge(
    algorithm: Any, env_id: str, arguments: dict[str, Any]
) -> None:
    settings: dict[str, Any] = {"n_steps": 32, "batch_size": 32} if algorithm is PPO else {"learning_starts": 20}
    algorithm("MlpPolicy", env_id, device="cpu", **settings).learn(64)
    env = VecMonitor(VectorToVecEnv(gym.make_vec(env_id, num_envs=4, **arguments)))
    model = algorithm("MlpPolicy", env, device="cpu", **settings).learn(128)
    assert len(model.ep_info_buffer) >= 4


@pytest.mark.parametrize("algorithm", [PPO, DQN])
def test_algorithms_learn_the_same_through_the_bridge_as_through_dummy_vec_env(algorithm: Any) -> None:
    settings: dict[str, Any] = {"n_steps": 32, "batch_size": 32} if algorithm is PPO else {"learning_starts": 20}
    networks = []
    for make in (DummyVecEnv, lambda singles: VectorToVecEnv(SyncVectorEnv(singles))):
        env = make([lambda: gym.make("CartPole-v1")] * 4)
        model = algorithm("MlpPolicy", env, seed=0, device="cpu", policy_kwargs={"net_arch": [8]}, **settings)
        networks.append(model.learn(128).policy.state_dict())
    for name, weights in networks[0].items():
        assert (networks[1][name] == weights).all(), name

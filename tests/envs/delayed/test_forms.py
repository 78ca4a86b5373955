"""Every id, single and vectorised: Gymnasium's and stable-baselines3's checks, and one behaviour for both forms."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import FlattenObservation, RecordEpisodeStatistics, TimeLimit
from gymnasium.wrappers.vector import FlattenObservation as FlattenVectorObservation
from gymnasium.wrappers.vector import RecordEpisodeStatistics as RecordVectorEpisodeStatistics
from stable_baselines3.common.env_checker import check_env as check_env_of_stable_baselines3

from sab_agents.envs.registration import DELAYED, register_environments, registered

IDS = [known.id for known in DELAYED]
MODES = list(AutoresetMode)


def shortened(env_id: str) -> dict[str, Any]:
    """Settings with short episodes, so that a test sees many."""
    return {registered(env_id).dynamics().length_argument: 3}


def single(env_id: str, **arguments: Any) -> gym.Env[Any, Any]:
    """A single environment without the wrappers that `gym.make` adds."""
    return gym.make(env_id, **{**shortened(env_id), **arguments}).unwrapped


def vector(env_id: str, n: int = 3, **arguments: Any) -> VectorEnv[Any, Any, Any]:
    return gym.make_vec(env_id, num_envs=n, **{**shortened(env_id), **arguments})


def equal(first: Any, second: Any) -> bool:
    return data_equivalence(first, second, exact=True)


def run(envs: Any, steps: int, seed: int = 0) -> list[Any]:
    """What the environments return for random actions, from their present state."""
    actions = copy.deepcopy(envs.action_space)
    actions.seed(seed)
    return [envs.step(actions.sample()) for _ in range(steps)]


@pytest.mark.parametrize("env_id", IDS)
def test_both_checkers_pass_without_a_warning(env_id: str) -> None:
    for arguments in ({}, shortened(env_id)):
        env = gym.make(env_id, **arguments).unwrapped
        check_env(env)
        check_env_of_stable_baselines3(env, skip_render_check=False)


@pytest.mark.parametrize("env_id", IDS)
def test_all_that_a_vector_returns_lies_in_its_spaces_and_is_new_at_each_step(env_id: str) -> None:
    envs = vector(env_id)
    kept = [envs.reset(seed=1)[0]]
    copies = [kept[0].copy()]
    for observations, rewards, terminated, truncated, _ in run(envs, 30):
        assert observations in envs.observation_space
        assert (rewards.dtype, terminated.dtype, truncated.dtype) == (np.float64, np.bool_, np.bool_)
        assert rewards.shape == terminated.shape == truncated.shape == (3,)
        kept += [observations, rewards]
        copies += [observations.copy(), rewards.copy()]
    assert all(equal(before, after) for before, after in zip(copies, kept, strict=True))


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize("env_id", IDS)
def test_a_vector_returns_what_gymnasiums_sync_vector_of_single_ones_returns(env_id: str, mode: AutoresetMode) -> None:
    ours = vector(env_id, autoreset_mode=mode)
    theirs = SyncVectorEnv([lambda: single(env_id)] * 3, autoreset_mode=mode)
    assert ours.metadata["autoreset_mode"] is mode
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert equal(ours.reset(seed=5), theirs.reset(seed=5))
    seeds: list[int | None] = [7, None, 9]
    for seed in (None, seeds):
        for _ in range(40):
            actions = theirs.action_space.sample()
            step, expected = ours.step(actions), theirs.step(actions)
            assert equal(step, expected)
            if mode is AutoresetMode.DISABLED and (ended := step[2] | step[3]).any():
                assert equal(
                    ours.reset(options={"reset_mask": ended}), theirs.reset(options={"reset_mask": ended.copy()})
                )
        assert equal(ours.reset(seed=seed), theirs.reset(seed=seed))  # type: ignore[arg-type]
    assert equal(ours.np_random_seed, theirs.np_random_seed)


@pytest.mark.parametrize("env_id", IDS)
def test_copies_end_apart_from_each_other(env_id: str) -> None:
    """After a masked reset the copies are out of step; each continues as if it were alone."""
    ours, theirs = (
        vector(env_id, autoreset_mode="SameStep"),
        SyncVectorEnv([lambda: single(env_id)] * 3, autoreset_mode="SameStep"),
    )
    assert equal(ours.reset(seed=5), theirs.reset(seed=5))
    mask = np.array([False, True, False])
    for _ in range(30):
        actions = theirs.action_space.sample()
        assert equal(ours.step(actions), theirs.step(actions))
        mask = np.roll(mask, 1)
        masked = ours.reset(options={"reset_mask": mask}), theirs.reset(options={"reset_mask": mask})
        assert equal(*masked)


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["copy", "pickle"])
def test_a_copied_environment_continues_identically(env_id: str, copied: Callable[[Any], Any]) -> None:
    envs = vector(env_id)
    envs.reset(seed=2)
    run(envs, 5)
    twin = copied(envs)
    assert equal(run(envs, 25), run(twin, 25))
    env = single(env_id)
    env.reset(seed=2)
    env.step(env.action_space.sample())
    assert equal(episodes(copied(env)), episodes(env))


def episodes(env: gym.Env[Any, Any]) -> list[Any]:
    """Three episodes, the first of which is under way."""
    returned: list[Any] = []
    for _ in range(3):
        ended = False
        while not ended:
            step = env.step(0)
            returned.append(step)
            ended = step[2] or step[3]
        returned.append(env.reset())
    return returned


@pytest.mark.parametrize("env_id", IDS)
def test_without_a_seed_episodes_differ_from_run_to_run_only_by_chance(env_id: str) -> None:
    first, second = (vector(env_id).np_random_seed for _ in range(2))
    assert first != second


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasiums_wrappers_work_on_both_forms(env_id: str) -> None:
    env = TimeLimit(RecordEpisodeStatistics(FlattenObservation(single(env_id))), 2)
    env.reset(seed=0)
    assert not env.step(0)[3]
    assert env.step(0)[3]
    envs = RecordVectorEpisodeStatistics(FlattenVectorObservation(vector(env_id)))
    envs.reset(seed=0)
    rewards = np.zeros(3)
    for _, reward, terminated, _, info in run(envs, 40):
        rewards += reward
        if terminated.any():
            np.testing.assert_allclose(info["episode"]["r"][terminated], rewards[terminated])
            rewards[terminated] = 0
            break
    else:
        pytest.fail("no episode ended")


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_a_vectors_time_limit_equals_the_wrapper_of_the_single_form(mode: str) -> None:
    for env_id in IDS:
        ours = vector(env_id, max_episode_steps=2, autoreset_mode=mode)
        theirs = SyncVectorEnv([lambda env_id=env_id: TimeLimit(single(env_id), 2)] * 3, autoreset_mode=mode)  # type: ignore[misc]
        assert equal(ours.reset(seed=1), theirs.reset(seed=1))
        theirs.action_space.seed(0)
        for step in run(ours, 12):
            assert equal(step, theirs.step(theirs.action_space.sample()))


@pytest.mark.parametrize("env_id", IDS)
def test_the_state_is_rendered_as_a_picture_and_as_text(env_id: str) -> None:
    for arguments in ({}, shortened(env_id)):
        env = gym.make(env_id, render_mode="rgb_array", **arguments)
        text = gym.make(env_id, render_mode="ansi", **arguments)
        frames, lines = [], []
        env.reset(seed=0)
        text.reset(seed=0)
        for _ in range(3):
            frames.append(np.asarray(env.render()))
            lines.append(text.render())
            env.step(0)
            text.step(0)
        assert all(frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3 for frame in frames)
        assert frames[0].shape == frames[2].shape
        assert not np.array_equal(frames[0], frames[2])
        assert all(isinstance(line, str) and line.isascii() for line in lines)
        assert lines[0] != lines[2]
    envs = vector(env_id, render_mode="rgb_array")
    envs.reset(seed=0)
    pictures = envs.render()
    assert pictures is not None
    assert len(pictures) == 3
    alone = single(env_id, render_mode="rgb_array")
    alone.reset(seed=1)
    assert np.array_equal(pictures[1], alone.render())  # type: ignore[arg-type]


@pytest.mark.parametrize("env_id", IDS)
def test_an_id_tells_reports_its_returns(env_id: str) -> None:
    env = gym.make(env_id)
    returns: Any = env.unwrapped.get_wrapper_attr("returns")
    assert env.metadata["returns"] == {name: getattr(returns, name) for name in ("best", "random", "memoryless")}
    assert returns.random < returns.best
    assert returns.random <= returns.memoryless <= returns.best
    assert env.metadata["tests"]
    assert env.spec is not None
    assert registered(env_id).dynamics(**env.spec.kwargs).returns == returns


def test_ids_are_registered_once_and_also_by_the_name_of_the_package() -> None:
    before = dict(gym.registry)
    register_environments()
    assert dict(gym.registry) == before
    assert isinstance(gym.make("sab_agents:SAB/PassiveTMaze-v0").unwrapped, gym.Env)
    with pytest.raises(ValueError, match="Did you mean 'SAB/PassiveTMaze-v0'"):
        registered("SAB/PasiveTMaze-v0")

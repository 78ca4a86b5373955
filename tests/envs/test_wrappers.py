"""The wrappers: the content of an observation after each kind of step, and which steps are valid."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import DictInfoToList

import sab_agents  # noqa: F401  # registers the ids
from sab_agents.envs.wrappers import MarkResetSteps, PreviousActionReward, VectorPreviousActionReward
from tests.envs.conftest import same
from tests.toys import ACTIONS, OBSERVATIONS, Toy

MODES = list(AutoresetMode)


@pytest.mark.parametrize(
    ("action", "taken", "coded"),
    [
        ("discrete", 0, [0, 1, 0]),
        ("multi_discrete", np.array([1, 0]), [0, 1, 1, 0, 0]),
        ("multi_binary", np.array([1, 0, 1], np.int8), [1, 0, 1]),
        ("box", np.array([[0.5, 1], [1.5, 2]], np.float32), [0.5, 1, 1.5, 2]),
    ],
)
def test_an_observation_ends_in_the_action_and_the_reward_that_led_to_it(
    action: str, taken: Any, coded: list[float]
) -> None:
    plain, env = Toy(action=action), PreviousActionReward(Toy(action=action))
    first, _ = plain.reset(seed=3)
    joined, _ = env.reset(seed=3)
    assert joined.tolist() == [*first.ravel().tolist(), *[0] * len(coded), 0]
    observation, reward, *_ = plain.step(taken)
    joined, same_reward, *_ = env.step(taken)
    assert same_reward == reward
    assert joined.tolist() == [*observation.ravel().tolist(), *coded, np.float32(reward)]
    assert (joined.shape, joined.dtype) == ((6 + len(coded) + 1,), np.float32)
    assert env.reset()[0][6:].tolist() == [0] * (len(coded) + 1)


def test_a_dict_observation_gets_two_keys() -> None:
    env = PreviousActionReward(Toy("dict"))
    observation, _ = env.reset(seed=0)
    assert observation.keys() == {"near", "far", "previous_action", "previous_reward"}
    observation, reward, *_ = env.step(1)
    assert observation["previous_action"].tolist() == [0, 0, 1]
    assert observation["previous_reward"].tolist() == [np.float32(reward)]


@pytest.mark.parametrize("wrapper", [VectorPreviousActionReward, MarkResetSteps])
def test_a_list_of_infos_is_refused(wrapper: Any) -> None:
    env = wrapper(DictInfoToList(SyncVectorEnv([Toy] * 2)))
    env.reset()
    with pytest.raises(TypeError, match=r"infos must be a dict, but are a list\. Wrap in DictInfoToList last"):
        env.step(np.ones(2, np.int64))
    env = DictInfoToList(wrapper(SyncVectorEnv([Toy] * 2)))
    env.reset()
    env.step(np.ones(2, np.int64))


def test_other_observations_are_coded_too() -> None:
    env = PreviousActionReward(Toy("discrete"))
    plain = Toy("discrete").reset(seed=5)[0]
    assert env.reset(seed=5)[0].tolist() == [*(plain == np.arange(2, 6)), 0, 0, 0, 0]
    assert PreviousActionReward(Toy("double")).observation_space.dtype == np.float64
    assert PreviousActionReward(Toy("bytes")).observation_space.dtype == np.float32


@pytest.mark.parametrize(("observation", "action"), list(itertools.product(OBSERVATIONS, ACTIONS)))
def test_observations_lie_in_the_space_that_is_announced(observation: str, action: str) -> None:
    env = PreviousActionReward(Toy(observation, action))
    env.action_space.seed(0)
    assert env.observation_space.contains(env.reset(seed=0)[0])
    ended = False
    while not ended:
        joined, _, terminated, truncated, _ = env.step(env.action_space.sample())
        assert env.observation_space.contains(joined)
        ended = terminated or truncated


@pytest.mark.pairs
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("action", ACTIONS)
def test_the_vector_form_equals_each_copy_wrapped_by_itself(observation: str, action: str, mode: AutoresetMode) -> None:
    n = 3
    apart = SyncVectorEnv([lambda: PreviousActionReward(Toy(observation, action))] * n, autoreset_mode=mode)
    together = VectorPreviousActionReward(SyncVectorEnv([lambda: Toy(observation, action)] * n, autoreset_mode=mode))
    assert together.single_observation_space == apart.single_observation_space
    assert together.observation_space == apart.observation_space
    apart.action_space.seed(1)
    assert same(together.reset(seed=4), apart.reset(seed=4))
    for _ in range(40):
        actions = apart.action_space.sample()
        expected, actual = apart.step(actions), together.step(actions)
        assert same(actual[0], expected[0])
        assert same(actual[4], expected[4])
        ended = expected[2] | expected[3]
        if mode == AutoresetMode.DISABLED and ended.any():
            results = [env.reset(options={"reset_mask": ended.copy()}) for env in (together, apart)]
            assert same(results[0], results[1])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("env_id", "name"), [("SAB/PassiveTMaze-v0", "corridor_length"), ("SAB/Adding-v0", "length")])
def test_our_vector_environments_are_wrapped_like_single_ones(env_id: str, name: str, mode: AutoresetMode) -> None:
    short: dict[str, Any] = {name: 3}
    apart = SyncVectorEnv([lambda: PreviousActionReward(gym.make(env_id, **short))] * 2, autoreset_mode=mode)
    together = VectorPreviousActionReward(gym.make_vec(env_id, num_envs=2, autoreset_mode=mode, **short))
    assert same(together.reset(seed=4), apart.reset(seed=4))
    apart.action_space.seed(1)
    for _ in range(20):
        actions = apart.action_space.sample()
        expected, actual = apart.step(actions), together.step(actions)
        assert same(actual, expected)
        ended = expected[2] | expected[3]
        if mode == AutoresetMode.DISABLED and ended.any():
            masks = [{"reset_mask": ended.copy()} for _ in range(2)]
            assert same(together.reset(options=masks[0]), apart.reset(options=masks[1]))


def test_the_action_of_a_step_that_only_resets_is_not_seen() -> None:
    env = VectorPreviousActionReward(SyncVectorEnv([Toy] * 4))
    env.reset(seed=0)
    ended = np.zeros(4, np.bool_)
    seen = 0
    for _ in range(20):
        actions = np.where(ended, 99, 1)  # 99 is no action
        observations, rewards, terminations, truncations, _ = env.step(actions)
        assert not observations[ended, 6:].any()
        assert (observations[~ended, 8] == 1).all()
        assert np.array_equal(observations[:, 9], rewards.astype(np.float32))
        seen += ended.sum()
        ended = terminations | truncations
    assert seen > 5


def test_only_the_steps_that_reset_are_invalid() -> None:
    env = MarkResetSteps(SyncVectorEnv([Toy] * 4))
    assert "valid" not in env.reset(seed=0)[1]
    ended = np.zeros(4, np.bool_)
    for step in range(40):
        _, _, terminations, truncations, infos = env.step(np.ones(4, np.int64))
        assert np.array_equal(infos["valid"], ~ended)
        assert infos["valid"].dtype == np.bool_
        assert ("begins" in infos) == ended.any()  # the toy says so when it is reset
        ended = terminations | truncations
        if step % 7 == 0 and ended.any():
            env.reset(options={"reset_mask": ended.copy()})
            ended[:] = False


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED])
def test_where_no_step_is_spent_on_resets_all_are_valid(mode: AutoresetMode) -> None:
    env = MarkResetSteps(SyncVectorEnv([Toy] * 3, autoreset_mode=mode))
    env.reset(seed=1)
    for _ in range(20):
        _, _, terminations, truncations, infos = env.step(np.ones(3, np.int64))
        assert infos["valid"].all()
        ended = terminations | truncations
        if mode == AutoresetMode.DISABLED and ended.any():
            env.reset(options={"reset_mask": ended})


def test_what_an_observation_held_is_not_changed_by_later_steps() -> None:
    env = VectorPreviousActionReward(SyncVectorEnv([lambda: Toy("dict")] * 2))
    env.reset(seed=0)
    kept = env.step(np.ones(2, np.int64))[0]
    before = copy.deepcopy(kept)
    for _ in range(6):
        env.step(np.zeros(2, np.int64))
    assert same(kept, before)


def test_a_pickled_wrapper_continues_identically() -> None:
    env = VectorPreviousActionReward(SyncVectorEnv([Toy] * 3))
    env.reset(seed=2)
    env.step(np.ones(3, np.int64))
    twin = pickle.loads(pickle.dumps(env))
    for _ in range(10):
        assert same(env.step(np.zeros(3, np.int64)), twin.step(np.zeros(3, np.int64)))


def test_spaces_without_an_encoding_raise() -> None:
    env = Toy()
    env.observation_space = spaces.Sequence(spaces.Discrete(2))
    with pytest.raises(TypeError, match=r"observation space must be Discrete, .* or Box, or Dict, but is Sequence"):
        PreviousActionReward(env)
    env = Toy()
    env.action_space = spaces.Text(3)
    with pytest.raises(TypeError, match=r"action space must be Discrete, .* or Box, but is Text"):
        PreviousActionReward(env)


def test_a_dict_observation_is_wrapped_once() -> None:
    with pytest.raises(ValueError, match=r"must not have the keys .* Wrap the environment once"):
        PreviousActionReward(PreviousActionReward(Toy("dict")))


@pytest.mark.parametrize("wrapper", [VectorPreviousActionReward, MarkResetSteps])
def test_an_environment_must_name_its_autoreset_mode(wrapper: Any) -> None:
    env = SyncVectorEnv([Toy])
    del env.metadata["autoreset_mode"]
    with pytest.raises(ValueError, match=r"metadata\['autoreset_mode'\] must be .*AutoresetMode, but is None"):
        wrapper(env)


def test_the_single_wrapper_is_recorded_in_the_specification() -> None:
    env = PreviousActionReward(gym.make("CartPole-v1"))
    assert env.spec is not None
    again = gym.make(env.spec)
    assert isinstance(again, PreviousActionReward)
    assert again.observation_space.shape == (4 + 2 + 1,)

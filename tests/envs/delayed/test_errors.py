"""Wrong arguments, wrong actions and steps without an episode: each is a clear error, before anything changes."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from sab_agents.envs.registration import DELAYED, registered

IDS = [known.id for known in DELAYED]


def classes(env_id: str) -> tuple[Any, Any]:
    """The classes of the single and the vectorised form."""
    return type(gym.make(env_id).unwrapped), type(gym.make_vec(env_id, num_envs=1))


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize(
    ("value", "error", "came"),
    [
        (0, ValueError, "is 0"),
        (-3, ValueError, "is -3"),
        (10**9, ValueError, "is 1000000000"),
        (2.0, TypeError, "2.0 \\(float\\)"),
        ("7", TypeError, "'7' \\(str\\)"),
        (None, TypeError, "None"),
        (True, TypeError, "True"),
        (np.bool_(True), TypeError, "True"),
        (np.array([3]), TypeError, "array"),
    ],
)
def test_a_wrong_length_raises(env_id: str, value: object, error: type[Exception], came: str) -> None:
    setting = registered(env_id).dynamics().length_argument
    for form in classes(env_id):
        with pytest.raises(error, match=f"{setting} must be an int from 1 to 1000000, but is.*{came}|{came}"):
            form(**{setting: value})


@pytest.mark.parametrize("env_id", IDS)
def test_numpys_integers_are_accepted(env_id: str) -> None:
    setting = registered(env_id).dynamics().length_argument
    assert type(getattr(registered(env_id).dynamics(**{setting: np.int32(5)}), setting)) is int


@pytest.mark.parametrize("env_id", IDS)
def test_an_unknown_argument_is_named_with_what_is_like_it(env_id: str) -> None:
    setting = registered(env_id).dynamics().length_argument
    wrong = setting.replace("th", "ht")
    for form in classes(env_id):
        with pytest.raises(TypeError, match=f"{wrong}.*Did you mean '{setting}'"):
            form(**{wrong: 3})


def test_wrong_forms_raise() -> None:
    single, vector = classes("SAB/PassiveTMaze-v0")
    with pytest.raises(ValueError, match=r"render_mode must be one of ansi, rgb_array.*Did you mean 'rgb_array'"):
        single(render_mode="rgb-array")
    with pytest.raises(ValueError, match="autoreset_mode must be one of NextStep, SameStep, Disabled"):
        vector(autoreset_mode="next")
    with pytest.raises(ValueError, match="num_envs must be an int from 1"):
        vector(num_envs=0)
    with pytest.raises(TypeError, match="max_episode_steps must be an int"):
        vector(max_episode_steps=1.5)


def test_a_thousand_random_constructor_calls_raise_nothing_but_type_and_value_errors() -> None:
    generator = np.random.default_rng(0)
    values: list[object] = [0, 1, 2, 7, 999_999, 1_000_001, -1, 1.5, -0.0, float("nan"), float("inf"), "x", "", None]
    values += [True, [1], (), {}, np.int8(3), np.float32(0.5), np.bool_(False), np.arange(2), b"2", object(), 10**30]
    raised = 0
    forms = {env_id: classes(env_id) for env_id in IDS}
    for _ in range(1000):
        env_id = IDS[generator.integers(len(IDS))]
        names = list(inspect.signature(type(registered(env_id).dynamics())).parameters)
        names += ["render_mode", "lenght"]
        form = forms[env_id][generator.integers(2)]
        if form is forms[env_id][1]:
            names += ["num_envs", "autoreset_mode", "max_episode_steps"]
        chosen = generator.choice(names, size=generator.integers(0, len(names) + 1), replace=False)
        arguments = {str(name): values[generator.integers(len(values))] for name in chosen}
        if arguments.get("num_envs") is values[4]:
            arguments["num_envs"] = 3  # a million copies are allowed, and slow to make
        try:
            form(**arguments)
        except (TypeError, ValueError) as error:
            raised += 1
            assert len(str(error)) > 20  # noqa: PT017
    assert 100 < raised < 950


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("action", [-1, 99, 1.5, "up", None, True, [0, 0], np.array([1.0]), np.nan])
def test_a_wrong_action_raises_before_anything_changes(env_id: str, action: Any) -> None:
    env = gym.make(env_id, disable_env_checker=True).unwrapped
    env.reset(seed=0)
    before = pickle.dumps(env)
    with pytest.raises((TypeError, ValueError), match=r"Env: (actions|an action) must"):
        env.step(action)
    assert pickle.dumps(env) == before
    envs = gym.make_vec(env_id, num_envs=2)
    envs.reset(seed=0)
    before = pickle.dumps(envs)
    with pytest.raises((TypeError, ValueError), match=r"VectorEnv: (actions|an action) must"):
        envs.step([action, action])
    assert pickle.dumps(envs) == before


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64, np.int64])
def test_every_integer_type_are_accepted_for_a_discrete_action(dtype: Any) -> None:
    envs = gym.make_vec("SAB/PassiveTMaze-v0", num_envs=2)
    envs.reset(seed=0)
    envs.step(np.array([3, 0], dtype=dtype))
    with pytest.raises(ValueError, match="action of copy 1 is 4"):
        envs.step(np.array([3, 4], dtype=dtype))


@pytest.mark.parametrize("env_id", IDS)
def test_a_step_without_an_episode_raises(env_id: str) -> None:
    env = gym.make(env_id, disable_env_checker=True).unwrapped
    with pytest.raises(ResetNeeded, match="none has begun"):
        env.step(0)
    with pytest.raises(ResetNeeded, match="none has begun"):
        env.render()
    env.reset()
    ended = False
    while not ended:
        ended = env.step(0)[2]
    with pytest.raises(ResetNeeded, match="the last one has ended"):
        env.step(0)
    envs = gym.make_vec(env_id, num_envs=2, autoreset_mode="Disabled")
    for early in (lambda: envs.step(np.zeros(2, dtype=int)), envs.render):
        with pytest.raises(ResetNeeded, match="none has begun"):
            early()
    with pytest.raises(ResetNeeded, match="without it first"):
        envs.reset(options={"reset_mask": np.array([True, False])})
    envs.reset()
    while not envs.step(np.zeros(2, dtype=int))[2].any():
        pass
    with pytest.raises(ResetNeeded, match=r"copies \[0, 1\] have ended"):
        envs.step(np.zeros(2, dtype=int))
    envs.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(ResetNeeded, match=r"copies \[1\] have ended"):
        envs.step(np.zeros(2, dtype=int))


def test_the_dummy_step_of_a_next_step_reset_takes_any_action() -> None:
    envs = gym.make_vec("SAB/PassiveTMaze-v0", num_envs=2, corridor_length=1)
    envs.reset()
    while not envs.step(np.zeros(2, dtype=int))[2].any():
        pass
    envs.step(np.array([-7, 99]))
    with pytest.raises(ValueError, match="action of copy 0 is -7"):
        envs.step(np.array([-7, 99]))


@pytest.mark.parametrize(
    ("mask", "error"),
    [
        ([True, False], TypeError),
        (np.array([1, 0]), TypeError),
        (np.array([True]), ValueError),
        (np.array([False, False]), ValueError),
    ],
)
def test_a_wrong_mask_raises(mask: Any, error: type[Exception]) -> None:
    envs = gym.make_vec("SAB/PassiveTMaze-v0", num_envs=2)
    envs.reset()
    with pytest.raises(error, match="reset_mask must be a bool array of 2 entries"):
        envs.reset(options={"reset_mask": mask})


def test_a_wrong_number_of_seeds_raises() -> None:
    envs = gym.make_vec("SAB/PassiveTMaze-v0", num_envs=2)
    with pytest.raises(ValueError, match="one seed for each of the 2 copies, but there are 3"):
        envs.reset(seed=[1, 2, 3])  # type: ignore[arg-type]
    wrong: Any
    for wrong in (1.5, "12"):
        with pytest.raises(TypeError, match="seed must be an int, a sequence of 2 ints or None, but is"):
            envs.reset(seed=wrong)

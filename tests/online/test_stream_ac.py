"""StreamAC behind stable-baselines3's face: acting, callbacks, logs, and what it refuses."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback, EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from sab_agents import StreamAC
from tests.online.conftest import Clock

POLICIES = ["MlpSabPolicy", "MlpLstmPolicy", "MlpRtuPolicy"]
SMALL = {"hidden_size": 8, "width": 8}


def agent(policy: str = "MlpRtuPolicy", env: Any = None, **settings: Any) -> StreamAC:
    return StreamAC(policy, env or Clock(), **{"policy_kwargs": SMALL, "seed": 0, **settings})


class CountingCallback(BaseCallback):
    """Notes the agent's count of steps at each call; stops it after `limit`."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit, self.seen = limit, list[int]()

    def _on_step(self) -> bool:
        self.seen.append(self.num_timesteps)
        assert self.locals["infos"][0]["TimeLimit.truncated"] is False
        assert self.locals["dones"].shape == self.locals["rewards"].shape == (1,)
        assert self.model._n_updates == self.num_timesteps  # what a step taught is learned before the callback
        return self.num_timesteps < self.limit


class Records(KVWriter):
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:  # noqa: ARG002
        self.rows.append({**key_values, "step": step})


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("continuous", [False, True], ids=["discrete", "continuous"])
@pytest.mark.parametrize("shared_core", [True, False], ids=["shared", "separate"])
def test_it_learns_acts_and_is_evaluated(policy: str, continuous: bool, shared_core: bool) -> None:
    # Attention is moved once there are several slots to choose from.
    rules = {"write": "every"} if policy == "MlpSabPolicy" else {}
    model = agent(policy, Clock(continuous=continuous), policy_kwargs={**SMALL, **rules, "shared_core": shared_core})
    before = [parameter.clone() for parameter in model.policy.parameters()]
    assert model.learn(30) is model
    # What decides a recurrent core, and what follows it: everything has been moved.
    moved = [not torch.equal(*pair) for pair in zip(before, model.policy.parameters(), strict=True)]
    assert all(moved)
    mean, _ = evaluate_policy(model, Monitor(Clock(continuous=continuous)), n_eval_episodes=3)
    assert np.isfinite(mean)


@pytest.mark.parametrize("policy", POLICIES)
def test_predict_carries_state_and_forgets_at_an_episodes_start(policy: str) -> None:
    model = agent(policy).learn(50)
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(2, 4, 3)).astype(np.float32)
    whole, _ = model.policy.actor_stream.act(torch.zeros(2, 3), model.policy.actor_stream.initial_state(2))
    assert whole.shape == (2, model.policy.actor_core.output_size)
    state = None
    for step in range(4):
        _, state = model.predict(observations[:, step], state, np.array([step == 0] * 2), deterministic=True)
    _, alone = model.predict(observations[1, 3], None, None, deterministic=True)
    _, restarted = model.predict(observations[:, 3], state, np.array([False, True]), deterministic=True)
    assert state is not None
    assert alone is not None
    assert restarted is not None
    for after, single in zip(restarted, alone, strict=True):
        np.testing.assert_allclose(after[1], single[0], rtol=1e-5, atol=1e-7)
    assert any(not np.array_equal(after[0], single[0]) for after, single in zip(restarted, alone, strict=True))


def test_predict_takes_one_observation_or_a_batch_within_the_bounds() -> None:
    model = agent(env=Clock(continuous=True)).learn(10)
    one, _ = model.predict(np.zeros(3, np.float32))
    many, state = model.predict(np.zeros((5, 3), np.float32))
    assert one.shape == (2,)
    assert many.shape == (5, 2)
    assert np.abs(many).max() <= 1
    with pytest.raises(ValueError, match=r"observation must have shape \(3,\).*has \(4,\)"):
        model.predict(np.zeros(4, np.float32))
    with pytest.raises(ValueError, match="for 2 observations the state must have shapes"):
        model.predict(np.zeros((2, 3), np.float32), state)


def test_deterministic_actions_are_the_likeliest_and_others_are_drawn() -> None:
    model = agent().learn(10)
    observation = np.ones((200, 3), np.float32)
    drawn, _ = model.predict(observation)
    likeliest, _ = model.predict(observation, deterministic=True)
    assert len(set(drawn.tolist())) == 3
    counts = np.bincount(drawn)
    assert set(likeliest.tolist()) == {int(counts.argmax())}


def test_acting_in_between_does_not_change_what_is_learned() -> None:
    learned = []
    for looks in (False, True):
        model = agent().learn(20)
        if looks:
            model.predict(np.ones((7, 3), np.float32))
        model.learn(20, reset_num_timesteps=False)
        learned.append(torch.cat([parameter.flatten() for parameter in model.policy.parameters()]))
    assert torch.equal(*learned)


def test_the_seed_decides_everything() -> None:
    vectors = [agent(seed=seed).learn(30).optimisers[0].vector for seed in (1, 1, 2)]
    assert torch.equal(vectors[0], vectors[1])
    assert not torch.equal(vectors[0], vectors[2])


def assigned(model: StreamAC) -> StreamAC:
    state = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.policy.load_state_dict(state, assign=True)
    return model


def from_vector(model: StreamAC) -> StreamAC:
    model.policy.load_from_vector(model.policy.parameters_to_vector())
    return model


COPIES: dict[str, Callable[[StreamAC], StreamAC]] = {
    "deepcopy": copy.deepcopy,
    "cloudpickle": lambda model: cloudpickle.loads(cloudpickle.dumps(model)),
    "load_state_dict": assigned,
    "load_from_vector": from_vector,
}


@pytest.mark.pairs
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("shared_core", [True, False], ids=["shared", "separate"])
@pytest.mark.parametrize("way", COPIES)
def test_a_copy_learns_on_as_its_original(policy: str, shared_core: bool, way: str) -> None:
    settings = {**SMALL, "shared_core": shared_core}
    model, untouched = (agent(policy, policy_kwargs=settings).learn(33) for _ in range(2))
    copied = COPIES[way](model)
    before = [parameter.clone() for parameter in copied.policy.parameters()]
    for each in (copied, untouched):
        each.learn(30, reset_num_timesteps=False)
    learned = zip(before, copied.policy.parameters(), untouched.policy.parameters(), strict=True)
    for old, mine, theirs in learned:
        assert torch.equal(mine, theirs)
        assert not torch.equal(mine, old) or policy == "MlpSabPolicy"  # one slot needs no attention


def test_a_callback_sees_each_step_and_can_stop() -> None:
    callback = CountingCallback(limit=12)
    model = agent().learn(100, callback)
    assert callback.seen == list(range(1, 13))
    assert model.num_timesteps == 12


def test_learn_goes_on_or_starts_anew() -> None:
    model = agent()
    model.learn(10)
    assert model._last_episode_starts is not None
    assert not model._last_episode_starts[0]
    model.learn(5, reset_num_timesteps=False)
    assert model.num_timesteps == 15
    model.learn(5)
    assert model.num_timesteps == 5


def test_a_new_start_forgets_the_traces() -> None:
    model = agent().learn(10)
    trace = model.optimisers[0].trace
    assert trace.abs().sum() > 0
    model._last_obs = None
    model.learn(0, reset_num_timesteps=False)
    assert trace.abs().sum() == 0


def test_evaluation_and_checkpoints_by_callback(tmp_path: Path) -> None:
    evaluation = EvalCallback(
        Monitor(Clock()), n_eval_episodes=2, eval_freq=20, best_model_save_path=str(tmp_path), verbose=0
    )
    checkpoints = CheckpointCallback(15, str(tmp_path))
    agent().learn(40, [evaluation, checkpoints])
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"best_model.zip", "rl_model_15_steps.zip", "rl_model_30_steps.zip"}
    assert StreamAC.load(tmp_path / "rl_model_30_steps").num_timesteps == 30


def test_the_log_has_returns_lengths_and_speed(tmp_path: Path) -> None:
    model = agent(tensorboard_log=str(tmp_path))
    records = Records()
    model.set_logger(Logger(None, [records]))
    model.learn(30, log_interval=2)
    assert [row["step"] for row in records.rows] == [14, 28]
    assert records.rows[0]["rollout/ep_len_mean"] == 7
    assert records.rows[1]["time/fps"] > 0
    assert np.isfinite(records.rows[1]["rollout/ep_rew_mean"])


def test_tensorboard_gets_the_run_under_its_name(tmp_path: Path) -> None:
    agent(tensorboard_log=str(tmp_path)).learn(30, log_interval=1, tb_log_name="clock")
    assert list((tmp_path / "clock_1").glob("events*"))


@pytest.mark.parametrize("space", [spaces.Discrete(4), spaces.MultiBinary(3), spaces.MultiDiscrete([2, 3])])
def test_observations_that_are_no_box_are_flattened(space: spaces.Space[Any]) -> None:
    class Drawn(Clock):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = space

        def observation(self) -> Any:
            return space.sample()

    model = agent(env=Drawn()).learn(20)
    assert model.policy.input_size == spaces.flatdim(space)
    model.predict(np.asarray(space.sample()))


def test_more_than_one_environment_is_refused() -> None:
    envs = DummyVecEnv([Clock, Clock])
    with pytest.raises(ValueError, match="learns from one environment, but got 2"):
        agent(env=envs)


def test_an_unknown_policy_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"must be one of MlpSabPolicy, .*but is 'MlpPolicy'"):
        agent("MlpPolicy")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be a number above 0"),
        ({"gamma": 2.0}, "gamma must be a number from 0 to 1, but is 2"),
        ({"ent_coef": -1.0}, "ent_coef must be a number of at least 0, but is -1"),
        ({"policy_kwargs": {"width": 0}}, "width must be at least 1, but is 0"),
    ],
)
def test_a_setting_out_of_range_is_named(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        agent(**setting)


def test_spaces_that_are_not_supported_are_refused() -> None:
    env = Clock()
    env.action_space = spaces.MultiBinary(2)
    with pytest.raises(TypeError, match="actions must be of one of Discrete, Box, but are of MultiBinary"):
        agent(env=env)
    env = Clock()
    env.observation_space = spaces.Dict({"a": spaces.Discrete(2)})
    with pytest.raises(TypeError, match="observations must be arrays of numbers, but are of Dict"):
        agent(env=env)


def test_an_observation_that_is_not_finite_is_refused_before_anything_changes() -> None:
    class Broken(Clock):
        def observation(self) -> Any:
            return np.full(3, np.nan, np.float32) if self.now == 5 else super().observation()

    model = agent(env=Broken())
    callback = CountingCallback(limit=100)
    with pytest.raises(ValueError, match="observation must be finite"):
        model.learn(20, callback)
    assert callback.seen[-1] == model._n_updates == 4
    assert torch.isfinite(model.optimisers[0].vector).all()


def test_learning_without_an_environment_is_refused(tmp_path: Path) -> None:
    agent().save(tmp_path / "agent")
    with pytest.raises(ValueError, match="needs an environment"):
        StreamAC.load(tmp_path / "agent").learn(1)


def test_callbacks_find_the_locals_of_stable_baselines3() -> None:
    seen: list[dict[str, Any]] = []

    def note(found: dict[str, Any], _: dict[str, Any]) -> bool:
        seen.append(dict(found))
        return True

    StreamAC("MlpSabPolicy", "Pendulum-v1", seed=0).learn(3, callback=note)
    assert len(seen) == 3
    for found in seen:
        assert {"self", "env", "callback", "new_obs", "rewards", "dones", "infos"} <= found.keys()
        assert found["actions"].shape == found["clipped_actions"].shape == (1, 1)
        np.testing.assert_array_equal(found["clipped_actions"], np.clip(found["actions"], -2, 2))


def test_a_policy_without_a_state_says_how_it_acts() -> None:
    policy = StreamAC("MlpSabPolicy", "CartPole-v1").policy
    for call in (policy, policy._predict):
        with pytest.raises(TypeError, match=r"MlpSabPolicy: a policy with memory acts by predict\(observation, state"):
            call(torch.zeros(1, 4))


class Pictures(Clock):
    """Shows a picture with its channels last, as cameras do."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Box(0, 255, (36, 36, 3), np.uint8)

    def observation(self) -> Any:
        return np.arange(36 * 36 * 3, dtype=np.uint8).reshape(36, 36, 3) + np.uint8(self.now % 7)


def test_predict_takes_the_pictures_of_the_environment() -> None:
    model = agent(env=Pictures()).learn(10)
    first, _ = Pictures().reset(seed=0)
    transposed = np.moveaxis(first, -1, 0)
    for batch in (first, first[None]):
        action, state = model.predict(batch, deterministic=True)
        expected, kept = model.predict(transposed.reshape(*batch.shape[:-3], 3, 36, 36), deterministic=True)
        np.testing.assert_equal((action, state), (expected, kept))
    mean, _ = evaluate_policy(model, Monitor(Pictures()), n_eval_episodes=2)
    assert np.isfinite(mean)
    with pytest.raises(ValueError, match="must have shape"):
        model.predict(np.zeros((35, 36, 3), np.uint8))

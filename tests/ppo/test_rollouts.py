"""What a rollout holds: returns by hand for every way in which an episode ends, and what callbacks and users may do."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize
from torch import Tensor

from sab_agents import RecurrentPPO, SABState, VectorToVecEnv
from sab_agents.ppo.cores import state_from
from tests.ppo.cases import SMALL, Noise, agent, collect, memory_of

GAMMA, LAMBDA = 0.9, 0.7


class Recording(gym.Wrapper[Any, Any, Any, Any]):
    """Keeps every episode: its observations, its rewards and how it ended."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.episodes: list[dict[str, Any]] = []

    def reset(self, **arguments: Any) -> Any:
        observation, info = self.env.reset(**arguments)
        self.episodes.append({"observations": [observation], "rewards": [], "terminated": False, "truncated": False})
        return observation, info

    def step(self, action: Any) -> Any:
        found = self.env.step(action)
        episode = self.episodes[-1]
        episode["observations"].append(found[0])
        episode["rewards"].append(found[1])
        episode["terminated"], episode["truncated"] = found[2], found[3]
        return found


def _itself(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    return env


def values_of(model: RecurrentPPO, observations: list[Any]) -> list[float]:
    """The critic's values of an episode's observations, the last one included, in one sequence."""
    core = model.policy.critic_core
    assert core is not None
    x = torch.as_tensor(np.stack(observations)).unsqueeze(1)
    with torch.no_grad():
        found: Tensor = model.policy.values_of(core(x)[0].flatten(0, 1))
    return found.tolist()


def returns_by_hand(model: RecurrentPPO, episodes: list[dict[str, Any]], steps: int) -> list[float]:
    """λ-returns of the first `steps` steps, from whole episodes and the definition Σ (γλ)^k δ_k + V."""
    found: list[float] = []
    for episode in episodes:
        values, rewards = values_of(model, episode["observations"]), episode["rewards"]
        if episode["terminated"]:
            values[-1] = 0.0
        known = min(len(rewards), steps - len(found))  # what comes after the rollout is known as a value only
        deltas = [rewards[t] + GAMMA * values[t + 1] - values[t] for t in range(known)]
        for t in range(known):
            advantage = sum((GAMMA * LAMBDA) ** (k - t) * deltas[k] for k in range(t, known))
            found.append(advantage + values[t])
        if len(found) == steps:
            break
    return found


@pytest.mark.parametrize("kind", ["Sab", "Lstm"])
@pytest.mark.parametrize("n_steps", [20, 23])
def test_returns_equal_those_by_hand_where_episodes_terminate_or_are_cut_off(kind: str, n_steps: int) -> None:
    envs = [Recording(Noise(length=length, cut=cut)) for length, cut in ((5, 2), (7, 1), (40, 1), (4, 100))]
    model = RecurrentPPO(
        f"Mlp{kind}Policy",
        DummyVecEnv([partial(_itself, env) for env in envs]),
        n_steps=n_steps,
        gamma=GAMMA,
        gae_lambda=LAMBDA,
        policy_kwargs={**SMALL, **({"core_kwargs": {"write": "every", "eviction": "oldest"}} if kind == "Sab" else {})},
        seed=0,
        device="cpu",
    )
    collect(model)
    for row, env in enumerate(envs):
        expected = returns_by_hand(model, env.episodes, n_steps)
        np.testing.assert_allclose(model.rollout_buffer.returns[:, row], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED])
def test_every_autoreset_mode_gives_the_same_rollout(mode: AutoresetMode) -> None:
    def makers() -> list[Any]:
        return [lambda length=length: Noise(length=length) for length in (3, 5, 6)]

    arguments: dict[str, Any] = {"n_steps": 16, "policy_kwargs": SMALL, "seed": 3, "device": "cpu"}
    buffers = []
    for env in (DummyVecEnv(makers()), SyncVectorEnv(makers(), autoreset_mode=mode)):
        model = RecurrentPPO("MlpSabPolicy", env, **arguments)
        collect(model, rollouts=2)
        buffers.append(model.rollout_buffer)
    for name in ("observations", "rewards", "episode_starts", "values", "returns"):
        np.testing.assert_array_equal(getattr(buffers[0], name), getattr(buffers[1], name))


def test_a_vector_environment_reports_its_episodes() -> None:
    env = gym.make_vec("SAB/PassiveTMaze-v0", num_envs=4, corridor_length=5)
    model = RecurrentPPO("MlpSabPolicy", env, n_steps=16, policy_kwargs=SMALL, seed=0).learn(64)
    assert model.ep_info_buffer
    assert {info["l"] for info in model.ep_info_buffer} == {6}


def test_acting_alone_gives_what_the_collector_gave() -> None:
    """`predict` from the start of an episode acts on the same numbers as the rollout did."""
    model = agent(lengths=[30], policy_kwargs={"core_kwargs": {"novelty": 0.05}})
    collect(model, rollouts=3)
    observations, starts = [], []
    for _ in range(3):
        collect(model)
        observations.append(model.rollout_buffer.observations.copy())
        starts.append(model.rollout_buffer.episode_starts.copy())
    first = int(np.flatnonzero(np.concatenate(starts)[:, 0])[-1])
    state, whole = None, np.concatenate(observations)[first:]
    for observation in whole:
        _, state = model.predict(observation, state=state, episode_start=np.array([False]))
    assert state is not None
    like = model.policy.actor_stream.initial_state(1)
    found, collected = state_from(state, like, model.device), memory_of(model)
    assert isinstance(found, SABState)
    torch.testing.assert_close(found.h, collected.h, rtol=1e-4, atol=1e-6)
    assert torch.equal(found.filled.sum(), collected.filled.sum())


class Stop(BaseCallback):
    """Ends the training at a step in the middle of a rollout."""

    def _on_step(self) -> bool:
        return self.n_calls < 5


def test_training_goes_on_after_a_callback_broke_off_a_rollout() -> None:
    model = agent()
    model.learn(1000, callback=Stop())
    assert model.num_timesteps == 5 * 3
    model.learn(24, reset_num_timesteps=False)
    collect(model)
    assert len(model.collector.rollout().stored) == 8


def test_a_second_learn_starts_new_episodes_and_forgets_the_old_ones() -> None:
    model = agent(lengths=[1000], policy_kwargs={"core_kwargs": {"write": "every"}})
    model.learn(64)
    assert int(memory_of(model).step) == 64
    model.learn(8)
    assert int(memory_of(model).step) == 8


def test_memory_goes_on_into_the_next_rollout() -> None:
    model = agent(lengths=[1000], policy_kwargs={"core_kwargs": {"write": "every"}})
    model.learn(64)
    assert int(memory_of(model).filled.sum()) == 64


def test_a_vec_env_that_is_not_ours_is_taken_as_it_is() -> None:
    env = VecMonitor(VectorToVecEnv(gym.make_vec("SAB/PassiveTMaze-v0", num_envs=2, corridor_length=3)))
    assert RecurrentPPO("MlpLstmPolicy", env, policy_kwargs=SMALL, n_steps=8).env is env


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_steps": 0}, "n_steps must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"clip_range_vf": -1.0}, "clip_range_vf must be a number above 0"),
        ({"clip_range": 0}, "clip_range must be a number above 0"),
        ({"clip_range": None}, "clip_range must be a number above 0"),
        ({"target_kl": -1}, "target_kl must be a number above 0"),
        ({"max_grad_norm": -1}, "max_grad_norm must be a number above 0"),
        ({"max_grad_norm": None}, "max_grad_norm must be a number above 0, but is None. Pass math.inf for no limit."),
        ({"gamma": 5.0}, "gamma must be a number from 0 to 1"),
        ({"gamma": "x"}, "gamma must be a number from 0 to 1, but is 'x'"),
        ({"gae_lambda": -0.1}, "gae_lambda must be a number from 0 to 1"),
        ({"ent_coef": -1}, "ent_coef must be a number of at least 0"),
        ({"vf_coef": None}, "vf_coef must be a number of at least 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number of at least 0"),
        ({"policy_kwargs": {"shared_lstm": True}}, "shared_lstm and enable_critic_lstm"),
        ({"policy_kwargs": {"n_lstm_layers": 2}}, "n_lstm_layers must be 1"),
        ({"policy_kwargs": {"core_kwargs": {"eviction": "least_credited"}}}, "least_credited"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        agent(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"normalize_advantage": "no"}, "normalize_advantage must be True or False, but is 'no'"),
        ({"policy_kwargs": {"activation_fn": "ReLU"}}, "activation_fn must be a class, but is 'ReLU'"),
        ({"sde_sample_freq": "x"}, "sde_sample_freq must be an int"),
    ],
)
def test_settings_of_another_type_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        agent(**settings)


def test_settings_of_the_policy_are_a_dict() -> None:
    with pytest.raises(TypeError, match="policy_kwargs must be a dict, but is 3"):
        RecurrentPPO("MlpSabPolicy", "CartPole-v1", policy_kwargs=3)  # type: ignore[arg-type]


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="policy must be one of MlpSabPolicy"):
        RecurrentPPO("MlpPolicy", "CartPole-v1")


class FailsOnce(gym.Wrapper[Any, Any, Any, Any]):
    """Raises at one call of `step`, before the environment has moved."""

    def __init__(self, env: gym.Env[Any, Any], at: int) -> None:
        super().__init__(env)
        self.at, self.called = at, 0

    def step(self, action: Any) -> Any:
        self.called += 1
        if self.called == self.at:
            raise OSError("lost")
        return self.env.step(action)


@pytest.mark.parametrize("kind", ["Sab", "Lstm", "Rtu", "AttentionLstm"])
def test_a_step_that_the_environment_did_not_take_is_not_remembered(kind: str) -> None:
    settings: dict[str, Any] = {"n_steps": 8, "batch_size": 8, "n_epochs": 1, "seed": 0}
    kwargs = {"lstm_hidden_size": 4}
    env = FailsOnce(gym.make("CartPole-v1"), 14)
    model = RecurrentPPO(f"Mlp{kind}Policy", env, policy_kwargs=kwargs, **settings)
    with pytest.raises(OSError, match="lost"):
        model.learn(32)
    assert model.num_timesteps == 13
    assert isinstance(model._last_obs, np.ndarray)
    before, observed = model.collector.state_dict(contexts=False), model._last_obs.copy()
    env.at = env.called + 1
    with pytest.raises(OSError, match="lost"):
        model.learn(8, reset_num_timesteps=False)
    after = model.collector.state_dict(contexts=False)
    for name in before:
        if "state." in name:
            assert torch.equal(before[name], after[name]), name
    np.testing.assert_array_equal(model._last_obs, observed)
    assert model.learn(16, reset_num_timesteps=False).num_timesteps >= 29


class Blind(FailsOnce):
    """Returns NaN at one call of `step`."""

    def step(self, action: Any) -> Any:
        self.called += 1
        observation, *rest = self.env.step(action)
        return (np.full_like(observation, np.nan) if self.called == self.at else observation, *rest)


@pytest.mark.parametrize("kind", ["Sab", "Lstm", "Rtu", "AttentionLstm", "Transformer"])
def test_an_observation_of_nan_is_refused_and_a_new_start_learns_on(kind: str) -> None:
    settings: dict[str, Any] = {"n_steps": 8, "batch_size": 8, "n_epochs": 1, "seed": 0}
    kwargs = {"lstm_hidden_size": 4}
    model = RecurrentPPO(f"Mlp{kind}Policy", Blind(gym.make("CartPole-v1"), 13), policy_kwargs=kwargs, **settings)
    with pytest.raises(ValueError, match="must be finite"):
        model.learn(32)
    model.learn(32)
    assert all(parameter.isfinite().all() for parameter in model.policy.parameters())
    assert all(value.isfinite().all() for value in model.collector.state_dict().values() if value.is_floating_point())


@pytest.mark.parametrize("kind", ["Sab", "Lstm"])
def test_what_learning_reads_is_what_the_stream_recorded(kind: str) -> None:
    """Once, but where a stream records features of images that are encoded once more."""
    model = agent(kind)
    collect(model)
    rollout = model.collector.rollout()
    assert rollout.stored is rollout.actor.observation
    assert not model.collector._stored
    images = agent(kind, "image")
    collect(images)
    rollout = images.collector.rollout()
    assert rollout.stored.shape[2] == 1
    assert (rollout.stored is rollout.actor.observation) == (kind == "Sab")


class Priceless(FailsOnce):
    """Rewards with what is not finite at one call of `step`."""

    def __init__(self, env: gym.Env[Any, Any], at: int, reward: float) -> None:
        super().__init__(env, at)
        self.reward = reward

    def step(self, action: Any) -> Any:
        self.called += 1
        observation, reward, *rest = self.env.step(action)
        return (observation, self.reward if self.called == self.at else reward, *rest)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # by VecNormalize
@pytest.mark.parametrize("reward", [np.nan, -np.inf])
@pytest.mark.parametrize("normalised", [False, True])
def test_a_reward_that_is_not_finite_is_refused_before_anything_is_learnt_from_it(
    reward: float, normalised: bool
) -> None:
    env: Any = DummyVecEnv([lambda: gym.make("CartPole-v1"), lambda: Priceless(gym.make("CartPole-v1"), 11, reward)])
    env = VecNormalize(env) if normalised else env
    model = RecurrentPPO("MlpSabPolicy", env, policy_kwargs={"lstm_hidden_size": 4}, n_steps=8, batch_size=8, seed=0)
    shown = "nan in environment 0, nan in environment 1" if normalised else f"{reward} in environment 1"
    with pytest.raises(ValueError, match=rf"rewards must be finite, but there is {shown}\."):
        model.learn(64)
    assert (model.num_timesteps, model.skipped_updates) == (20, 0)


def test_learning_without_an_environment_names_the_remedy(tmp_path: Path) -> None:
    agent().save(tmp_path / "agent")
    with pytest.raises(ValueError, match=r"needs an environment, but has none\. Use set_env, or load"):
        RecurrentPPO.load(tmp_path / "agent").learn(8)

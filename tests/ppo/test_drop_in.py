"""RecurrentPPO takes sb3-contrib's place: in scripts, callbacks, wrappers and evaluation of stable-baselines3."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize, VecTransposeImage, is_vecenv_wrapped
from torch import Tensor, nn

from sab_agents import RecurrentPPO, StreamAC
from sab_agents.ppo.kinds import POLICIES
from tests.ppo.cases import ACTIONS, KINDS, OBSERVATIONS, PREFIX, SMALL, Noise, agent


def test_a_script_for_the_other_class_runs_as_it_is(tmp_path: Path) -> None:
    """The course of the example in sb3-contrib's documentation: learn, evaluate, save, load, act with a state."""
    model = RecurrentPPO("MlpLstmPolicy", "CartPole-v1", verbose=1, n_steps=64, batch_size=64, n_epochs=2)
    model.learn(64)
    env = model.get_env()
    assert env is not None
    mean, _ = evaluate_policy(model, env, n_eval_episodes=3, warn=False)
    assert isinstance(mean, float)
    assert mean >= 8
    model.save(str(tmp_path / "ppo_recurrent"))
    expected = model.predict(np.full((1, 4), 0.1, np.float32), deterministic=True)[0]
    del model

    model = RecurrentPPO.load(str(tmp_path / "ppo_recurrent"))
    assert model.predict(np.full((1, 4), 0.1, np.float32), deterministic=True)[0] == expected
    observation: Any = env.reset()
    states, starts = None, np.ones((1,), dtype=bool)
    for _ in range(40):
        action, states = model.predict(observation, state=states, episode_start=starts, deterministic=True)
        observation, _, starts, _ = env.step(action)
    assert states is not None
    assert [array.shape for array in states] == [(1, 1, 256)] * 2


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_gymnasium_vector_environments_are_taken(mode: AutoresetMode, tmp_path: Path) -> None:
    def make() -> Any:
        return gym.make_vec("SAB/PassiveTMaze-v0", num_envs=3, corridor_length=4, autoreset_mode=mode)

    model = RecurrentPPO("MlpSabPolicy", make(), n_steps=16, batch_size=16, policy_kwargs=SMALL, seed=0).learn(96)
    assert model.ep_info_buffer
    assert {info["l"] for info in model.ep_info_buffer} <= {1, 2, 3, 4, 5}
    model.save(tmp_path / "model")
    loaded = RecurrentPPO.load(tmp_path / "model", make()).learn(48, reset_num_timesteps=False)
    assert loaded.num_timesteps == 144
    loaded.set_env(make())
    loaded.learn(48, reset_num_timesteps=False)


def test_vec_normalize_and_callbacks_of_stable_baselines3_work(tmp_path: Path) -> None:
    env, other = (VecNormalize(make_vec_env("CartPole-v1", n_envs=2, seed=0)) for _ in range(2))
    other.training = other.norm_reward = False
    folders = {"best_model_save_path": str(tmp_path / "best"), "log_path": str(tmp_path / "log")}
    evaluation = EvalCallback(other, n_eval_episodes=2, eval_freq=16, verbose=0, **folders)  # type: ignore[arg-type]
    checkpoints = CheckpointCallback(20, str(tmp_path), save_vecnormalize=True)
    model = RecurrentPPO("MlpSabPolicy", env, n_steps=16, batch_size=16, policy_kwargs=SMALL, seed=0)
    model.learn(96, callback=[evaluation, checkpoints])
    assert evaluation.evaluations_timesteps == [32, 64, 96]
    assert evaluation.best_mean_reward > 0
    assert {path.name for path in tmp_path.glob("*.zip")} == {"rl_model_40_steps.zip", "rl_model_80_steps.zip"}
    best = RecurrentPPO.load(tmp_path / "best" / "best_model.zip", other)
    mean, _ = evaluate_policy(best, other, n_eval_episodes=2, warn=False)
    assert isinstance(mean, float)
    assert mean > 0
    statistics = VecNormalize.load(str(tmp_path / "rl_model_vecnormalize_80_steps.pkl"), make_vec_env("CartPole-v1", 2))
    loaded = RecurrentPPO.load(tmp_path / "rl_model_80_steps", statistics)
    assert loaded.get_vec_normalize_env() is statistics
    assert loaded.learn(32, reset_num_timesteps=False).num_timesteps == 112


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("action", list(ACTIONS))
def test_every_kind_of_action_is_learnt_and_predicted(kind: str, action: str) -> None:
    model = agent(kind, action=action, n_epochs=1).learn(24)
    env = model.get_env()
    assert env is not None
    observations: Any = env.reset()
    actions, states = model.predict(observations, episode_start=np.ones(3, bool))
    assert all(ACTIONS[action].contains(each) for each in actions)
    single, _ = model.predict(observations[0])
    assert ACTIONS[action].contains(single if np.ndim(single) else single[()])
    again, _ = model.predict(observations, state=states, episode_start=np.zeros(3, bool))
    assert again.shape == actions.shape == (3, *(ACTIONS[action].shape or ()))
    evaluate_policy(model, env, n_eval_episodes=3, warn=False)


@pytest.mark.parametrize("observation", [name for name in OBSERVATIONS if name != "image"])
def test_every_kind_of_observation_is_learnt_from(observation: str) -> None:
    model = agent("Sab", observation, n_epochs=1)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(24)
    env = model.get_env()
    assert env is not None
    evaluate_policy(model, env, n_eval_episodes=3, warn=False)
    after = model.policy.state_dict()
    assert all(torch.isfinite(value).all() for value in after.values())
    assert any(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("kind", ["Sab", "Lstm"])
def test_images_are_transposed_and_can_be_left_as_they_are(kind: str) -> None:
    model = agent(kind, "image", n_epochs=1).learn(24)
    env = model.get_env()
    assert is_vecenv_wrapped(env, VecTransposeImage)  # type: ignore[arg-type]
    image = OBSERVATIONS["image"].sample()
    action, _ = model.predict(image, deterministic=True)
    assert action == model.predict(image.transpose(2, 0, 1), deterministic=True)[0]


@pytest.mark.parametrize("settings", [{"shared_lstm": True}, {}, {"share_features_extractor": False}])
@pytest.mark.parametrize("observation", ["image", "box"])
def test_a_critic_without_a_core_of_its_own_learns(settings: dict[str, Any], observation: str) -> None:
    model = agent("Lstm", observation, n_epochs=2, policy_kwargs={"enable_critic_lstm": False, **settings})
    value = {name: part.clone() for name, part in model.policy.value_net.named_parameters()}
    encoder = [parameter.clone() for parameter in model.policy.vf_features_extractor.parameters()]
    model.learn(24)
    assert all(not torch.equal(value[name], part) for name, part in model.policy.value_net.named_parameters())
    for before, after in zip(encoder, model.policy.vf_features_extractor.parameters(), strict=True):
        assert not torch.equal(before, after)


@pytest.mark.parametrize("kind", KINDS)
def test_state_dependent_exploration_runs(kind: str, tmp_path: Path) -> None:
    model = agent(kind, action="box", use_sde=True, sde_sample_freq=4).learn(48)
    model.save(tmp_path / "model")
    observation = np.zeros((3, 3), np.float32)
    loaded = RecurrentPPO.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(observation)[0], model.predict(observation)[0])


@pytest.mark.parametrize(
    ("policy", "settings", "message"),
    [
        ("MlpLstmPolicy", {"shared_lstm": True}, "shared_lstm and enable_critic_lstm are both True"),
        (
            "MlpLstmPolicy",
            {"shared_lstm": True, "enable_critic_lstm": False, "share_features_extractor": False},
            "a shared core needs shared features",
        ),
        ("MlpSabPolicy", {"n_lstm_layers": 2}, "n_lstm_layers must be 1, since its core has no layers, but is 2"),
        ("MlpAttentionLstmPolicy", {"n_lstm_layers": 2}, "n_lstm_layers must be 1"),
        ("MlpLstmPolicy", {"lstm_hidden_size": 0}, "lstm_hidden_size must be"),
        ("MlpLstmPolicy", {"n_lstm_layers": 0}, "n_lstm_layers must be"),
        ("MlpSabPolicy", {"core_kwargs": {"eviction": "least_credited"}}, 'Use "least_used"'),
        ("MlpSabPolicy", {"core_kwargs": {"bptt_steps": 0}}, "bptt_steps must be at least 1, but is 0"),
        ("MlpSabPolicy", {"core_kwargs": {"rerun_steps": 0}}, "rerun_steps must be at least 1, but is 0"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(policy: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RecurrentPPO(policy, DummyVecEnv([Noise]), policy_kwargs=settings)


@pytest.mark.parametrize("settings", [{"lstm_kwargs": {"forget": 1}}, {"core_kwargs": {"forget": 1}}, {"forget": 1}])
@pytest.mark.parametrize("policy", ["MlpSabPolicy", "MlpLstmPolicy"])
def test_settings_that_a_policy_does_not_know_are_refused(policy: str, settings: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="forget"):
        RecurrentPPO(policy, DummyVecEnv([Noise]), policy_kwargs=settings)


def test_a_misspelt_setting_of_a_policy_names_the_nearest() -> None:
    with pytest.raises(TypeError, match=r"unknown setting 'net_arc' in policy_kwargs\. Did you mean 'net_arch'\?"):
        RecurrentPPO("MlpSabPolicy", DummyVecEnv([Noise]), policy_kwargs={"net_arc": [8]})


@pytest.mark.parametrize("agent", [RecurrentPPO, StreamAC])
@pytest.mark.parametrize(("interval", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError)])
def test_a_log_interval_that_counts_nothing_is_refused(
    agent: Callable[..., Any], interval: float, error: type[Exception]
) -> None:
    model = agent("MlpSabPolicy", "CartPole-v1")
    with pytest.raises(error, match="learn: log_interval must be"):
        model.learn(8, log_interval=interval)
    assert model.num_timesteps == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_without_episode_start_is_warned_of_once(kind: str) -> None:
    model, observation = agent(kind), np.zeros((3, 3), np.float32)
    _, state = model.predict(observation)
    with pytest.warns(UserWarning, match="got a state but no episode_start") as found:
        _, state = model.predict(observation, state=state)
    assert found[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(observation, state=state)


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_that_does_not_fit_is_refused(kind: str) -> None:
    model, starts = agent(kind), np.zeros(3, bool)
    _, state = model.predict(np.zeros((3, 3), np.float32))
    assert state is not None
    with pytest.raises(ValueError, match="a row for each of the 2 observations, but has 3"):
        model.predict(np.zeros((2, 3), np.float32), state=state, episode_start=starts[:2])
    with pytest.raises(ValueError, match="arrays"):
        model.predict(np.zeros((3, 3), np.float32), state=state[:-1], episode_start=starts)
    other = agent(kind, policy_kwargs={"lstm_hidden_size": 4})
    with pytest.raises(ValueError, match=r"entries in the last of them|must have shape"):
        other.predict(np.zeros((3, 3), np.float32), state=state, episode_start=starts)


def test_every_policy_goes_by_the_name_of_its_class_and_has_sb3_contribs_three() -> None:
    assert {"MlpLstmPolicy", "CnnLstmPolicy", "MultiInputLstmPolicy"} < POLICIES.keys()
    assert len(POLICIES) == len(KINDS) * len({"Mlp", *PREFIX.values()})


class RunningNorm(FlattenExtractor):
    """An extractor that has statistics and no parameters."""

    def __init__(self, space: Any) -> None:
        super().__init__(space)
        self.norm = nn.BatchNorm1d(space.shape[0], affine=False)

    def forward(self, observations: Tensor) -> Tensor:
        normalised: Tensor = self.norm(super().forward(observations))
        return normalised


class Dropping(FlattenExtractor):
    """An extractor that has nothing but dropout."""

    def forward(self, observations: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(observations), 0.5, self.training)


@pytest.mark.parametrize("kind", ["Sab", "Lstm"])
def test_an_extractor_without_parameters_is_in_training_mode_while_an_agent_learns(kind: str) -> None:
    model = agent(kind, policy_kwargs={"features_extractor_class": RunningNorm}).learn(48)
    norm = model.policy.features_extractor.norm
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.num_batches_tracked is not None
    assert norm.running_mean is not None
    assert int(norm.num_batches_tracked) > 0
    assert float(norm.running_mean.abs().max()) > 0
    modes = set()
    model = agent(kind, policy_kwargs={"features_extractor_class": Dropping})
    model.policy.features_extractor.register_forward_hook(lambda module, *_: modes.add(module.training))
    model.learn(24)
    assert modes == {False, True}


@pytest.mark.parametrize("kind", KINDS)
def test_callbacks_find_sb3_contribs_locals(kind: str) -> None:
    seen: list[dict[str, Any]] = []

    def note(found: dict[str, Any], _: dict[str, Any]) -> bool:
        seen.append(dict(found))
        return True

    agent(kind, action="box").learn(24, callback=note)
    names = ("obs_tensor", "actions", "clipped_actions", "new_obs", "rewards", "dones", "infos", "values", "log_probs")
    for found in seen:
        assert {*names, "episode_starts", "lstm_states"} <= found.keys()
        np.testing.assert_array_equal(found["clipped_actions"], np.clip(found["actions"], -1, 2))
        assert all(part.shape[1] == 3 for states in found["lstm_states"] for part in states)
    assert torch.equal(seen[1]["obs_tensor"], torch.as_tensor(seen[0]["new_obs"]))
    assert seen[0]["episode_starts"].tolist() == [True] * 3
    assert seen[1]["episode_starts"].tolist() == seen[0]["dones"].tolist()


def test_one_copy_of_the_environment_is_remarked_on_where_the_log_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kwargs = {"lstm_hidden_size": 8}
    for verbose, copies, remarked in ((1, 1, True), (0, 1, False), (1, 2, False)):
        env = make_vec_env("CartPole-v1", n_envs=copies)
        model = RecurrentPPO("MlpSabPolicy", env, verbose=verbose, policy_kwargs=kwargs)
        assert ("8 or 16: gym.make_vec" in capsys.readouterr().out) == remarked
    model.save(tmp_path / "agent.zip")
    RecurrentPPO.load(tmp_path / "agent.zip")
    assert "8 or 16" not in capsys.readouterr().out

"""RecurrentPPO resumes bit-exactly from files that hold no code."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.utils import LinearSchedule
from torch import nn

from sab_agents import RecurrentPPO
from sab_agents.ppo.kinds import POLICIES, MlpLstmPolicy
from tests.ppo.cases import KINDS, agent, memory_of
from tests.readings import BEYOND

ROOT = Path(__file__).parents[2]


def plain(value: Any) -> Any:
    """Tensors and arrays as lists, to be compared."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value.tolist() if isinstance(value, torch.Tensor | np.ndarray) else value


def everything(model: RecurrentPPO) -> dict[str, Any]:
    """All that learning changes."""
    found: dict[str, Any] = plain(
        {
            "parameters": dict(model.policy.state_dict()),
            "optimizer": model.policy.optimizer.state_dict(),
            "memory": model.collector.state_dict(),
            "place": [model._last_obs, model._last_episode_starts],
            "counts": [model.num_timesteps, model._n_updates, model._episode_num],
            "returns": [info["r"] for info in model.ep_info_buffer or ()],
            "random": [random.getstate(), np.random.get_state(legacy=True), torch.get_rng_state()],
        }
    )
    return found


def copy_of_env(model: RecurrentPPO) -> Any:
    return copy.deepcopy(model.get_env())


def assert_goes_on_to_the_bit(make: Callable[[], RecurrentPPO], path: Path, **again: Any) -> None:
    uninterrupted = make().learn(72)
    before = everything(uninterrupted)
    expected = everything(uninterrupted.learn(72, reset_num_timesteps=False))
    model = make().learn(72)
    model.skipped_updates = 3
    model.save(path)
    for draw in (random.random, np.random.rand, lambda: torch.rand(1)):
        draw()
    loaded = RecurrentPPO.load(path, model.get_env(), device="cpu", force_reset=False, **again)
    assert loaded.skipped_updates == 3
    assert everything(loaded) == before
    assert everything(loaded.learn(72, reset_num_timesteps=False)) == expected
    assert before["parameters"] != expected["parameters"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_agent_goes_on_to_the_bit(kind: str, tmp_path: Path) -> None:
    assert_goes_on_to_the_bit(lambda: agent(kind), tmp_path / "agent")


@pytest.mark.parametrize(("observation", "action"), [("dict", "multi_binary"), ("image", "box"), ("discrete", "box")])
def test_it_does_so_with_every_kind_of_space(observation: str, action: str, tmp_path: Path) -> None:
    assert_goes_on_to_the_bit(lambda: agent("Sab", observation, action), tmp_path / "agent")


def test_it_does_so_with_reads_beyond_the_paper(tmp_path: Path) -> None:
    core = {"capacity": 4, "write": "refresh", "novelty": 0.3, **BEYOND}
    make = partial(agent, policy_kwargs={"core_kwargs": core})
    assert_goes_on_to_the_bit(make, tmp_path / "agent")
    model = make().learn(72)
    model.save(tmp_path / "acts")
    loaded, observation = RecurrentPPO.load(tmp_path / "acts", device="cpu"), np.ones((3, 3), np.float32)
    for _ in range(3):
        observation = -0.7 * observation
        expected, carried = model.predict(observation, deterministic=True)
        found, state = loaded.predict(observation, deterministic=True)
        assert np.array_equal(found, expected)
        assert plain(state) == plain(carried)


def test_it_does_so_where_the_previous_action_and_reward_are_observed(tmp_path: Path) -> None:
    assert_goes_on_to_the_bit(lambda: agent("Sab", observe_previous=True), tmp_path / "agent")


@pytest.mark.parametrize("kind", ["Sab", "Lstm"])
def test_it_does_so_with_a_critic_of_its_own_schedules_and_drawn_numbers(kind: str, tmp_path: Path) -> None:
    core: dict[str, Any] = {"dropout": 0.5} if kind == "Lstm" else {"eviction": "reservoir", "capacity": 2}
    make = partial(
        agent,
        kind,
        action="box",
        use_sde=True,
        sde_sample_freq=3,
        batch_size=4,
        learning_rate=LinearSchedule(1e-3, 1e-4, 1.0),
        clip_range_vf=0.1,
        policy_kwargs={
            **{"share_features_extractor": False, "n_lstm_layers": 2 if kind == "Lstm" else 1, "core_kwargs": core},
            **{"activation_fn": nn.ReLU, "optimizer_class": torch.optim.RMSprop, "optimizer_kwargs": {"momentum": 0.5}},
        },
    )
    assert_goes_on_to_the_bit(make, tmp_path / "agent")


class Network(BaseFeaturesExtractor):
    """A class that no file can hold."""

    def __init__(self, space: spaces.Box, features_dim: int = 4) -> None:
        super().__init__(space, features_dim)
        self.layer = nn.Linear(space.shape[0], features_dim)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.layer(observations))


class OwnPolicy(MlpLstmPolicy):  # type: ignore[misc]
    """A policy that has no name here."""


def rate(progress: float) -> float:
    return 1e-3 * progress


def test_code_of_the_users_own_is_passed_again(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"features_extractor_class": Network, "features_extractor_kwargs": {"features_dim": 3}}
    make = partial(agent, "Sab", learning_rate=rate, policy_kwargs=settings)
    again = {"learning_rate": rate, "policy_kwargs": make().policy_kwargs}
    assert_goes_on_to_the_bit(make, tmp_path / "agent", **again)
    with pytest.raises(ValueError, match=r"learning_rate must be passed again, since it was .*test_saving\.rate"):
        RecurrentPPO.load(tmp_path / "agent", policy_kwargs=again["policy_kwargs"])
    with pytest.raises(
        ValueError, match=r"policy_kwargs\['features_extractor_class'\] .*Network.*load\(…, policy_kwarg"
    ):
        RecurrentPPO.load(tmp_path / "agent", learning_rate=rate)


def test_a_policy_of_the_users_own_is_passed_again(tmp_path: Path) -> None:
    model = agent("Lstm")
    own = RecurrentPPO(OwnPolicy, copy_of_env(model), policy_kwargs=model.policy_kwargs, n_steps=8, seed=0)
    own.save(tmp_path / "agent")
    assert isinstance(RecurrentPPO.load(tmp_path / "agent", policy=OwnPolicy).policy, OwnPolicy)
    with pytest.raises(ValueError, match=r"policy must be passed again, since it was .*OwnPolicy"):
        RecurrentPPO.load(tmp_path / "agent")


def rewritten(path: Path, changes: dict[str, Any]) -> Path:
    """A copy of a file with other arguments."""
    with zipfile.ZipFile(path) as file:
        settings, tensors = json.loads(file.read("settings.json")), file.read("tensors.safetensors")
    settings["arguments"] |= changes
    with zipfile.ZipFile(path.with_name("forged.zip"), "w") as file:
        file.writestr("settings.json", json.dumps(settings))
        file.writestr("tensors.safetensors", tensors)
    return path.with_name("forged.zip")


@pytest.mark.parametrize(
    "name",
    [
        *("os.system", "builtins.eval", "torch.nn.functional.relu", "torch.nn.init", "nothing", "torch.nn.Nothing"),
        *("stable_baselines3.common.torch_layers.nn.ReLU", "stable_baselines3.common.torch_layers.get_device"),
    ],
)
def test_a_file_cannot_name_code_outside_a_few_modules(name: str, tmp_path: Path) -> None:
    agent("Lstm").save(tmp_path / "agent")
    forged = {"is": "dict", "items": {"activation_fn": {"is": "class", "name": name}}}
    with pytest.raises(ValueError, match=r"policy_kwargs\['activation_fn'\] must be a class of torch\.nn"):
        RecurrentPPO.load(rewritten(tmp_path / "agent.zip", {"policy_kwargs": forged}))


def test_nothing_is_unpickled_and_the_file_holds_tensors_and_json_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("something was pickled or unpickled")

    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    for name in ("load", "save"):
        monkeypatch.setattr(torch, name, refuse)
    model = agent("Sab").learn(24)
    model.save(tmp_path / "agent")
    RecurrentPPO.load(tmp_path / "agent").set_parameters(tmp_path / "agent")
    model.policy.save(tmp_path / "policy")
    POLICIES["MlpSabPolicy"].load(tmp_path / "policy")
    for name in ("agent", "policy"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip") as file:
            assert file.namelist() == ["settings.json", "tensors.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agent.zip", "policy.zip"]


KILLED = """
import os, signal, sys
from sab_agents import RecurrentPPO
model = RecurrentPPO.load(sys.argv[1])
model.num_timesteps = 99
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
model.save(sys.argv[1])
"""


def test_an_agent_that_is_killed_while_it_saves_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "agent.zip"
    agent("Lstm").learn(24).save(path)
    old = path.read_bytes()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False, env=environment, cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == old
    assert RecurrentPPO.load(path).num_timesteps == 24


class SaveAt(BaseCallback):
    """Saves in the middle of a rollout, and keeps the environments as they stand."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def _on_step(self) -> bool:
        if self.n_calls == 12:
            self.model.save(self.path)
            self.env = copy.deepcopy(self.model.get_env())
        return True


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_a_callback_goes_on_where_the_environments_stand(kind: str, tmp_path: Path) -> None:
    callback = SaveAt(tmp_path / "agent")
    agent(kind, lengths=[1000, 4], policy_kwargs={"core_kwargs": {"write": "every"} if kind == "Sab" else {}}).learn(
        48, callback
    )
    loaded = RecurrentPPO.load(tmp_path / "agent", callback.env, force_reset=False)
    assert loaded.num_timesteps == 24
    assert loaded._last_episode_starts is not None
    assert loaded._last_episode_starts.tolist() == [False, True]
    assert isinstance(loaded._last_obs, np.ndarray)
    np.testing.assert_array_equal(loaded._last_obs, callback.env.buf_obs[None])  # type: ignore[union-attr]
    if kind == "Sab":
        assert memory_of(loaded).step.tolist() == [12, 4]
    loaded.learn(16, reset_num_timesteps=False)
    assert loaded.num_timesteps == 40
    if kind == "Sab":
        assert memory_of(loaded).step.tolist() == [20, 4]


def test_without_the_environments_place_new_episodes_begin(tmp_path: Path) -> None:
    agent("Sab", lengths=[1000]).learn(16).save(tmp_path / "agent")
    env = copy_of_env(agent("Sab", lengths=[1000]))
    loaded = RecurrentPPO.load(tmp_path / "agent", env)
    assert loaded._last_obs is None
    loaded.learn(8, reset_num_timesteps=False)
    assert loaded.num_timesteps == 24
    assert memory_of(loaded).step.tolist() == [8]


def test_another_number_of_environments_begins_anew(tmp_path: Path) -> None:
    agent("Sab", lengths=[9, 9]).learn(16).save(tmp_path / "agent")
    env = copy_of_env(agent("Sab", lengths=[9, 9, 9]))
    loaded = RecurrentPPO.load(tmp_path / "agent", env).learn(24, reset_num_timesteps=False)
    assert loaded.num_timesteps == 40
    with pytest.raises(ValueError, match=r"has 3 copies in place of 2\. Pass force_reset=True"):
        RecurrentPPO.load(tmp_path / "agent", env, force_reset=False)


def test_an_environment_with_other_spaces_is_refused(tmp_path: Path) -> None:
    agent("Lstm").save(tmp_path / "agent")
    with pytest.raises(ValueError, match="Action spaces do not match"):
        RecurrentPPO.load(tmp_path / "agent", copy_of_env(agent("Lstm", action="box")))


@pytest.mark.parametrize("observation", ["matrix", "image", "multi_discrete", "multi_binary", "dict"])
@pytest.mark.parametrize("action", ["box", "multi_discrete"])
def test_spaces_survive(observation: str, action: str, tmp_path: Path) -> None:
    model = agent("Lstm", observation, action)
    model.save(tmp_path / "agent")
    loaded = RecurrentPPO.load(tmp_path / "agent")
    assert loaded.observation_space == model.observation_space
    assert loaded.action_space == model.action_space
    assert loaded.observation_space.dtype == model.observation_space.dtype


def test_arguments_and_attributes_can_be_replaced_on_loading(tmp_path: Path) -> None:
    agent("Lstm", verbose=0).save(tmp_path / "agent")
    replaced = {"learning_rate": 1e-5, "clip_range": 0.3, "lr_schedule": rate, "unknown": 1}
    loaded = RecurrentPPO.load(tmp_path / "agent", custom_objects=replaced, n_epochs=7, stats_window_size=5)
    assert loaded.lr_schedule(1.0) == 1e-5
    assert loaded.clip_range(1.0) == 0.3
    assert (loaded.n_epochs, loaded._stats_window_size, loaded.n_steps) == (7, 5, 8)
    with pytest.raises(TypeError, match="n_epoch"):
        RecurrentPPO.load(tmp_path / "agent", n_epoch=7)


def test_other_policy_kwargs_are_refused(tmp_path: Path) -> None:
    model = agent("Lstm")
    model.save(tmp_path / "agent")
    RecurrentPPO.load(tmp_path / "agent", policy_kwargs=model.policy_kwargs)
    with pytest.raises(ValueError, match="policy_kwargs must be those that were saved"):
        RecurrentPPO.load(tmp_path / "agent", policy_kwargs={**model.policy_kwargs, "lstm_hidden_size": 4})


def test_another_policy_is_refused(tmp_path: Path) -> None:
    agent("Lstm").save(tmp_path / "agent")
    with pytest.raises(ValueError, match="must be the one that was saved, but has other parameters"):
        RecurrentPPO.load(tmp_path / "agent", policy="MlpSabPolicy")


def test_names_can_be_left_out(tmp_path: Path) -> None:
    model = agent("Lstm", n_epochs=3).learn(24)
    model.save(tmp_path / "agent", exclude=["n_epochs", "num_timesteps", "_last_obs", "no_such"])
    loaded = RecurrentPPO.load(tmp_path / "agent")
    assert (loaded.n_epochs, loaded.num_timesteps, loaded._last_obs) == (10, 0, None)
    model.save(tmp_path / "agent", exclude=["n_epochs", "policy_class"], include=["n_epochs"])
    assert RecurrentPPO.load(tmp_path / "agent", policy="MlpLstmPolicy").n_epochs == 3
    with pytest.raises(ValueError, match="policy must be passed, since the file was saved without it"):
        RecurrentPPO.load(tmp_path / "agent")
    with pytest.raises(ValueError, match=r"include must name .*, but has rollout_buffer"):
        model.save(tmp_path / "agent", include=["rollout_buffer"])
    with pytest.raises(TypeError, match=r"RecurrentPPO.save: exclude must be a list of names.* Use \['contexts'\]"):
        model.save(tmp_path / "agent", exclude="contexts")


def test_parameters_are_taken_over_from_a_file(tmp_path: Path) -> None:
    model = agent("Sab").learn(48)
    model.save(tmp_path / "agent")
    other = agent("Sab", seed=1)
    assert plain(other.get_parameters()) != plain(model.get_parameters())
    other.set_parameters(tmp_path / "agent")
    assert plain(other.get_parameters()) == plain(model.get_parameters())
    with pytest.raises(ValueError, match="nothing"):
        other.set_parameters({"nothing": {}})


def test_open_files_serve_as_paths() -> None:
    model = agent("Lstm").learn(24)
    file = io.BytesIO()
    model.save(file)
    assert everything(RecurrentPPO.load(file, force_reset=False))["parameters"] == everything(model)["parameters"]


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    PPO("MlpPolicy", copy_of_env(agent("Lstm"))).save(tmp_path / "other")
    with pytest.raises(ValueError, match="was saved by stable-baselines3 or sb3-contrib, and loading such a file runs"):
        RecurrentPPO.load(tmp_path / "other")
    agent("Lstm").policy.save(tmp_path / "policy")
    with pytest.raises(
        ValueError, match="must be sab-agents/recurrent-ppo in version 1, but is 'sab-agents/recurrent-"
    ):
        RecurrentPPO.load(tmp_path / "policy")
    with pytest.raises(FileNotFoundError, match="no such file"):
        RecurrentPPO.load(tmp_path / "missing")


def test_versions_are_printed_when_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agent("Lstm").save(tmp_path / "agent")
    RecurrentPPO.load(tmp_path / "agent", print_system_info=True)
    assert torch.__version__ in capsys.readouterr().out.split("Loaded with")[0]


@pytest.mark.parametrize(("kind", "observation", "action"), [("Sab", "box", "box"), ("Lstm", "dict", "discrete")])
def test_a_policy_survives_alone(kind: str, observation: str, action: str, tmp_path: Path) -> None:
    model = agent(kind, observation, action, policy_kwargs={"lstm_hidden_size": 6, "activation_fn": nn.ReLU}).learn(24)
    model.policy.save(tmp_path / "policy.pkl")
    loaded = type(model.policy).load(tmp_path / "policy.pkl", device="cpu")
    assert plain(dict(loaded.state_dict())) == plain(dict(model.policy.state_dict()))
    assert model.env is not None
    assert model._last_obs is not None
    expected = model.predict(model._last_obs, deterministic=True)
    assert plain(loaded.predict(model._last_obs, deterministic=True)) == plain(expected)
    with pytest.raises(ValueError, match="must hold a policy of this class"):
        POLICIES["CnnTransformerPolicy"].load(tmp_path / "policy.pkl")


def test_a_policy_with_code_of_the_users_own_is_told_it_again(tmp_path: Path) -> None:
    model = agent("Sab", policy_kwargs={"features_extractor_class": Network})
    model.policy.save(tmp_path / "policy")
    with pytest.raises(ValueError, match="features_extractor_class must be passed again"):
        type(model.policy).load(tmp_path / "policy")
    loaded = type(model.policy).load(tmp_path / "policy", features_extractor_class=Network)
    assert plain(dict(loaded.state_dict())) == plain(dict(model.policy.state_dict()))


def test_a_loaded_agent_goes_on_observing_its_previous_action(tmp_path: Path) -> None:
    agent(observe_previous=True).learn(24).save(tmp_path / "model")
    model = RecurrentPPO.load(tmp_path / "model", env=agent().env)
    assert model.observe_previous
    assert model.learn(24).observation_space.shape == (3 + 3 + 1,)

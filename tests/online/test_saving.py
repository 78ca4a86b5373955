"""Saved agents resume bit-exactly, from files that hold no code."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv

from sab_agents import OnlineLearner, StreamAC
from tests.online.conftest import Clock
from tests.readings import BEYOND

SMALL = {"hidden_size": 8, "width": 8}
ROOT = Path(__file__).parents[2]


def agent(policy: str, env: Any, **kwargs: Any) -> StreamAC:
    return StreamAC(policy, env, policy_kwargs={**SMALL, **kwargs}, seed=0)


def everything(model: StreamAC) -> list[Any]:
    """All that learning changes."""
    tensors = [part for each in model.optimisers for part in (each.vector, each.trace)]
    carried = [stream.state_dict() for stream in model.policy.streams().values()]
    cores = [tensors_of[name] for tensors_of in carried for name in sorted(tensors_of)]
    normaliser, scaler = model.policy.normaliser, model.reward_scaler
    numbers = [normaliser.mean.tolist(), normaliser.squares.tolist(), vars(scaler), model.num_timesteps]
    random = [model.generator.bit_generator.state, model.predict_generator.bit_generator.state]
    returns = [info["r"] for info in model.ep_info_buffer or ()]
    return [[tensor.tolist() for tensor in (*tensors, *cores)], numbers, random, returns]


@pytest.mark.parametrize("policy", ["MlpSabPolicy", "MlpLstmPolicy", "MlpRtuPolicy"])
@pytest.mark.parametrize("shared_core", [True, False], ids=["shared", "separate"])
@pytest.mark.parametrize("steps", [45, 49], ids=["mid-episode", "episode-end"])
def test_a_loaded_agent_goes_on_to_the_bit(policy: str, shared_core: bool, steps: int, tmp_path: Path) -> None:
    for continuous in (False, True):
        env = Clock(continuous=continuous)
        model = agent(policy, env, shared_core=shared_core).learn(steps)
        model.save(tmp_path / "agent")
        same = StreamAC.load(tmp_path / "agent", copy.deepcopy(model.get_env()), force_reset=False)
        assert everything(same) == everything(model)
        for each in (model, same):
            each.learn(40, reset_num_timesteps=False)
        assert everything(same) == everything(model)


def test_it_does_so_with_reads_beyond_the_paper(tmp_path: Path) -> None:
    model = agent("MlpSabPolicy", Clock(), write="refresh", novelty=0.3, **BEYOND).learn(45)
    model.save(tmp_path / "agent")
    same = StreamAC.load(tmp_path / "agent", copy.deepcopy(model.get_env()), force_reset=False)
    observation = Clock(step=3).observation()
    for _ in range(3):
        found, expected = (each.predict(observation, deterministic=True)[0] for each in (same, model))
        assert np.array_equal(found, expected)
    for each in (model, same):
        each.learn(40, reset_num_timesteps=False)
    assert everything(same) == everything(model)


def test_without_the_environments_place_a_new_episode_begins(tmp_path: Path) -> None:
    agent("MlpRtuPolicy", Clock()).learn(45).save(tmp_path / "agent")
    loaded = StreamAC.load(tmp_path / "agent", Clock(step=3))
    assert loaded.optimisers[0].trace.abs().sum() > 0
    loaded.learn(0, reset_num_timesteps=False)
    assert loaded.optimisers[0].trace.abs().sum() == 0
    assert loaded._last_episode_starts is not None
    assert loaded._last_episode_starts[0]
    np.testing.assert_array_equal(loaded._last_obs, Clock(step=3).observation()[None])
    loaded.learn(10, reset_num_timesteps=False)
    assert loaded.num_timesteps == 55


KILLED = """
import sys, time, torch
from stable_baselines3.common.callbacks import CheckpointCallback
from sab_agents import OnlineLearner, StreamAC
from tests.online.conftest import Clock
torch.set_num_threads(1)
model = StreamAC("MlpLstmPolicy", Clock(), policy_kwargs={"hidden_size": 8, "width": 8}, seed=0)
model.learn(10**9, CheckpointCallback(10, sys.argv[1]))
"""


def test_a_killed_agent_goes_on_to_the_bit(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], env=environment, cwd=ROOT)
    try:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("*.zip"))) < 5 and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    steps = max(int(path.stem.split("_")[2]) for path in tmp_path.glob("*.zip"))
    env = DummyVecEnv([lambda: Clock(step=steps)])
    env.reset()
    loaded = StreamAC.load(tmp_path / f"rl_model_{steps}_steps", env, force_reset=False)
    loaded.learn(25, reset_num_timesteps=False)
    *learned, _ = everything(loaded)  # without the returns: a Monitor does not know of steps before it
    *uninterrupted, _ = everything(agent("MlpLstmPolicy", Clock()).learn(steps + 25))
    assert learned == uninterrupted


def test_the_file_holds_tensors_and_json_alone(tmp_path: Path) -> None:
    agent("MlpRtuPolicy", Clock(continuous=True)).learn(10).save(tmp_path / "agent")
    with zipfile.ZipFile(tmp_path / "agent.zip") as file:
        assert file.namelist() == ["settings.json", "tensors.safetensors"]
        assert json.loads(file.read("settings.json"))["arguments"]["policy"] == "MlpRtuPolicy"
    assert [path.name for path in tmp_path.iterdir()] == ["agent.zip"]


def test_spaces_survive(tmp_path: Path) -> None:
    for continuous in (False, True):
        env = Clock(continuous=continuous)
        agent("MlpRtuPolicy", env).save(tmp_path / "agent")
        loaded = StreamAC.load(tmp_path / "agent")
        assert loaded.observation_space == env.observation_space
        assert loaded.action_space == env.action_space


def test_arguments_can_be_changed_on_loading(tmp_path: Path) -> None:
    agent("MlpRtuPolicy", Clock()).save(tmp_path / "agent")
    assert StreamAC.load(tmp_path / "agent", verbose=1).verbose == 1


def test_an_environment_with_other_spaces_is_refused(tmp_path: Path) -> None:
    agent("MlpRtuPolicy", Clock()).save(tmp_path / "agent")
    with pytest.raises(ValueError, match="Action spaces do not match"):
        StreamAC.load(tmp_path / "agent", Clock(continuous=True))


def test_files_that_are_not_ours_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        StreamAC.load(tmp_path / "missing")
    (tmp_path / "noise.zip").write_bytes(b"noise")
    with pytest.raises(ValueError, match="damaged, or not a file that sab-agents saved"):
        StreamAC.load(tmp_path / "noise")
    agent("MlpRtuPolicy", Clock()).save(tmp_path / "agent")
    whole = (tmp_path / "agent.zip").read_bytes()
    (tmp_path / "half.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="damaged"):
        StreamAC.load(tmp_path / "half")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("settings.json", '{"format": "sab-agents/stream-ac", "version": 99}')
        file.writestr("tensors.safetensors", zipfile.ZipFile(tmp_path / "agent.zip").read("tensors.safetensors"))
    with pytest.raises(ValueError, match=r"in version 1, but is .* in version 99"):
        StreamAC.load(tmp_path / "other")


def test_a_setting_that_is_no_json_is_refused(tmp_path: Path) -> None:
    model = agent("MlpRtuPolicy", Clock())
    model.policy_kwargs = {"width": torch.tensor(8)}
    with pytest.raises(TypeError, match="loading runs no code"):
        model.save(tmp_path / "agent")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("policy", ["MlpSabPolicy", "MlpLstmPolicy", "MlpRtuPolicy"])
def test_an_agent_without_contexts_acts_as_before_and_learns_on(policy: str, tmp_path: Path) -> None:
    agent = StreamAC(policy, "CartPole-v1", seed=0, policy_kwargs={"hidden_size": 8, "width": 8}).learn(35)
    agent.save(tmp_path / "whole")
    agent.save(tmp_path / "less", exclude=["contexts", "no_such"])
    agent.save(tmp_path / "kept", exclude=["contexts"], include=["contexts"])
    sizes = {name: (tmp_path / f"{name}.zip").stat().st_size for name in ("whole", "less", "kept")}
    assert sizes["kept"] == sizes["whole"]
    assert (sizes["less"] < 0.7 * sizes["whole"]) == (policy == "MlpSabPolicy")
    loaded = StreamAC.load(tmp_path / "less", env="CartPole-v1")
    streams = zip(agent.policy.streams().values(), loaded.policy.streams().values(), strict=True)
    for before, after in streams:
        for mine, theirs in zip(before.state.tensors(), after.state.tensors(), strict=True):
            assert torch.equal(mine, theirs)
    observation = np.full(4, 0.1, dtype=np.float32)
    assert agent.predict(observation, deterministic=True)[0] == loaded.predict(observation, deterministic=True)[0]
    start = [parameter.detach().clone() for parameter in loaded.policy.parameters()]
    loaded.learn(40)
    assert any(not torch.equal(one, other) for one, other in zip(start, loaded.policy.parameters(), strict=True))


def test_an_argument_that_is_left_out_of_a_file_has_its_default(tmp_path: Path) -> None:
    agent = StreamAC("MlpLstmPolicy", "CartPole-v1", gamma=0.5, ent_coef=0.3)
    agent.save(tmp_path / "agent", exclude=["gamma", "ent_coef"], include=["ent_coef"])
    loaded = StreamAC.load(tmp_path / "agent")
    assert (loaded.gamma, loaded.ent_coef) == (0.99, 0.3)
    with pytest.raises(ValueError, match="must not name the policy"):
        agent.save(tmp_path / "agent", exclude=["policy"])
    with pytest.raises(ValueError, match=r"include must name what a file holds, .* but has replay_buffer"):
        agent.save(tmp_path / "agent", include=["replay_buffer"])
    with pytest.raises(TypeError, match=r"Use \['contexts'\]"):
        agent.save(tmp_path / "agent", exclude="contexts")


def test_parameters_are_taken_from_a_file_with_the_statistics_that_they_need(tmp_path: Path) -> None:
    one, other = (StreamAC("MlpSabPolicy", "CartPole-v1", seed=seed, policy_kwargs=SMALL).learn(40) for seed in (0, 1))
    one.save(tmp_path / "agent")
    other.set_parameters(tmp_path / "agent")
    for mine, theirs in zip(one.policy.parameters(), other.policy.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    observation = np.full(4, 0.1, dtype=np.float32)
    np.testing.assert_equal(one.predict(observation)[1], other.predict(observation)[1])
    other.learn(20)
    other.set_parameters(one.get_parameters())
    np.testing.assert_equal(one.predict(observation)[1], other.predict(observation)[1])
    OnlineLearner(2, 2).save(tmp_path / "learner")
    with pytest.raises(ValueError, match="must be sab-agents/stream-ac"):
        one.set_parameters(tmp_path / "learner")


def test_a_policy_is_saved_with_its_agent(tmp_path: Path) -> None:
    policy = StreamAC("MlpSabPolicy", "CartPole-v1", policy_kwargs=SMALL).policy
    with pytest.raises(TypeError, match=r"a policy is saved with its agent, by StreamAC\.save"):
        policy.save(tmp_path / "policy")
    with pytest.raises(TypeError, match=r"use StreamAC\.load\(.*\)\.policy"):
        type(policy).load(tmp_path / "policy")

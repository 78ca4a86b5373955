"""RL Zoo's scripts by `python -m sab_agents.zoo`: train, go on, enjoy, and a search by two processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sab_agents import RecurrentPPO
from sab_agents.train.configuration import load
from sab_agents.train.suites.agents import AgentsConfig
from sab_agents.vec_env.make import horizon_of
from sab_agents.zoo import HYPERPARAMS, PPOSab, completed, main
from sab_agents.zoo.agent import POWERS, converted

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default")]

ROOT = Path(__file__).parents[2]
FILE: dict[str, dict[str, Any]] = yaml.safe_load(HYPERPARAMS.read_text(encoding="utf-8"))
NOVEL = ("CartPoleNoVel-v1", "PendulumNoVel-v1", "MountainCarContinuousNoVel-v0")
CONFIGS = {
    "SAB/PassiveTMaze-v0": "passive_tmaze",
    "SAB/DigitTMaze-v0": "digit_tmaze",
    "SAB/EndlessTMaze-v0": "endless_tmaze",
    "SAB/FirstStepCredit-v0": "first_step_credit",
    "SAB/KeyToDoor-v0": "key_to_door",
    "SAB/DelayedCatch-v0": "delayed_catch",
    "SAB/Umbrella-v0": "umbrella",
}
"""Where the hyperparameters of our environments were found."""
TINY = """
CartPole-v1:
  n_envs: 2
  n_timesteps: !!float 64
  policy: {policy}
  n_steps: 16
  batch_size: 16
  n_epochs: 2
  normalize: true
  policy_kwargs: "dict(lstm_hidden_size=16)"
"""


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("rl_zoo3", reason="RL Zoo is not installed: pip install 'sab-agents[zoo]'")
    monkeypatch.chdir(tmp_path)


def typed(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


@pytest.mark.parametrize("policy", ["MlpLstmPolicy", "MlpSabPolicy"])
def test_an_agent_is_trained_goes_on_and_plays(policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("tiny.yml").write_text(TINY.format(policy=policy))
    common = ["--algo", "ppo_sab", "--env", "CartPole-v1", "--seed", 1, "--device", "cpu"]
    training = [*common, "--conf-file", "tiny.yml", "--save-freq", 32, "--eval-freq", 32, "--eval-episodes", 1]
    typed("train", *training)
    saved = Path("logs/ppo_sab/CartPole-v1_1/CartPole-v1.zip")
    assert RecurrentPPO.load(saved).num_timesteps == 64
    typed("train", *training, "-n", 32, "--trained-agent", saved)
    assert PPOSab.load("logs/ppo_sab/CartPole-v1_2/CartPole-v1.zip").num_timesteps >= 32
    capsys.readouterr()
    typed("enjoy", *common, "--exp-id", 1, "--no-render", "-n", 60)
    assert "Episode Reward" in capsys.readouterr().out


def test_the_memory_is_set_by_flags() -> None:
    Path("tiny.yml").write_text(TINY.format(policy="MlpSabPolicy"))
    flags = ["hidden_size:8", "capacity:16", "top_k:2"]
    typed("train", "--env", "CartPole-v1", "--conf-file", "tiny.yml", "--eval-freq", -1, "-params", *flags)
    agent = RecurrentPPO.load("logs/ppo_sab/CartPole-v1_1/CartPole-v1.zip")
    assert agent.policy_kwargs["lstm_hidden_size"] == 8
    assert agent.policy_kwargs["core_kwargs"] == {"capacity": 16, "top_k": 2}


@pytest.mark.parametrize("env", [name for name in FILE if name != "default"])
def test_the_file_has_hyperparameters_with_which_an_agent_begins(env: str) -> None:
    typed("train", "--env", env, "-n", 1, "-params", "n_envs:2", "n_steps:8", "n_epochs:1", "--eval-freq", -1)
    assert list(Path("logs/ppo_sab").glob("*_1/*.zip"))


def test_an_environment_that_is_not_in_the_file_has_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    typed("train", "--env", "SAB/MemoryChain-v0", "-n", 1, "-params", "n_steps:8", "--eval-freq", -1)
    assert "Using 'default' hyperparameters" in capsys.readouterr().out


@pytest.mark.parametrize("env", NOVEL)
def test_the_novel_tasks_are_rl_zoos_with_another_policy(env: str) -> None:
    zoo: Any = pytest.importorskip("rl_zoo3")
    published = yaml.safe_load((Path(zoo.__file__).parent / "hyperparams" / "ppo_lstm.yml").read_text())
    assert FILE[env] == {**published[env], "policy": "MlpSabPolicy"}


@pytest.mark.parametrize("env", CONFIGS)
def test_our_environments_have_what_their_config_has_at_the_first_size(env: str) -> None:
    config = load(AgentsConfig, ROOT / "configs" / "agents" / f"{CONFIGS[env]}.yaml")
    value, entry = config.values[0], dict(FILE[env])
    expected = {**config.shared, **config.at_values.get(value, {})}
    if config.anneal:
        expected["learning_rate"] = f"lin_{expected['learning_rate']}"
    arguments = {**config.env_arguments, str(config.argument): value}
    wrappers: list[Any] = ["sab_agents.vec_env.previous.VecPreviousActionReward"] * config.previous_action_reward
    if config.elapsed_share:
        wrappers.append({"sab_agents.vec_env.elapsed.VecElapsedTime": {"horizon": horizon_of(env, arguments)}})
    normalised = {"norm_obs": config.normalize, "norm_reward": config.normalize_reward}
    assert entry.pop("env_kwargs") == arguments
    assert entry.pop("vec_env_wrapper", []) == wrappers
    assert entry.pop("normalize", None) == (str(normalised) if any(normalised.values()) else None)
    assert entry.pop("policy") == config.learners["sab"]["policy"]
    assert (entry.pop("n_envs"), entry.pop("n_timesteps")) == (config.num_envs, config.budget(value))
    assert entry == expected


@pytest.mark.parametrize("storage", ["sqlite:///study.db", "study.log"])
def test_two_processes_search_in_one_storage(storage: str) -> None:
    optuna: Any = pytest.importorskip("optuna")
    kept = storage
    if storage.endswith(".log"):
        kept = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(storage))
    Path("tiny.yml").write_text(TINY.format(policy="MlpSabPolicy"))
    search = ["-optimize", "--n-trials", "2", "--n-startup-trials", "1", "--n-evaluations", "1", "--sampler", "random"]
    shared = ["--storage", storage, "--study-name", "tiny"]
    command = [sys.executable, "-m", "sab_agents.zoo", "train", "--algo", "ppo_sab", "--env", "CartPole-v1", *search]
    command += [*shared, "--conf-file", "tiny.yml", "-n", "64", "--eval-episodes", "1", "--device", "cpu", "--uuid"]
    optuna.create_study(storage=kept, study_name="tiny", direction="maximize")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    started = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(timeout=300) for process in started] == [0, 0]
    trials = optuna.load_study(storage=kept, study_name="tiny").trials
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    assert all(trial.state.is_finished() and trial.state.name != "FAIL" for trial in trials)
    names = {*(f"{name}_pow" for name in POWERS), "top_k", "learning_rate", "ent_coef"}
    assert all(trial.params.keys() == names for trial in trials)
    best = max((trial for trial in trials if trial.value is not None), key=lambda trial: trial.value)
    arguments = ["--conf-file", "tiny.yml", "-n", "32", "--eval-freq", -1, "--trial-id", max(best.number, 1)]
    typed("train", "--env", "CartPole-v1", *arguments, *shared)
    (saved,) = Path("logs/ppo_sab").glob("CartPole-v1_*/CartPole-v1.zip")
    found = converted(trials[max(best.number, 1)].params)
    agent = RecurrentPPO.load(saved)
    assert agent.policy_kwargs["core_kwargs"] == {"capacity": found["capacity"], "top_k": found["top_k"]}
    assert (agent.n_steps, agent.policy_kwargs["lstm_hidden_size"]) == (found["n_steps"], found["hidden_size"])


def test_the_commands_of_the_page_run(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "guides" / "sweeps.md").read_text(encoding="utf-8")
    lines = re.findall(r"^python -m sab_agents\.zoo (.*?)(?: +#.*)?$", page, flags=re.MULTILINE)
    assert len(lines) == 4
    for line in lines:
        shorter = {"train": ["-n", "64", "--eval-episodes", "1"], "enjoy": ["-n", "60", "--no-render"]}
        typed(*line.split(), *shorter[line.split()[0]], *(["--n-trials", "1"] if "-optimize" in line else []))
    assert "Episode Reward" in capsys.readouterr().out


def test_flags_that_are_left_out_are_completed() -> None:
    file = ["--conf-file", str(HYPERPARAMS)]
    assert completed("train", ["--env", "X"]) == ["--env", "X", "--algo", "ppo_sab", *file]
    assert completed("train", ["--algo=ppo_sab", "-conf", "x.yml"]) == ["--algo=ppo_sab", "-conf", "x.yml"]
    assert completed("train", ["--algo", "ppo"]) == ["--algo", "ppo"]
    assert completed("enjoy", ["--algo", "ppo_sab"]) == ["--algo", "ppo_sab", "--folder", "logs"]
    assert completed("enjoy", ["-f", "x"]) == ["-f", "x", "--algo", "ppo_sab"]


def test_a_script_that_there_is_not_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert capsys.readouterr().err == "sab_agents.zoo: unknown script 'trian'. Did you mean 'train'?\n"

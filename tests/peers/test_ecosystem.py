"""What people use around agents: RL Zoo's scripts, and environments of POPGym, MiniGrid and memory-gym.

`make test-contrib` runs them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from sab_agents import RecurrentPPO

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default")]

SETTINGS = """
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


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    """RL Zoo with this library's class as its `ppo_lstm`."""
    monkeypatch.setitem(pytest.importorskip("rl_zoo3").ALGOS, "ppo_lstm", RecurrentPPO)


def typed(monkeypatch: pytest.MonkeyPatch, script: str, *arguments: object) -> None:
    """Runs one of RL Zoo's scripts with these arguments."""
    module = pytest.importorskip(f"rl_zoo3.{script}")
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    getattr(module, script)()


@pytest.mark.usefixtures("zoo")
@pytest.mark.parametrize("policy", ["MlpLstmPolicy", "MlpSabPolicy"])
def test_rl_zoo_trains_goes_on_and_plays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, policy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, logs = tmp_path / "settings.yml", tmp_path / "logs"
    settings.write_text(SETTINGS.format(policy=policy))
    common = ["--algo", "ppo_lstm", "--env", "CartPole-v1", "--seed", 1, "--device", "cpu"]
    training = [*common, "--conf-file", settings, "--log-folder", logs, "--save-freq", 32, "--eval-freq", 32]
    typed(monkeypatch, "train", *training, "--eval-episodes", 1, "--n-eval-envs", 1)
    saved = logs / "ppo_lstm" / "CartPole-v1_1" / "CartPole-v1.zip"
    assert RecurrentPPO.load(saved).num_timesteps == 64
    typed(monkeypatch, "train", *training, "-n", 32, "--trained-agent", saved)
    assert RecurrentPPO.load(logs / "ppo_lstm" / "CartPole-v1_2" / "CartPole-v1.zip").num_timesteps >= 32
    capsys.readouterr()
    typed(monkeypatch, "enjoy", *common, "--folder", logs, "--exp-id", 1, "--no-render", "-n", 60)
    assert "Episode Reward" in capsys.readouterr().out


@pytest.mark.usefixtures("zoo")
def test_rl_zoo_optimises_hyperparameters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    settings = tmp_path / "settings.yml"
    settings.write_text(SETTINGS.format(policy="MlpLstmPolicy"))
    arguments = ["--algo", "ppo_lstm", "--env", "CartPole-v1", "--conf-file", settings, "--log-folder", tmp_path]
    search = ["-optimize", "--n-trials", 2, "--n-startup-trials", 1, "--n-evaluations", 1, "--n-jobs", 1]
    typed(monkeypatch, "train", *arguments, "-n", 64, *search, "--sampler", "random", "--eval-episodes", 1)
    (report,) = (tmp_path / "ppo_lstm").glob("report_CartPole-v1_*.csv")
    assert len(report.read_text().splitlines()) == 3


IDS = {
    "popgym": ["popgym-RepeatFirstEasy-v0", "popgym-AutoencodeEasy-v0", "popgym-NoisyPositionOnlyCartPoleEasy-v0"],
    "minigrid": ["MiniGrid-MemoryS7-v0", "MiniGrid-KeyCorridorS3R1-v0"],
    "memory_gym": ["MortarMayhem-Grid-v0", "MysteryPath-Grid-v0", "SearingSpotlights-v0"],
}


def environment(package: str, name: str) -> gym.Env[Any, Any]:
    """The environment as its authors say that it is used."""
    pytest.importorskip(package)
    env: gym.Env[Any, Any] = gym.make(name)
    if isinstance(env.observation_space, spaces.Tuple):
        env = gym.wrappers.FlattenObservation(env)
    if package == "minigrid":
        wrappers: Any = pytest.importorskip("minigrid.wrappers")
        env = wrappers.ImgObsWrapper(wrappers.RGBImgPartialObsWrapper(env))
    return env


@pytest.mark.parametrize(("package", "name"), [(package, name) for package, names in IDS.items() for name in names])
@pytest.mark.parametrize("core", ["Sab", "Lstm"])
def test_ids_of_other_packages_are_learnt_from_saved_and_played(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: str, name: str, core: str
) -> None:
    for driver in ("SDL_VIDEODRIVER", "SDL_AUDIODRIVER"):
        monkeypatch.setitem(os.environ, driver, "dummy")
    env = environment(package, name)
    space = env.observation_space
    image = isinstance(space, spaces.Box) and len(space.shape) == 3
    agent = RecurrentPPO(
        f"{'Cnn' if image else 'Mlp'}{core}Policy",
        env,
        n_steps=16,
        batch_size=16,
        n_epochs=1,
        seed=0,
        policy_kwargs={"lstm_hidden_size": 16},
        device="cpu",
    )
    agent.learn(32)
    agent.save(tmp_path / "agent.zip")
    loaded = RecurrentPPO.load(tmp_path / "agent.zip", env=environment(package, name))
    observation, _ = env.reset(seed=1)
    state, start = None, np.ones(1, dtype=bool)
    for _ in range(5):
        action, state = loaded.predict(observation, state, start, deterministic=True)
        assert env.action_space.contains(action if action.shape else env.action_space.dtype.type(action))  # type: ignore[union-attr]
        observation, _, terminated, truncated, _ = env.step(action)
        start = np.array([terminated or truncated])

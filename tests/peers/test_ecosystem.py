"""Environments of POPGym, MiniGrid and memory-gym with our agents.

`make test-contrib` runs them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from sab_agents import RecurrentPPO

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default")]

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

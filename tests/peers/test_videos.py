"""Videos of agents by other packages' recorders: a frame is opened, and looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import VecVideoRecorder

from sab_agents import RecurrentPPO
from sab_agents.vec_env.make import as_vec_env
from sab_agents.vec_env.usable import FOR_PPO

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default")]

ENV: dict[str, Any] = {"id": "SAB/PassiveTMaze-v0", "corridor_length": 4, "render_mode": "rgb_array"}


@pytest.fixture(autouse=True)
def alone() -> None:
    for package in ("moviepy", "imageio"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install {package}")


def frames_of(folder: Path) -> list[Any]:
    """The frames of the only video in a folder."""
    (file,) = folder.glob("*.mp4")
    imageio: Any = pytest.importorskip("imageio.v2")
    with imageio.get_reader(file) as reader:
        return [np.asarray(frame) for frame in reader]


def check(frames: list[Any], picture: Any) -> None:
    """Frames are no blank and not all the same; the first is the picture that the environment renders."""
    assert len(frames) >= 4
    assert all(np.unique(frame.reshape(-1, 3), axis=0).shape[0] > 1 for frame in frames)
    assert any((frame != frames[0]).any() for frame in frames)
    first = frames[0][: picture.shape[0], : picture.shape[1]].astype(float)
    assert np.abs(first - picture).mean() < 10  # of 255; compression loses some


def test_gymnasiums_recorder_shows_an_agent_act(tmp_path: Path) -> None:
    env = gym.wrappers.RecordVideo(gym.make(**ENV), str(tmp_path), disable_logger=True)
    model = RecurrentPPO("MlpSabPolicy", gym.make(**ENV), n_steps=16, batch_size=16, n_epochs=1, device="cpu")
    observation, _ = env.reset(seed=1)
    picture: Any = env.unwrapped.render()
    state, start, over = None, np.ones(1, dtype=bool), False
    while not over:
        action, state = model.predict(observation, state, start)
        observation, _, terminated, truncated, _ = env.step(action.item())
        start, over = np.zeros(1, dtype=bool), terminated or truncated
    env.close()  # type: ignore[no-untyped-call]
    check(frames_of(tmp_path), picture)


def test_stable_baselines3s_recorder_shows_copies(tmp_path: Path) -> None:
    copies = as_vec_env(gym.make_vec(ENV["id"], 2, **{key: ENV[key] for key in ENV if key != "id"}), "test", FOR_PPO)
    env = VecVideoRecorder(copies, str(tmp_path), lambda step: step == 0, video_length=6)
    env.reset()
    picture: Any = copies.render()
    for _ in range(8):
        env.step(np.array([env.action_space.sample() for _ in range(2)]))
    env.close()
    check(frames_of(tmp_path), picture)

"""What a trained agent does: its returns over many episodes, or a few episodes step by step, as pictures or as text."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from PIL import Image
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sab_agents.train.agents.config import AgentConfig
from sab_agents.train.agents.training import environment, known_returns, load_agent, single_environment
from sab_agents.train.configuration import load
from sab_agents.train.device import device_of
from sab_agents.train.errors import UserError, one_line
from sab_agents.train.output import make_folder, writing
from sab_agents.train.progress import Progress
from sab_agents.train.run_folder import RunFolder
from sab_agents.train.suites.episodes import endings
from sab_agents.train.supervised.evaluate_env import length_setting
from sab_agents.vec_env.single import SingleVecEnv

COPIES = 8
VIDEOS = (".gif", ".webp")
PICTURE = "sab_agents.picture"
FPS = 30.0  # where an environment names none


class Step(NamedTuple):
    """What happened in one step.

    Attributes:
        number: of the step in its episode, from 1.
        observation: what the agent saw.
        action: what it did.
        reward: what it got for that.
        picture: of the state after that, as an image, a text, or None if the environment has none.
        total: the return, where this step ends the episode; None elsewhere.
    """

    number: int
    observation: Any
    action: Any
    reward: float
    picture: Any
    total: float | None


def agent_in(run: str | Path, env: VecEnv, device: str | None = None) -> tuple[BaseAlgorithm, VecEnv]:
    """Returns a run's agent in an environment, and the environment as the agent sees it.

    Raises:
        UserError: the folder holds no agent, the environment has other spaces, or the device cannot be used.
    """
    folder = RunFolder(run)
    config = load(AgentConfig, folder.config, [] if device is None else ["--device", device])
    device_of(config.device)
    model = load_agent(folder, config, env)
    inside = model.get_env()
    assert inside is not None
    return model, inside


def evaluate_agent(
    run: str | Path,
    lengths: Sequence[int | None] = (None,),
    *,
    episodes: int = 100,
    seed: int = 0,
    arguments: Mapping[str, Any] | None = None,
    device: str | None = None,
) -> list[dict[str, Any]]:
    """Plays episodes with the likeliest actions of a trained agent, at each length.

    Args:
        run: the run folder.
        lengths: of the environment; None is that of the training.
        episodes: at each length.
        seed: of the environment, plus 10,000, so that episodes are not those of training.
        arguments: of the environment, where they differ from those of the training.
        device: of the agent; None is the one on which it was trained.

    Returns:
        For each length: {"length", "episodes", "steps", "mean", "error", "returns": {"best", …}, "metrics": {…}}.

    Raises:
        UserError: the folder holds no agent, or an argument does not fit.
    """
    config = load(AgentConfig, RunFolder(run).config)
    copies = min(COPIES, episodes) if config.algo == "ppo" else 1  # the agent of a stream takes one
    rows = []
    for length in lengths:
        changed = {**(arguments or {}), **length_setting(config.env.rpartition(":")[2], length)}
        settings = {**config.env_arg, **changed}
        model, env = agent_in(run, environment(config.env, copies, settings, config.wrappers), device)
        at = "" if length is None else f", length {length}"
        with Progress(f"{config.env}{at}", transient=True) as bar:

            def watch(over: int, bar: Progress = bar) -> None:
                bar.update(over / episodes, f"{over:,} of {episodes:,} episodes")

            ended = endings(model, env, episodes, seed=10_000 + seed, watch=watch)
        env.close()
        played = [info["episode"] for info in ended]
        returns = np.array([float(episode["r"]) for episode in played])
        known = {"best": None, "random": None, "memoryless": None}
        rows.append(
            {
                "length": length,
                "episodes": episodes,
                "steps": float(np.mean([episode["l"] for episode in played])),
                "mean": float(returns.mean()),
                "error": float(returns.std(ddof=1) / np.sqrt(episodes)) if episodes > 1 else None,
                "returns": known | known_returns(config.env, settings),
                "metrics": {"least": float(returns.min()), "greatest": float(returns.max())},
            }
        )
    return rows


def played(
    run: str | Path,
    render_mode: str | None,
    *,
    episodes: int,
    most: int,
    seed: int,
    arguments: Mapping[str, Any],
) -> Iterator[Step]:
    """Plays episodes, one after the other, with the likeliest actions of a trained agent.

    Args:
        run: the run folder.
        render_mode: of the environment.
        episodes: how many.
        most: steps of an episode after which it is left.
        seed: of the environment.
        arguments: of the environment, where they differ from those of the training.

    Yields:
        Each step.

    Raises:
        UserError: the folder holds no agent, an argument does not fit, or there are no pictures.
    """
    config = load(AgentConfig, RunFolder(run).config)
    shown = {} if render_mode is None else {"render_mode": render_mode}
    single = single_environment(config.env, {**config.env_arg, **arguments, **shown}, config.wrappers)
    model, env = agent_in(run, SingleVecEnv(_Pictured(single)))
    for episode in range(episodes):
        env.seed(seed + episode)
        observation: Any = _reset(env)
        state, start, total = None, np.ones(1, np.bool_), 0.0
        for number in range(1, most + 1):
            action, state = model.predict(observation, state=state, episode_start=start, deterministic=True)
            seen = observation
            observation, rewards, start, infos = env.step(action)
            total = float(infos[0]["episode"]["r"]) if start[0] else total + float(rewards[0])
            ends = bool(start[0]) or number == most
            yield Step(number, seen, action[0], float(rewards[0]), infos[0].get(PICTURE), total if ends else None)
            if ends:
                break
    env.close()


def render_modes(run: str | Path) -> tuple[list[str], float]:
    """Returns how a run's environment can be shown, and its frames a second.

    Raises:
        UserError: the folder holds no agent, or there is no such environment.
    """
    config = load(AgentConfig, RunFolder(run).config)
    single = single_environment(config.env, config.env_arg, config.wrappers)
    metadata = single.metadata
    single.close()
    return list(metadata.get("render_modes") or []), float(metadata.get("render_fps") or FPS)


def write_video(file: Path, frames: Sequence[Any], fps: float) -> None:
    """Writes pictures (height, width, 3) as an animated GIF or WebP.

    Raises:
        UserError: the file cannot be written.
    """
    first, *others = [Image.fromarray(np.asarray(frame, np.uint8)) for frame in frames]
    make_folder(file.parent)
    with writing(file):
        first.save(file, save_all=True, append_images=others, duration=round(1000 / fps), loop=0)


def pause(fps: float) -> None:
    """Waits for the time of one frame."""
    time.sleep(1 / fps)


def _reset(env: VecEnv) -> Any:
    """Starts an episode, for which an environment with a window opens it."""
    try:
        return env.reset()
    except Exception as error:
        if not type(error).__module__.startswith(("gymnasium", "pygame")) and not isinstance(error, ImportError):
            raise
        raise UserError(f"The window cannot be opened: {one_line(error)}. Use --text, or --video FILE.") from error


class _Pictured(gym.Wrapper[Any, Any, Any, Any]):
    """Puts a picture of the state after each step into its info, before a VecEnv can start the next episode."""

    def step(self, action: Any) -> Any:
        *found, info = self.env.step(action)
        if self.env.render_mode in ("rgb_array", "ansi"):
            try:
                info = {**info, PICTURE: self.env.render()}
            except (gym.error.Error, ImportError, NotImplementedError) as error:
                raise UserError(one_line(error)) from error
        return (*found, info)

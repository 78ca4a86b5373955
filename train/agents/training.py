"""Trains one agent in one environment, into a run folder from which it can be watched, scored, exported and resumed."""

from __future__ import annotations

import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np
import torch
from rich.console import Console
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from sab_agents.checks import did_you_mean
from sab_agents.distributed import RankLost, Ranks, launched
from sab_agents.envs.registration import ENVIRONMENTS
from sab_agents.online import StreamAC
from sab_agents.ppo import RecurrentPPO
from sab_agents.train.agents.config import OWN, WATCH_KEYS, AgentConfig
from sab_agents.train.agents.savings import Savings
from sab_agents.train.board import Tracked, open_logger
from sab_agents.train.configuration import plain
from sab_agents.train.device import device_of
from sab_agents.train.errors import UserError, one_line
from sab_agents.train.figures.runs import plot_returns
from sab_agents.train.interrupts import Stop
from sab_agents.train.output import lines
from sab_agents.train.progress import Progress
from sab_agents.train.run_folder import RunFolder
from sab_agents.train.trackers import check_trackers
from sab_agents.vec_env.make import make_single_env, make_vec_env, registered_id

ALGORITHM: Mapping[str, type[BaseAlgorithm]] = {"ppo": RecurrentPPO, "stream": StreamAC}
LINES = 200  # of metrics.jsonl, about

Loaded = TypeVar("Loaded")
Made = TypeVar("Made")


def train_agent(config: AgentConfig, *, track: Sequence[str] = ()) -> dict[str, Any]:
    """Trains an agent and writes its run folder; under `torchrun`, several ranks train one, and rank 0 writes.

    Args:
        config: the run's settings.
        track: trackers that show the run.

    Returns:
        What `result.json` holds.

    Raises:
        UserError: a setting does not fit, or the folder holds another run.
        KeyboardInterrupt: there was a signal. The agent was saved before.
        RankLost: another rank has died.
    """
    check_trackers(track)
    folder = RunFolder(config.folder)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    device_of(config.device)  # stable-baselines3 would take the CPU where there is no GPU, and not say so
    ranks = _ranks_of(config)
    resumed = config.resume and folder.agent.exists()
    if resumed:
        _check_same(folder, config)
    env = environment(config.env, config.copies, config.env_arg, config.wrappers)
    savings = Savings(folder, ranks, env)
    model = _resumed_agent(folder, config, env, savings, ranks) if resumed else new_agent(config, env)
    if ranks.main:
        folder.create(config.settings(), resume=config.resume)
    result = ranks.of_main(folder.read_result())
    if result is not None and model.num_timesteps >= config.steps:
        env.close()
        return result
    if ranks.main:
        folder.result.unlink(missing_ok=True)
        folder.cut_metrics(model.num_timesteps)
    shown = lines() if ranks.main else Console(quiet=True)
    journal = _Journal(folder, config, Stop(), shown, model.num_timesteps, savings, ranks)
    tracked = Tracked(folder.path.name, track, folder.path, settings=config.settings(), identity=folder.tracking)
    with open_logger(folder.tensorboard, tracked) if ranks.main else nullcontext() as logger:
        if logger is not None:
            model.set_logger(logger)
        with journal.stop.listening(), journal.bar:
            model.learn(
                max(config.steps - model.num_timesteps, 0), journal, log_interval=1, reset_num_timesteps=not resumed
            )
        journal.keep()
        env.close()
        numbers = ranks.gathered(journal.stop.number)
        if any(numbers):
            raise KeyboardInterrupt(max(number for number in numbers if number is not None))
    return _finished(folder, config, model, journal)


def _ranks_of(config: AgentConfig) -> Ranks:
    if config.algo == "ppo":
        return Ranks.join(config.device)
    if launched():
        raise UserError(
            "algo stream learns in one process, but torchrun has started several. Use algo ppo, or start it without "
            "torchrun."
        )
    return Ranks()


def _resumed_agent(
    folder: RunFolder, config: AgentConfig, env: VecEnv, savings: Savings, ranks: Ranks
) -> BaseAlgorithm:
    """Returns the saved agent, bit-exactly where it was if the environments can return there, else in new episodes."""
    there = _loading(folder, lambda: savings.resume(config.device)) if config.algo == "ppo" else None
    if there is not None:
        return there
    model = load_agent(folder, config, env)
    # With the seed alone they would begin with the episodes of the start.
    env.seed(config.seed + model.num_timesteps + ranks.rank * config.copies)
    return model


def environment(env_id: str, copies: int, arguments: Mapping[str, Any], wrappers: tuple[str, ...] = ()) -> VecEnv:
    """Makes copies of an environment; modules of the present folder are found, too.

    Raises:
        UserError: there is no such id, module, argument or wrapper, or what the environment needs is not installed.
    """
    return _made(env_id, lambda: make_vec_env(env_id, copies, arguments, wrappers=wrappers))


def single_environment(env_id: str, arguments: Mapping[str, Any], wrappers: tuple[str, ...] = ()) -> gym.Env[Any, Any]:
    """Makes one environment, which does not reset itself; otherwise as `environment`."""
    return _made(env_id, lambda: make_single_env(env_id, arguments, wrappers))


def _made(env_id: str, make: Callable[[], Made]) -> Made:
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return make()
    except (TypeError, ValueError, OSError, ImportError, gym.error.Error) as error:
        raise UserError(f"{env_id}: {one_line(error)}") from error


def new_agent(config: AgentConfig, env: VecEnv) -> BaseAlgorithm:
    """Returns the agent of a run at its start.

    Raises:
        UserError: the policy or a setting does not fit.
    """
    algorithm = ALGORITHM[config.algo]
    known = [name for name in inspect.signature(algorithm).parameters if not name.startswith("_") and name not in OWN]
    for name in config.setting:
        if name not in known:
            raise UserError(f"setting: {algorithm.__name__} has no '{name}'. {did_you_mean(name, known)}")
    try:
        return algorithm(config.policy, env, seed=config.seed, device=config.device, **config.setting)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:  # stable-baselines3 asserts what fits
        raise UserError(one_line(error)) from error


def load_agent(folder: RunFolder, config: AgentConfig, env: VecEnv) -> BaseAlgorithm:
    """Returns the agent that a folder holds, in an environment.

    Raises:
        UserError: there is none, its file is damaged, or the environment has other spaces.
    """
    if not folder.agent.exists():
        raise UserError(f"{folder.path} holds no agent yet. Continue the run with sab-agents resume {folder.path}.")
    return _loading(folder, lambda: ALGORITHM[config.algo].load(folder.agent, env=env, device=config.device))


def _loading(folder: RunFolder, load: Callable[[], Loaded]) -> Loaded:
    try:
        return load()
    except RankLost:
        raise
    except (TypeError, ValueError, OSError, RuntimeError) as error:
        raise UserError(f"{folder.agent}: {one_line(error)}") from error


def _check_same(folder: RunFolder, config: AgentConfig) -> None:
    before, now = folder.read_settings(), plain(config.settings())
    for name, value in now.items():
        if name not in WATCH_KEYS and before.get(name) != value:
            raise UserError(
                f"{folder.path} was trained with {name} = {before.get(name)}, not {value}. Choose another --out."
            )


class _Journal(BaseCallback):
    """Logs, shows the progress, saves now and then, and ends the training after a signal."""

    def __init__(
        self,
        folder: RunFolder,
        config: AgentConfig,
        stop: Stop,
        console: Console,
        before: int,
        savings: Savings,
        ranks: Ranks,
    ) -> None:
        super().__init__()
        self.folder, self.config, self.stop, self.savings, self.ranks = folder, config, stop, savings, ranks
        logged = folder.read_metrics()
        self.episodes: int = logged[-1]["episodes"] if logged and ranks.main else 0
        self.seconds: float = logged[-1]["seconds"] if logged else 0.0
        self.logged = self.saved = before
        self.clock = time.monotonic()
        name = f"{config.env} · {config.policy} · seed {config.seed}"
        self.bar = Progress(name, console, done=min(before / config.steps, 1.0))

    def _on_training_start(self) -> None:
        self.clock = time.monotonic() - self.seconds

    def _on_step(self) -> bool:
        self.episodes += int(self.locals["dones"].sum())
        if self.config.algo == "stream":  # which has no rollouts
            self._look()
        return self.stop.number is None

    def _on_rollout_start(self) -> None:
        self._look()

    def _look(self) -> None:
        steps = self.num_timesteps
        if steps - self.logged >= max(1, self.config.steps // LINES):
            self.log()
        if steps - self.saved >= self.config.checkpoint_every:
            self.keep()
        score, length = self.scores
        note = "" if score is None else f"return {score:.4g} · length {length:.4g} · {steps:,} steps"
        self.bar.update(min(steps / self.config.steps, 1.0), note)

    @property
    def scores(self) -> tuple[float | None, float | None]:
        """Mean return and length of the last 100 episodes of each rank; None if none has ended."""
        own = [(float(info["r"]), float(info["l"])) for info in self.model.ep_info_buffer or ()]
        ended = [pair for pairs in self.ranks.gathered(own) for pair in pairs]
        if not ended:
            return None, None
        returns, lengths = zip(*ended, strict=True)
        return float(np.mean(returns)), float(np.mean(lengths))

    def log(self) -> None:
        """Writes a line of metrics.jsonl."""
        self.logged = self.num_timesteps
        self.seconds = time.monotonic() - self.clock
        score, length = self.scores
        episodes = sum(self.ranks.gathered(self.episodes))
        if not self.ranks.main:
            return
        line = {"step": self.logged, "split": "train", "seconds": round(self.seconds, 3), "episodes": episodes}
        with self.folder.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**line, "return": score, "length": length}) + "\n")

    def keep(self) -> None:
        """Saves the agent, in place of the one before, and what was logged until then."""
        self.num_timesteps = self.model.num_timesteps
        if self.logged < self.num_timesteps:
            self.log()
        self.saved = self.num_timesteps
        self.savings.save(self.model)


def _finished(folder: RunFolder, config: AgentConfig, model: BaseAlgorithm, journal: _Journal) -> dict[str, Any]:
    score, length = journal.scores
    episodes = sum(journal.ranks.gathered(journal.episodes))
    result = {
        "settings": config.settings(),
        "parameters": sum(parameter.numel() for parameter in model.policy.parameters()),
        "steps": model.num_timesteps,
        "seconds": round(journal.seconds, 1),
        "episodes": episodes,
        "return": score,
        "length": length,
    }
    if not journal.ranks.main:
        return result
    folder.plots.mkdir(exist_ok=True)
    title = f"{config.env} · {config.policy} · seed {config.seed}"
    plot_returns(folder.plots / "returns.png", title, folder.read_metrics(), known_returns(config.env, config.env_arg))
    folder.write_result(result)
    return result


def known_returns(env_id: str, arguments: Mapping[str, Any]) -> dict[str, float]:
    """Returns what is known of an environment's returns: of the best, the random and the best memoryless policy."""
    name = registered_id(env_id)
    if name not in ENVIRONMENTS:
        return {}
    known = ENVIRONMENTS[name].returns(arguments)
    named = {"best": known.best, "random": known.random, "memoryless": known.memoryless}
    return {policy: value for policy, value in named.items() if value is not None}

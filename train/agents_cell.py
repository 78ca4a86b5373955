"""The cells of one PPO agent of a sweep: builds it, lets it learn until its target or budget, and tests it."""

from __future__ import annotations

import importlib
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from operator import mul
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

import sab_agents  # noqa: F401 (registers the SAB/* environments)
from sab_agents.train.agents_config import CHANGEABLE, AgentsConfig, Cell, Value
from sab_agents.train.agents_env import make_vec_env
from sab_agents.train.agents_evaluate import Ended, ending, evaluate_lengths
from sab_agents.train.errors import UserError, one_line

POINTS = 40  # of a learning curve, at most
TEST_SEED = 10_000  # plus the agent's, so that a test's episodes are not those of training


class Point(NamedTuple):
    """An episode, and when it was over: after how many steps of all copies, and how many seconds, of this training."""

    steps: int
    seconds: float
    ended: Ended


class Watch(BaseCallback):
    """Notes each episode, and ends the training when the target is reached.

    Args:
        success: see `agents_evaluate.ending`.
        recent: episodes over which success is measured.
        target: share of them that must succeed; None never ends.
    """

    def __init__(self, success: float | str, recent: int, target: float | None) -> None:
        super().__init__()
        self.success, self.target = success, target
        self.points: list[Point] = []
        self.reached = False
        self._recent: deque[Ended] = deque(maxlen=recent)
        self._started, self._first = time.perf_counter(), 0

    def _on_training_start(self) -> None:
        self._started, self._first = time.perf_counter(), self.num_timesteps

    def _on_step(self) -> bool:
        copies = np.flatnonzero(self.locals["dones"])
        for copy in copies:
            ended = ending(self.locals["infos"][copy], self.success)
            self.points.append(Point(self.num_timesteps - self._first, time.perf_counter() - self._started, ended))
            self._recent.append(ended)
        if len(copies) and self.target is not None and len(self._recent) == self._recent.maxlen:
            self.reached = self.score[0] >= self.target  # of all copies that ended in this step, not of some
        return not self.reached

    def _on_rollout_end(self) -> None:
        if self._recent:
            self.logger.record("rollout/success", self.score[0])

    @property
    def score(self) -> tuple[float, float]:
        """Share of successes and mean return of the recent episodes, of which there must be one."""
        return float(np.mean([each.success for each in self._recent])), float(
            np.mean([each.total for each in self._recent])
        )


def run_chain(config: AgentsConfig, out: Path, chain: Sequence[Cell]) -> dict[str, dict[str, Any]]:
    """Runs the cells of one agent in order, as long as it reaches its target.

    Args:
        config: the sweep.
        out: gets TensorBoard's events.
        chain: the cells.

    Returns:
        For each cell that was run, by its file's name: the settings that decided it; success and return over the last
        episodes; steps and seconds from the chain's first to the target or the end of the budget; the learning curve in
        at most `POINTS` parts, whose steps and seconds are the cell's own; the tests by value.
    """
    torch.set_num_threads(config.threads)
    model = agent_of(config, chain[0])
    seconds = processor = 0.0
    results: dict[str, dict[str, Any]] = {}
    for cell in chain:
        if results:
            _go_on(config, cell, model)
        watch = Watch(config.success, config.recent, config.target)
        started, processor_started = time.perf_counter(), time.process_time()
        model.set_logger(configure(str(out / "tb" / cell.file), ["tensorboard"]))
        model.learn(config.budget(cell.value), watch, reset_num_timesteps=not results)
        seconds += time.perf_counter() - started
        processor += time.process_time() - processor_started
        results[cell.file] = {**_result(config, cell, model, watch), "seconds": round(seconds, 1)}
        results[cell.file]["processor_seconds"] = round(processor, 1)
        if not watch.reached:
            break
    model.get_env().close()
    return results


def _go_on(config: AgentsConfig, cell: Cell, model: Any) -> None:
    """Puts an agent into its next cell's environment, with that cell's settings and the statistics it has so far."""
    before, after = model.get_env(), environment(config, cell.value)
    if isinstance(after, VecNormalize):
        after.ret_rms = before.ret_rms
        if after.norm_obs:
            after.obs_rms = before.obs_rms
    before.close()
    after.seed(cell.seed)  # or the episodes to come would be others in every run
    model.set_env(after)
    settings = config.agent_settings(cell.learner, cell.value)
    for name in CHANGEABLE:
        if name in settings:
            setattr(model, name, settings[name])
    model.rollout_buffer.gamma = model.gamma
    model._setup_lr_schedule()


def _result(config: AgentsConfig, cell: Cell, model: Any, watch: Watch) -> dict[str, Any]:
    if not watch.points:
        budget = config.budget(cell.value)
        raise UserError(f"{cell.learner}, {cell.value}: no episode was over within {budget:,} steps. Raise steps.")
    success, total = watch.score
    return {
        "settings": config.cell_settings(cell),
        "success": success,
        "return": total,
        "reached": watch.reached,
        "episodes": len(watch.points),
        "steps": model.num_timesteps,
        "parameters": sum(parameter.numel() for parameter in model.policy.parameters()),
        "curve": curve_of(watch.points, config.budget(cell.value)),
        "tests": _tests(config, cell, model),
    }


def agent_of(config: AgentsConfig, cell: Cell) -> Any:
    """The agent of a cell, at its start, with its environment.

    Raises:
        UserError: a setting does not fit, or the package of the algorithm is not there.
    """
    settings = config.agent_settings(cell.learner, cell.value)
    package, policy = settings.pop("algorithm"), settings.pop("policy")
    try:
        algorithm = importlib.import_module(package).RecurrentPPO
    except ImportError as error:
        name = package.replace("_", "-")
        raise UserError(f"{cell.learner}: {package} is not there. pip install {name}, or leave it out.") from error
    env = environment(config, cell.value)
    try:
        model = algorithm(policy, env, seed=cell.seed, **settings)
    except (TypeError, ValueError) as error:
        raise UserError(f"{cell.learner}: {one_line(error)}") from error
    if config.anneal:
        model.learning_rate = partial(mul, model.learning_rate)  # times the share of the budget that is left
        model._setup_lr_schedule()
    return model


def environment(config: AgentsConfig, value: Value) -> VecEnv:
    """The environments of a cell.

    Raises:
        UserError: see `make_vec_env`.
    """
    made = make_vec_env(config.env, config.argument, value, config.num_envs, **_environment_settings(config))
    if not (config.normalize or config.normalize_reward):
        return made
    gamma = {**config.shared, **config.at_values.get(value, {})}.get("gamma", 0.99)
    return VecNormalize(made, norm_obs=config.normalize, norm_reward=config.normalize_reward, gamma=gamma)


def curve_of(points: Sequence[Point], budget: int) -> list[dict[str, float]]:
    """The learning curve: means over the episodes that were over within each of `POINTS` equal parts of the budget.

    Parts in which no episode was over are left out; `steps` and `seconds` are those of the last episode of a part.
    """
    parts: dict[int, list[Point]] = {}
    for point in points:
        parts.setdefault(min(point.steps * POINTS // budget, POINTS - 1), []).append(point)
    return [
        {
            "steps": part[-1].steps,
            "seconds": round(part[-1].seconds, 2),
            "success": float(np.mean([point.ended.success for point in part])),
            "return": float(np.mean([point.ended.total for point in part])),
        }
        for part in parts.values()
    ]


def _tests(config: AgentsConfig, cell: Cell, model: Any) -> dict[str, dict[str, float]]:
    tested = evaluate_lengths(
        model,
        config.env,
        config.argument,
        config.tests_after(cell.learner, cell.value),
        config.test_episodes,
        success=config.success,
        seed=TEST_SEED + cell.seed,
        **_environment_settings(config),
    )
    return {str(value): result for value, result in tested.items()}


def _environment_settings(config: AgentsConfig) -> dict[str, Any]:
    names = ("env_arguments", "imports", "wrappers", "previous_action_reward", "elapsed_share")
    return {name: getattr(config, name) for name in names}

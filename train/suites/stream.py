"""The suite `stream`: streaming agents over sizes of an environment, policies and seeds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback

from sab_agents.checks import at_least, did_you_mean
from sab_agents.online import StreamAC
from sab_agents.streaming import open_figures
from sab_agents.train.configuration import Settings, choices
from sab_agents.train.errors import UserError, one_line
from sab_agents.train.live import figure_lines
from sab_agents.train.suites.engine import Result, Shown, Suite, Work, suite_command
from sab_agents.train.suites.study import Column, Panel, Row, Study, check_sizes, known_returns

SHOWN = 100  # episodes over which the return is shown while a cell runs
POINTS = 20  # of a learning curve; a cell's score is the mean return over the last tenth of its episodes


@dataclass(frozen=True)
class StreamConfig(Settings):
    """Settings of a suite; a cell is one policy at one value with one seed.

    Attributes:
        env: Gymnasium's id.
        argument: the argument of the environment that takes the `values`.
        values: sizes of the environment.
        policies: for each name the `policy` of `StreamAC` and that policy's settings; with `values`, it has cells at
            these only.
        env_arguments: the environment's other arguments.
        agent: arguments of `StreamAC` that all cells share.
        seeds: of agent and environment.
        episodes: episodes of a cell; one number, or one for each value.
        target: a cell ends when the mean return of its last `recent` episodes is above this; None runs all episodes.
        recent: see `target`; not used without one.
        threads: CPU threads of a cell.
    """

    env: str
    argument: str
    values: tuple[int, ...]
    policies: Mapping[str, Mapping[str, Any]] = field(metadata=choices("policy"))
    env_arguments: Mapping[str, Any] = field(default_factory=dict)
    agent: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    episodes: int | Mapping[int, int] = 10_000
    target: float | None = None
    recent: int | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        if self.env not in gym.registry:
            raise ValueError(
                f"stream: env must be a registered id, but is {self.env!r}. {did_you_mean(self.env, gym.registry)}"
            )
        for name in ("values", "seeds", "policies"):
            if not getattr(self, name):
                raise ValueError(f"stream: {name} must have at least one entry, but is empty.")
        at_least("stream", "threads", self.threads, 1)
        check_sizes("stream", "episodes", self.episodes, self.values)
        if (self.target is None) != (self.recent is None):
            raise ValueError(
                f"stream: target and recent must be set together, but are {self.target} and {self.recent}."
            )
        if self.recent is not None:
            at_least("stream", "recent", self.recent, 1)
        for name, settings in self.policies.items():
            if not isinstance(settings.get("values", []), list):
                raise ValueError(f"stream: policies: {name}: values must be a list, but is {settings['values']!r}.")
            if settings.get("policy") not in StreamAC.policy_aliases:
                raise ValueError(
                    f"stream: policies: {name} must have a policy of {', '.join(StreamAC.policy_aliases)}."
                )

    def episodes_at(self, value: int) -> int:
        """Returns the number of episodes of a cell at one of the values."""
        return self.episodes[value] if isinstance(self.episodes, Mapping) else self.episodes


class StreamCell(NamedTuple):
    """One policy at one value with one seed."""

    policy: str
    value: int
    seed: int

    @property
    def file(self) -> str:
        """The name of its file, without suffix."""
        return f"{self.policy}-{self.value}-{self.seed}"


class Stream(Suite[StreamConfig, StreamCell]):
    """Streaming agents over sizes of an environment; the score is the return over the last tenth of the episodes."""

    name = "stream"
    summary = "Runs streaming agents over sizes of an environment: one environment, one pass, no replay."
    config_class = StreamConfig

    def chains(self) -> list[tuple[StreamCell, ...]]:
        """Returns every policy at every value that it has, with every seed."""
        config = self.config
        return [
            (StreamCell(name, value, seed),)
            for value in config.values
            for name, settings in config.policies.items()
            if value in settings.get("values", config.values)
            for seed in config.seeds
        ]

    def cell_settings(self, cell: StreamCell) -> dict[str, Any]:
        """Returns the environment, the policy with its settings, and the number of episodes."""
        config = self.config
        return {
            "env": config.env,
            "argument": config.argument,
            "env_arguments": config.env_arguments,
            "policy": {key: value for key, value in config.policies[cell.policy].items() if key != "values"},
            "agent": config.agent,
            "episodes": config.episodes_at(cell.value),
            **({} if config.target is None else {"target": config.target, "recent": config.recent}),
        }

    def check(self, chains: Sequence[tuple[StreamCell, ...]]) -> None:
        """Builds each policy's agent once."""
        for cell in {chain[0].policy: chain[0] for chain in chains}.values():
            self.agent(cell)

    def agent(self, cell: StreamCell) -> StreamAC:
        """Returns the agent of a cell, at its start.

        Raises:
            UserError: a setting does not fit.
        """
        config, settings = self.config, self.cell_settings(cell)["policy"]
        policy = settings.pop("policy")
        try:
            env = gym.make(config.env, **{**config.env_arguments, config.argument: cell.value})
        except (TypeError, ValueError, gym.error.Error) as error:
            raise UserError(f"{config.env} with {config.argument} = {cell.value}: {one_line(error)}") from error
        try:
            return StreamAC(policy, env, policy_kwargs=settings, seed=cell.seed, **config.agent)
        except (TypeError, ValueError) as error:
            raise UserError(f"{cell.policy}: {one_line(error)}") from error

    def run(self, work: Work[StreamCell]) -> Iterator[tuple[StreamCell, dict[str, Any]]]:
        """Learns from the episodes of one cell, all of them or those to its target.

        The result has its score, its learning curve in `POINTS` parts, its steps and their cost, and, with a target,
        whether that was reached.
        """
        (cell,) = work.chain
        torch.set_num_threads(self.config.threads)
        agent = self.agent(cell)
        config = self.config
        title = f"{cell.policy}, {config.argument} {cell.value}, seed {cell.seed}"
        returns = _Returns(config.episodes_at(cell.value), config.target, config.recent, work.progress, title)
        with work.logger(cell, self.cell_settings(cell)) as logger:
            agent.set_logger(logger)
            started = time.process_time()
            agent.learn(2**62, returns, log_interval=max(1, config.episodes_at(cell.value) // POINTS))
            seconds = time.process_time() - started
        agent.save(work.model(cell))
        episodes = len(returns.all)
        last = max(1, episodes // 10) if config.recent is None else config.recent
        yield (
            cell,
            {
                "score": float(np.mean(returns.all[-last:])),
                "episodes": episodes,
                "curve": [float(part.mean()) for part in np.array_split(returns.all, min(POINTS, episodes))],
                "steps": agent.num_timesteps,
                "parameters": sum(optimiser.vector.numel() for optimiser in agent.optimisers),
                "microseconds_per_step": 1e6 * seconds / agent.num_timesteps,
                **({} if config.target is None else {"reached": returns.reached}),
            },
        )

    def line(self, cell: StreamCell, result: Result) -> str:
        """Returns the score and the cost of a step."""
        return (
            f"{cell.policy}, {self.config.argument} {cell.value}, seed {cell.seed}: "
            f"return {result['score']:.3f}, {result['microseconds_per_step']:.0f} µs a step"
        )

    def study(self, results: Mapping[StreamCell, Result]) -> Study:
        """Returns the scores and the learning curves."""
        config = self.config
        rows = tuple(
            Row(
                cell.policy,
                cell.value,
                cell.seed,
                {
                    "return": result["score"],
                    "steps": result["steps"],
                    "µs a step": result["microseconds_per_step"],
                    "parameters": result["parameters"],
                    **({} if config.target is None else {"solved": float(result["reached"])}),
                },
                curves={"return": _in_equal_parts(result["curve"], result["episodes"])},
            )
            for cell, result in results.items()
        )
        counts = {config.episodes_at(value) for value in config.values}
        episodes = f"{counts.pop():,}" if len(counts) == 1 else "its"
        measured = f"the last tenth of {episodes} episodes"
        if config.target is not None:
            measured = (
                f"the last {config.recent} episodes; solved is the fraction of seeds in which it rose above "
                f"{config.target:g} within {episodes} episodes, where a cell ends"
            )
        return Study(
            title=config.env,
            size=config.argument,
            values=config.values,
            learners=config.policies,
            shared={**config.env_arguments, **config.agent, "episodes": config.episodes},
            columns=(
                *([] if config.target is None else [Column("solved", "{:.0%}")]),
                Column("return", spread=True),
                *(Column(name, "{:,.0f}") for name in ("steps", "µs a step", "parameters")),
            ),
            rows=rows,
            panels=(Panel("return", "episodes", "return"),),
            known={
                value: known_returns(config.env, config.argument, value, config.env_arguments)
                for value in config.values
            },
            note=f"One environment, one pass, no replay. Return over {measured}.",
        )


class _Returns(BaseCallback):
    """Collects the return of each episode and shows it, and stops after `episodes` or when the target is reached."""

    def __init__(self, episodes: int, target: float | None, recent: int | None, shown: Shown, title: str) -> None:
        super().__init__()
        self.episodes, self.target, self.recent = episodes, target, recent
        self.shown, self.title = shown, title
        self.all: list[float] = []

    @property
    def reached(self) -> bool:
        """Whether the mean of the last `recent` episodes, all of which are over, is above the target."""
        if self.target is None or self.recent is None or len(self.all) < self.recent:
            return False
        return float(np.mean(self.all[-self.recent :])) > self.target

    def _on_step(self) -> bool:
        if not self.locals["dones"][0]:
            return True
        self.all.append(float(self.locals["infos"][0]["episode"]["r"]))
        mean = float(np.mean(self.all[-SHOWN:]))
        self.shown(len(self.all) / self.episodes, f"return {mean:.3g}, mean of the latest {SHOWN} episodes", self.lines)
        return len(self.all) < self.episodes and not self.reached

    def lines(self) -> list[str]:
        """Returns what the memory of the agent's policy does."""
        assert isinstance(self.model, StreamAC)
        return [
            f"{self.title}, {self.num_timesteps:,} steps",
            *figure_lines(open_figures(self.model.policy.actor_stream)),
        ]


def _in_equal_parts(means: Sequence[float], whole: int) -> list[tuple[float, float]]:
    """Returns a curve of means over equal parts, each placed at the end of its part."""
    return [(whole * (part + 1) / len(means), mean) for part, mean in enumerate(means)]


suite = Stream
command = partial(suite_command, suite)

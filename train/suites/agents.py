"""The suite `agents`: PPO agents over sizes of an environment, learners and seeds."""

from __future__ import annotations

import importlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import mul
from typing import Any, NamedTuple

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sab_agents.checks import at_least
from sab_agents.ppo import RecurrentPPO
from sab_agents.train.configuration import Settings, as_json, choices, plain
from sab_agents.train.errors import UserError, one_line
from sab_agents.train.suites.engine import Result, Suite, Work, suite_command
from sab_agents.train.suites.episodes import Ended, ending, evaluate_lengths, sized_vec_env
from sab_agents.train.suites.study import Column, Panel, Row, Study, Value, check_sizes, known_returns

ALGORITHMS = ("sab_agents", "sb3_contrib")
"""Packages that have a `RecurrentPPO`."""
CHANGEABLE = ("ent_coef", "gamma", "learning_rate")
"""Arguments of `RecurrentPPO` that may differ by size, also where an agent continues from size to size."""
POINTS = 40  # of a learning curve, at most
TEST_SEED = 10_000  # plus the agent's, so that a test's episodes are not those of training


@dataclass(frozen=True)
class AgentsConfig(Settings):
    """Settings of a suite; a cell is one learner at one value with one seed.

    Attributes:
        env: Gymnasium's id; with "{}" in it, it is replaced by the values.
        values: sizes of the environment.
        learners: for each name its `policy`, and what it does not share: `algorithm` ("sab_agents" or "sb3_contrib"),
            `policy_kwargs` (where a `features_extractor_class` is named as module.Class), arguments of `RecurrentPPO`;
            and `tested`, false where tests would take too long.
        success: an episode succeeds when its return is at least this number, or when `info` is true under this key.
        argument: the argument of the environment that takes the values; none if they are part of the id.
        env_arguments: the environment's other arguments.
        imports: modules that register environments.
        wrappers: of each copy, the innermost first: names in `sab_agents.vec_env.make.WRAPPERS`.
        previous_action_reward: whether the previous action and reward are observed.
        elapsed_share: whether the elapsed fraction of the longest episode is observed.
        normalize: whether observations are normalised to mean 0 and standard deviation 1, by `VecNormalize`.
        normalize_reward: whether rewards are divided by the running standard deviation of discounted returns, by the
            same; reported returns are as the environment gives them.
        num_envs: copies of the environment.
        shared: arguments of `RecurrentPPO` that all learners share; a learner's own take precedence.
        at_values: replacements of `shared` at a value, of ent_coef, gamma and learning_rate.
        anneal: whether the learning rate decreases to 0 along the budget.
        curriculum: whether an agent continues from one of the `values` to the next when it has reached the target; its
            weights, optimiser and statistics of observations are kept. It ends where it does not reach the target.
        seeds: of agent and environment.
        steps: budget of a cell, steps of all copies together; one number, or one for each value.
        recent: episodes over which success is measured.
        target: a cell ends when this fraction of its last `recent` episodes succeeded; none never ends it.
        test_values: sizes at which the trained agent is tested; a list, or one for each value that is to be tested.
        test_arguments: the environment's arguments that differ in tests, such as {split: test}.
        test_episodes: episodes of a test.
        threads: CPU threads of a cell.
    """

    env: str
    values: tuple[int | str, ...]
    learners: Mapping[str, Mapping[str, Any]] = field(metadata=choices("learner"))
    success: int | float | str
    argument: str | None = None
    env_arguments: Mapping[str, Any] = field(default_factory=dict)
    imports: tuple[str, ...] = ()
    wrappers: tuple[str, ...] = ()
    previous_action_reward: bool = False
    elapsed_share: bool = False
    normalize: bool = False
    normalize_reward: bool = False
    num_envs: int = 16
    shared: Mapping[str, Any] = field(default_factory=dict)
    at_values: Mapping[int | str, Mapping[str, float]] = field(default_factory=dict)
    anneal: bool = False
    curriculum: bool = False
    seeds: tuple[int, ...] = (0,)
    steps: int | Mapping[int | str, int] = 100_000
    recent: int = 100
    target: float | None = None
    test_values: tuple[int | str, ...] | Mapping[int | str, tuple[int | str, ...]] = ()
    test_arguments: Mapping[str, Any] = field(default_factory=dict)
    test_episodes: int = 100
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("num_envs", "recent", "test_episodes", "threads"):
            at_least("agents", name, getattr(self, name), 1)
        for name in ("values", "learners", "seeds"):
            if not getattr(self, name):
                raise ValueError(f"agents: {name} must have at least one entry, but is empty.")
        if self.target is not None and not 0 < self.target <= 1:
            raise ValueError(f"agents: target must be above 0 and at most 1, but is {self.target!r}.")
        if self.curriculum and self.target is None:
            raise ValueError(
                "agents: curriculum: an agent continues when it has reached the target, but there is none. Set target."
            )
        if self.curriculum and self.anneal:
            raise ValueError("agents: anneal: the budgets of a curriculum are not used up. Leave one of the two out.")
        if (self.argument is None) == ("{}" not in self.env):
            raise ValueError(
                f"agents: the values must go to one place, but argument is {self.argument!r} and env is {self.env!r}. "
                "Name an argument of the environment, or put {} into its id."
            )
        check_sizes("agents", "steps", self.steps, self.values)
        for value, changes in self.at_values.items():
            for name in changes:
                if name not in CHANGEABLE:
                    raise ValueError(
                        f"agents: at_values: {value}: must map {', '.join(CHANGEABLE)} to a number, but has {name}."
                    )
        for name, settings in self.learners.items():
            self._check_learner(name, settings)

    def _check_learner(self, name: str, settings: Mapping[str, Any]) -> None:
        if "/" in name:
            raise ValueError(
                f"agents: learners: a name is part of a file's, so it must have no '/', but has: '{name}'."
            )
        if not isinstance(settings.get("policy"), str):
            raise ValueError(f"agents: learners: {name} must have a policy, such as MlpSabPolicy.")
        if not isinstance(settings.get("tested", True), bool):
            raise ValueError(f"agents: learners: {name}: tested must be true or false, but is {settings['tested']!r}.")
        if (algorithm := settings.get("algorithm", ALGORITHMS[0])) not in ALGORITHMS:
            raise ValueError(
                f"agents: learners: {name}: algorithm must be one of {', '.join(ALGORITHMS)}, but is {algorithm}."
            )

    def tests_after(self, learner: str, value: Value) -> tuple[Value, ...]:
        """Returns the sizes at which an agent that was trained at this value is tested."""
        if not self.learners[learner].get("tested", True):
            return ()
        return self.test_values.get(value, ()) if isinstance(self.test_values, Mapping) else self.test_values

    def budget(self, value: Value) -> int:
        """Returns the steps of a cell at this value."""
        return self.steps[value] if isinstance(self.steps, Mapping) else self.steps

    def agent_settings(self, learner: str, value: Value) -> dict[str, Any]:
        """Returns what a learner is built with: its algorithm, its policy, and the arguments of `RecurrentPPO`."""
        own = {name: setting for name, setting in self.learners[learner].items() if name != "tested"}
        policy = {**self.shared.get("policy_kwargs", {}), **own.get("policy_kwargs", {})}
        changes = self.at_values.get(value, {})
        return {"algorithm": ALGORITHMS[0], **self.shared, **changes, **own, "policy_kwargs": policy}

    def environment_settings(self) -> dict[str, Any]:
        """Returns the arguments of `sized_vec_env` that all sizes have."""
        return {
            "env_arguments": self.env_arguments,
            "imports": self.imports,
            "wrappers": self.wrappers,
            "previous_action_reward": self.previous_action_reward,
            "elapsed_time": self.elapsed_share,
        }


class AgentsCell(NamedTuple):
    """One learner at one value with one seed."""

    learner: str
    value: Value
    seed: int

    @property
    def file(self) -> str:
        """The name of its file, without suffix."""
        return f"{self.learner}-{self.value}-{self.seed}"


class Agents(Suite[AgentsConfig, AgentsCell]):
    """PPO agents over sizes of an environment; in a curriculum, an agent's cells are a chain."""

    name = "agents"
    summary = "Runs PPO agents over sizes of an environment, learners and seeds."
    config_class = AgentsConfig

    def chains(self) -> list[tuple[AgentsCell, ...]]:
        """Returns the cells that each agent runs through."""
        config = self.config
        if config.curriculum:
            return [
                tuple(AgentsCell(learner, value, seed) for value in config.values)
                for learner in config.learners
                for seed in config.seeds
            ]
        return [
            (AgentsCell(learner, value, seed),)
            for value in config.values
            for learner in config.learners
            for seed in config.seeds
        ]

    def cell_settings(self, cell: AgentsCell) -> dict[str, Any]:
        """Returns the environment, the learner's arguments, the budget, the tests, and the sizes before this one."""
        config = self.config
        left_out = ("values", "learners", "shared", "seeds", "threads", "at_values", "curriculum", "test_values")
        kept = {name: value for name, value in as_json(config).items() if name not in left_out}
        if not config.test_arguments:
            del kept["test_arguments"]
        before = config.values[: config.values.index(cell.value)] if config.curriculum else ()
        own = {
            "steps": config.budget(cell.value),
            "test_values": list(config.tests_after(cell.learner, cell.value)),
            "learner": plain(config.agent_settings(cell.learner, cell.value)),
            "after": list(before),
        }
        return {**kept, **own}

    def check(self, chains: Sequence[tuple[AgentsCell, ...]]) -> None:
        """Builds each learner's agent once."""
        for cell in {chain[0].learner: chain[0] for chain in chains}.values():
            self.agent(cell).get_env().close()

    def is_over(self, results: Sequence[Result | None]) -> bool:
        """Returns whether the agent ran through every cell, or through those up to the first whose target it missed."""
        for result in results:
            if result is None:
                return False
            if not result["reached"]:
                break
        return True

    def agent(self, cell: AgentsCell) -> Any:
        """Returns the agent of a cell, at its start, with its environment.

        Raises:
            UserError: a setting does not fit, or the package of the algorithm is not installed.
        """
        settings = self.config.agent_settings(cell.learner, cell.value)
        package, policy = settings.pop("algorithm"), settings.pop("policy")
        try:
            algorithm = importlib.import_module(package).RecurrentPPO
        except ImportError as error:
            name = package.replace("_", "-")
            raise UserError(
                f"{cell.learner}: {package} is not installed. pip install {name}, or leave it out."
            ) from error
        env = self.environment(cell.value)
        try:
            if isinstance(extractor := settings["policy_kwargs"].get("features_extractor_class"), str):
                settings["policy_kwargs"]["features_extractor_class"] = _class_of(extractor)
            model = algorithm(policy, env, seed=cell.seed, **settings)
        except (TypeError, ValueError) as error:
            raise UserError(f"{cell.learner}: {one_line(error)}") from error
        if self.config.anneal:
            model.learning_rate = partial(mul, model.learning_rate)  # times the fraction of the budget that remains
            model._setup_lr_schedule()
        return model

    def environment(self, value: Value) -> VecEnv:
        """Returns the environments of a cell at this value.

        Raises:
            UserError: see `sized_vec_env`.
        """
        config = self.config
        made = sized_vec_env(config.env, config.argument, value, config.num_envs, **config.environment_settings())
        if not (config.normalize or config.normalize_reward):
            return made
        gamma = {**config.shared, **config.at_values.get(value, {})}.get("gamma", 0.99)
        return VecNormalize(made, norm_obs=config.normalize, norm_reward=config.normalize_reward, gamma=gamma)

    def run(self, work: Work[AgentsCell]) -> Iterator[tuple[AgentsCell, dict[str, Any]]]:
        """Trains one agent in the cells of its chain in order, as long as it reaches its target.

        A result has success and return over the last episodes; steps and seconds from the chain's first to the target
        or the end of the budget; the learning curve in at most `POINTS` parts, whose steps and seconds are the cell's
        own; the tests by value.
        """
        config = self.config
        torch.set_num_threads(config.threads)
        model = self.agent(work.chain[0])
        seconds = processor = 0.0
        for number, cell in enumerate(work.chain):
            if number:
                self._continue(cell, model)
            watch = Watch(config.success, config.recent, config.target)
            watch.shown = partial(self._show, work, number, watch)
            started, processor_started = time.perf_counter(), time.process_time()
            with work.logger(cell, self.cell_settings(cell)) as logger:
                model.set_logger(logger)
                model.learn(config.budget(cell.value), watch, reset_num_timesteps=not number)
            seconds += time.perf_counter() - started
            processor += time.process_time() - processor_started
            # What it takes to credit the past would be most of the file, and is not needed to act.
            model.save(work.model(cell), exclude=["contexts"] if isinstance(model, RecurrentPPO) else None)
            times = {"seconds": round(seconds, 1), "processor_seconds": round(processor, 1)}
            yield cell, {**self._result(cell, model, watch), **times}
            if not watch.reached:
                break
        model.get_env().close()

    def _show(self, work: Work[AgentsCell], number: int, watch: Watch) -> None:
        """Shows how far a chain is at the end of an episode in its cell of that number."""
        cell = work.chain[number]
        success, total = watch.score
        title = f"{cell.learner}, {self.config.argument or 'size'} {cell.value}, seed {cell.seed}"
        done = min(watch.points[-1].steps / self.config.budget(cell.value), 1.0)
        work.progress((number + done) / len(work.chain), f"success {success:.0%}, return {total:.3g} · {title}", None)

    def _continue(self, cell: AgentsCell, model: Any) -> None:
        """Puts an agent into its next cell's environment, with that cell's settings and the agent's statistics."""
        before, after = model.get_env(), self.environment(cell.value)
        if isinstance(after, VecNormalize):
            after.ret_rms = before.ret_rms
            if after.norm_obs:
                after.obs_rms = before.obs_rms
        before.close()
        after.seed(cell.seed)  # or the episodes to come would differ from run to run
        model.set_env(after)
        settings = self.config.agent_settings(cell.learner, cell.value)
        for name in CHANGEABLE:
            if name in settings:
                setattr(model, name, settings[name])
        model.rollout_buffer.gamma = model.gamma
        model._setup_lr_schedule()

    def _result(self, cell: AgentsCell, model: Any, watch: Watch) -> dict[str, Any]:
        config = self.config
        budget = config.budget(cell.value)
        if not watch.points:
            raise UserError(f"{cell.learner}, {cell.value}: no episode was over within {budget:,} steps. Raise steps.")
        success, total = watch.score
        environment = config.environment_settings()
        tests = evaluate_lengths(
            model,
            config.env,
            config.argument,
            config.tests_after(cell.learner, cell.value),
            config.test_episodes,
            success=config.success,
            seed=TEST_SEED + cell.seed,
            **{**environment, "env_arguments": {**config.env_arguments, **config.test_arguments}},
        )
        return {
            "success": success,
            "return": total,
            "reached": watch.reached,
            "episodes": len(watch.points),
            "steps": model.num_timesteps,
            "parameters": sum(parameter.numel() for parameter in model.policy.parameters()),
            "curve": curve_of(watch.points, budget),
            "tests": {str(value): tested for value, tested in tests.items()},
        }

    def line(self, cell: AgentsCell, result: Result) -> str:
        """Returns success and return."""
        return (
            f"{cell.learner}, {self.config.argument or 'size'} {cell.value}, seed {cell.seed}: "
            f"success {result['success']:.1%}, return {result['return']:.3f} after {result['steps']:,} steps, "
            f"{result['seconds']:,.0f} s"
        )

    def study(self, results: Mapping[AgentsCell, Result]) -> Study:
        """Returns returns and successes, their curves, and the tests."""
        config = self.config
        rows = tuple(
            Row(
                cell.learner,
                cell.value,
                cell.seed,
                {
                    "return": result["return"],
                    "success": result["success"],
                    "steps": result["steps"],
                    "minutes": result["processor_seconds"] / 60,
                },
                result["reached"],
                curves={
                    what: [(point["steps"], point[what]) for point in result["curve"]] for what in ("success", "return")
                },
                tests={value: test["success"] for value, test in result["tests"].items()},
            )
            for cell, result in results.items()
        )
        progress = "environment steps, all copies"
        return Study(
            title=config.env,
            size=config.argument or "size",
            values=config.values,
            learners=config.learners,
            shared={**config.env_arguments, "num_envs": config.num_envs, **config.shared},
            columns=(
                Column("return", spread=True),
                Column("success", "{:.1%}", spread=True),
                Column("steps", "{:,.0f}"),
                Column("minutes", "{:.1f}"),
            ),
            rows=rows,
            panels=(Panel("success", progress, "success", known=False), Panel("return", progress, "return")),
            target=config.target,
            known={
                value: known_returns(config.env, config.argument, value, config.env_arguments)
                for value in config.values
            },
            note=self._note(),
        )

    def _note(self) -> str:
        config = self.config
        rule = f"`{config.success}`" if isinstance(config.success, str) else f"a return of at least {config.success:g}"
        budgets = list(dict.fromkeys(f"{config.budget(value):,}" for value in config.values))
        stop = "" if config.target is None else f"the target of {config.target:.0%} or "
        note = (
            f"Return and success ({rule}) over the last {config.recent} episodes of training. Steps of "
            f"{config.num_envs} copies together, to {stop}the end of the budget ({', '.join(budgets)}). "
            "Minutes of processor time."
        )
        if config.test_arguments:
            tested = ", ".join(f"{name} = {value}" for name, value in config.test_arguments.items())
            note += f" Tests: {config.test_episodes} episodes with {tested}."
        if not config.curriculum:
            return note
        return (
            f"{note} An agent continues to the next size when it has reached the target, and ends where it does not: "
            "steps and minutes are counted from its start, and all numbers but that of the seeds are those of the "
            "agents that got this far."
        )


def _class_of(name: str) -> Any:
    """Returns the class that is named as module.Class.

    Raises:
        ValueError: there is no such module or class.
    """
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"features_extractor_class must be the name of a class, but is {name!r}: {error}.") from error


class Point(NamedTuple):
    """An episode, and when it ended: after how many steps of all copies, and how many seconds, of this training."""

    steps: int
    seconds: float
    ended: Ended


class Watch(BaseCallback):
    """Records each episode, and ends the training when the target is reached.

    Args:
        success: see `episodes.ending`.
        recent: episodes over which success is measured.
        target: fraction of them that must succeed; None never ends the training.
    """

    def __init__(self, success: float | str, recent: int, target: float | None) -> None:
        super().__init__()
        self.success, self.target = success, target
        self.points: list[Point] = []
        self.reached = False
        self._recent: deque[Ended] = deque(maxlen=recent)
        self.shown: Callable[[], None] = lambda: None
        self._started, self._first = time.perf_counter(), 0

    def _on_training_start(self) -> None:
        self._started, self._first = time.perf_counter(), self.num_timesteps

    def _on_step(self) -> bool:
        copies = np.flatnonzero(self.locals["dones"])
        for copy in copies:
            ended = ending(self.locals["infos"][copy], self.success)
            self.points.append(Point(self.num_timesteps - self._first, time.perf_counter() - self._started, ended))
            self._recent.append(ended)
        if len(copies):
            self.shown()
        if len(copies) and self.target is not None and len(self._recent) == self._recent.maxlen:
            self.reached = self.score[0] >= self.target  # of all copies that ended in this step, not of some
        return not self.reached

    def _on_rollout_end(self) -> None:
        if self._recent:
            self.logger.record("rollout/success", self.score[0])

    @property
    def score(self) -> tuple[float, float]:
        """Fraction of successes and mean return of the recent episodes, of which there must be one."""
        return float(np.mean([each.success for each in self._recent])), float(
            np.mean([each.total for each in self._recent])
        )


def curve_of(points: Sequence[Point], budget: int) -> list[dict[str, float]]:
    """Returns the learning curve: means over the episodes that ended within each of `POINTS` equal parts of the budget.

    Parts in which no episode ended are left out; `steps` and `seconds` are those of the last episode of a part.
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


suite = Agents
command = partial(suite_command, suite)

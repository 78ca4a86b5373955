"""`sab-agents bench peers`: whole runs of recurrent PPO, from the first step to a solved task, beside peers'."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import torch
from rich.table import Table
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sab_agents import RecurrentPPO
from sab_agents.checks import did_you_mean
from sab_agents.ppo.extractors import SmallCNN
from sab_agents.train.bench.agents import REPAIRED, STOCK, Agent, contrib, repaired
from sab_agents.train.bench.clean_loop import CleanLoop
from sab_agents.train.bench.timing import clock
from sab_agents.train.commands.arguments import Parser, at_least_one
from sab_agents.train.errors import UserError
from sab_agents.train.output import terminal, write_json
from sab_agents.vec_env.make import make_vec_env

CLEAN, SKRL, TORCHRL = "cleanrl-style", "skrl", "torchrl"
OURS = MappingProxyType({"SAB": "Sab", "LSTM": "Lstm", "GRU": "Gru"})
SIDES = (*OURS, STOCK, REPAIRED, CLEAN, SKRL, TORCHRL)
"""Every side, in the order in which they take turns."""

LOOPS = MappingProxyType({SKRL: "SkrlLoop", TORCHRL: "TorchRLLoop"})
"""The classes of packages that need not be there, each in a module named after its package."""

RECENT = 100
"""Episodes over which a task must be solved."""


class Learner(Protocol):
    """What is timed."""

    @property
    def parameters(self) -> int:
        """How many parameters it learns."""

    @property
    def steps_of_a_rollout(self) -> int:
        """Of all environments together."""

    @property
    def returns(self) -> Iterable[float]:
        """Of the recent episodes, at most 100."""

    def collect(self) -> None:
        """Collects the next rollout."""

    def learn(self, seed: int) -> None:
        """Learns from it; the seed is of the minibatches."""


@dataclass(frozen=True)
class Task:
    """A task and the settings of all sides; see `configs/agents/`.

    Attributes:
        env_id: Gymnasium's.
        settings: of PPO.
        hidden_size: of each core.
        arguments: of the environment.
        wrappers: see `make_vector_env`.
        observe: more of the environment: "previous_action_reward" and "elapsed_time".
        normalize: whether observations are normalised; images are not.
        normalize_reward: whether rewards are.
        images: whether observations are images.
        success: return from which an episode counts as solved; None takes the mean return itself.
        target: what the mean over 100 episodes must reach: a fraction of successes, or a return.
        envs: environments.
    """

    env_id: str
    settings: Mapping[str, Any]
    hidden_size: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    wrappers: tuple[str, ...] = ()
    observe: tuple[str, ...] = ()
    normalize: bool = False
    normalize_reward: bool = False
    images: bool = False
    success: float | None = 0.99
    target: float = 0.99
    envs: int = 16

    def env(self) -> VecEnv:
        """Returns the environments."""
        observed = dict.fromkeys(self.observe, True)
        env: VecEnv = make_vec_env(self.env_id, self.envs, self.arguments, wrappers=self.wrappers, **observed)
        if self.normalize or self.normalize_reward:
            gamma = self.settings["gamma"]
            env = VecNormalize(env, norm_obs=self.normalize, norm_reward=self.normalize_reward, gamma=gamma)
        return env

    def sized(self, envs: int | None, n_steps: int | None) -> Task:
        """Returns the task with other sizes of a rollout, and as many minibatches as far as rows are not cut."""
        now, before = (envs or self.envs, n_steps or self.settings["n_steps"]), self.envs * self.settings["n_steps"]
        batch_size = now[1] * max(1, self.settings["batch_size"] * now[0] // before)
        return replace(self, envs=now[0], settings={**self.settings, "n_steps": now[1], "batch_size": batch_size})

    def score(self, returns: Iterable[float]) -> float:
        """Returns what is compared with the target; NaN without episodes."""
        found = [each if self.success is None else float(each >= self.success) for each in returns]
        return statistics.fmean(found) if found else float("nan")


COMMON = {"gamma": 0.99, "gae_lambda": 0.95}
TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "tmaze": Task(
            "SAB/PassiveTMaze-v0",
            COMMON | {"n_steps": 128, "batch_size": 512, "n_epochs": 4, "learning_rate": 0.003, "ent_coef": 0.1},
            hidden_size=32,
            arguments={"corridor_length": 50},
            observe=("previous_action_reward", "elapsed_time"),
            normalize=True,
        ),
        "cartpole": Task(
            "CartPole-v1",
            COMMON | {"n_steps": 64, "batch_size": 512, "n_epochs": 8, "learning_rate": 0.002, "ent_coef": 0.0},
            hidden_size=32,
            wrappers=("mask_velocity",),
            normalize=True,
            normalize_reward=True,
            success=None,
            target=475,
        ),
        "images": Task(
            "SAB/DigitTMaze-v0",
            COMMON | {"n_steps": 128, "batch_size": 512, "n_epochs": 4, "learning_rate": 0.001, "ent_coef": 0.05},
            hidden_size=64,
            arguments={"corridor_length": 10, "image": True},
            images=True,
        ),
    }
)


class Timed(Agent):
    """An agent of stable-baselines3's kind as a `Learner`."""

    @property
    def steps_of_a_rollout(self) -> int:
        """Of all environments together."""
        return int(self.model.n_steps * self.model.n_envs)

    @property
    def returns(self) -> list[float]:
        """Of the recent episodes."""
        return [episode["r"] for episode in self.model.ep_info_buffer]


@dataclass(frozen=True)
class Run:
    """What one side did on one task with one seed.

    Attributes:
        task: its name.
        side: one of `SIDES`.
        seed: of everything.
        parameters: number of learnt parameters.
        steps: of the environments.
        collecting: seconds, see `clock`.
        learning: seconds.
        score: at the end; None if no episode has ended.
        solved: seconds of collecting and learning until the target was reached; None if it was not.
    """

    task: str
    side: str
    seed: int
    parameters: int
    steps: int
    collecting: float
    learning: float
    score: float | None
    solved: float | None


def build(side: str, task: Task, seed: int) -> Learner:
    """Returns the agent of one of `SIDES`.

    Raises:
        UserError: it is of a package that is not installed.
    """
    if side == CLEAN or side in LOOPS:
        extractor: Any = SmallCNN if task.images else FlattenExtractor
        loop = CleanLoop if side == CLEAN else loop_of(side)
        return loop(task.env(), task.settings, task.hidden_size, extractor, seed)
    prefix, maker = "Cnn" if task.images else "Mlp", RecurrentPPO
    policy: Any = f"{prefix}{OURS.get(side, 'Lstm')}Policy"
    if side not in OURS:
        maker = contrib().RecurrentPPO
        policy = maker.policy_aliases[policy]
        policy = repaired(policy) if side == REPAIRED else policy
    network: dict[str, Any] = {"lstm_hidden_size": task.hidden_size, "net_arch": []}
    if task.images:
        network["features_extractor_class"] = SmallCNN
    return Timed(maker(policy, task.env(), policy_kwargs=network, seed=seed, device="cpu", **task.settings))


def loop_of(side: str) -> Any:
    """Returns the class of a side of `LOOPS`.

    Raises:
        UserError: its package is not installed.
    """
    try:
        return getattr(import_module(f"sab_agents.train.bench.{side}_loop"), LOOPS[side])
    except ImportError as error:
        raise UserError(
            f"bench peers: compares with {side}, which is not installed. Run: pip install 'sab-agents[peers]'."
        ) from error


def run(name: str, task: Task, side: str, seed: int, most: float) -> Run:
    """Trains until the target is reached, for at most this many seconds of `clock`.

    A rollout and an update come first, which are not timed: they warm up what is made at the first call.
    """
    learner = build(side, task, seed)
    learner.collect()
    learner.learn(seed)
    steps, collecting, learning, rollout = 0, 0.0, 0.0, 0
    reached = False
    while not reached and (rollout == 0 or collecting + learning < most):
        rollout += 1
        start = clock()
        learner.collect()
        collected = clock()
        learner.learn(seed + 1000 * rollout)
        learning += clock() - collected
        collecting += collected - start
        steps += learner.steps_of_a_rollout
        returns = list(learner.returns)
        reached = len(returns) >= RECENT and task.score(returns) >= task.target
    solved = collecting + learning if reached else None
    score = task.score(learner.returns)
    ended = None if math.isnan(score) else score
    return Run(name, side, seed, learner.parameters, steps, collecting, learning, ended, solved)


def command(arguments: Sequence[str]) -> int:
    """Trains the agents in turn and prints how they compare."""
    parser = Parser(
        "bench peers",
        "Trains recurrent agents from the first step to a solved task: RecurrentPPO with three cores, sb3-contrib's as "
        "it is and repaired, skrl's, TorchRL's, and a plain loop in CleanRL's way, with the same environments, sizes "
        "and settings. One thread is timed by the processor.",
    )
    parser.add_argument("tasks", nargs="*", default=list(TASKS), metavar="TASK", help=f"of {', '.join(TASKS)}")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES, metavar="SIDE", help=", ".join(SIDES))
    parser.add_argument("--seeds", type=at_least_one, default=1, help="runs of each; default: 1")
    parser.add_argument("--seconds", type=at_least_one, default=30, help="most seconds of a run; default: 30")
    parser.add_argument("--envs", type=at_least_one, help="environments; default: the task's, 16")
    parser.add_argument("--steps", type=at_least_one, help="of a rollout in each; default: the task's, 64 or 128")
    parser.add_argument("--threads", type=at_least_one, default=1, help="of torch, for all sides; default: 1")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="keep the runs in this file; those that it has are not repeated"
    )
    given = parser.parse(arguments)
    for name in given.tasks:
        if name not in TASKS:
            raise UserError(f"bench peers: there is no task {name!r}. {did_you_mean(name, TASKS)}")
    if {STOCK, REPAIRED} & set(given.sides):
        contrib()
    for side in LOOPS.keys() & set(given.sides):
        loop_of(side)
    same = {"torch": torch.__version__} | {
        name: getattr(given, name) for name in ("seconds", "threads", "envs", "steps")
    }
    runs = [] if given.json is None else kept_runs(given.json, same)
    done = {(each.task, each.seed, each.side) for each in runs}
    wanted = [
        (name, seed, side)
        for name in given.tasks
        for seed in range(given.seeds)
        for side in given.sides
        if (name, seed, side) not in done
    ]
    console, before = terminal(), torch.get_num_threads()
    torch.set_num_threads(given.threads)
    try:
        with console.status("training …") as status:
            for name, seed, side in wanted:
                status.update(f"{name}, seed {seed}: {side} …")
                runs.append(run(name, TASKS[name].sized(given.envs, given.steps), side, seed, given.seconds))
                if given.json is not None:
                    write_json(given.json, same | {"runs": [asdict(each) for each in runs]})
    finally:
        torch.set_num_threads(before)
    console.print(peers_table(runs))
    return 0


def kept_runs(file: Path, same: Mapping[str, Any]) -> list[Run]:
    """Returns the runs that a file of `bench peers` holds; none if there is no file yet.

    Args:
        file: JSON.
        same: what must be the same for runs to be compared.

    Raises:
        UserError: it is no such file, or its runs were made otherwise.
    """
    if not file.exists():
        return []
    try:
        found = json.loads(file.read_text())
        runs = [Run(**each) for each in found["runs"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"bench peers: {file} holds no runs of it. Choose another file.") from error
    for name, value in same.items():
        if found.get(name) != value:
            raise UserError(
                f"bench peers: the runs in {file} have {name} {found.get(name)}, these {value}. Choose another file."
            )
    return runs


def peers_table(runs: Sequence[Run]) -> Table:
    """Returns the runs as a table: medians over the seeds."""
    table = Table(title="Recurrent PPO, whole runs: steps a second, and seconds to the target; medians of the seeds")
    for heading in ("task", "side", "parameters", "collecting", "learning", "in all", "solved", "seconds", "score"):
        left = heading in {"task", "side"}
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    groups: dict[tuple[str, str], list[Run]] = {}
    for each in runs:
        groups.setdefault((each.task, each.side), []).append(each)
    for (task, side), found in groups.items():
        median = partial(_median, found)
        solved = [each.solved for each in found if each.solved is not None]
        scores = [each.score for each in found if each.score is not None]
        table.add_row(
            task,
            side,
            f"{found[0].parameters:,}",
            f"{median(lambda each: each.steps / each.collecting):,.0f}",
            f"{median(lambda each: each.steps / each.learning):,.0f}",
            f"{median(lambda each: each.steps / (each.collecting + each.learning)):,.0f}",
            f"{len(solved)} of {len(found)}",
            f"{statistics.median(solved):.1f}" if solved else "-",
            f"{statistics.median(scores):.2f}" if scores else "-",
        )
    return table


def _median(runs: Sequence[Run], figure: Callable[[Run], float]) -> float:
    return statistics.median(map(figure, runs))

"""`sab-agents bench agents`: RecurrentPPO against stable-baselines3-contrib's, learning and collecting apart."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from stable_baselines3.common.vec_env import VecEnv

from sab_agents import RecurrentPPO
from sab_agents.train.bench.device import add_device, name_of
from sab_agents.train.bench.timing import Timing, clock, finished, thread_counts
from sab_agents.train.commands.arguments import Parser, at_least_one
from sab_agents.train.device import device_of
from sab_agents.train.errors import UserError
from sab_agents.train.output import terminal, write_json
from sab_agents.vec_env.make import make_vec_env

STOCK, REPAIRED, LSTM, SAB = "sb3-contrib", "sb3-contrib, repaired", "MlpLstmPolicy", "MlpSabPolicy"
SIDES = (STOCK, REPAIRED, LSTM, SAB)
"""Every side, in the order in which they take turns."""
MAZES = (50, 500)
PARTS = ("learning", "collecting")


@dataclass(frozen=True)
class Row:
    """One side's times for a rollout, at its better thread count.

    Attributes:
        corridor_length: of the maze.
        side: one of `SIDES`.
        part: one of `PARTS`.
        parameters: number of learnt parameters.
        seconds: median of the rounds.
        low: the fastest round's.
        high: the slowest round's.
        threads: at which it was measured.
        to_stock: how many times as fast as stock sb3-contrib.
        to_repaired: how many times as fast as the repaired one.
    """

    corridor_length: int
    side: str
    part: str
    parameters: int
    seconds: float
    low: float
    high: float
    threads: int
    to_stock: float
    to_repaired: float


@dataclass(frozen=True)
class Sizes:
    """The work of every side.

    Attributes:
        corridor_length: of `SAB/PassiveTMaze-v0`, whose episodes are one step longer.
        envs: environments.
        n_steps: of a rollout in each environment.
        batch_size: steps of a minibatch.
        n_epochs: passes over a rollout.
        hidden_size: of the actor's and the critic's LSTM.
        device: of the networks.
    """

    corridor_length: int
    envs: int = 8
    n_steps: int = 128
    batch_size: int = 128
    n_epochs: int = 10
    hidden_size: int = 256
    device: str = "cpu"

    @property
    def rollouts(self) -> int:
        """How many rollouts span about one episode, so that starts of episodes are neither rare nor frequent."""
        return max(1, round((self.corridor_length + 1) / self.n_steps))

    def env(self) -> VecEnv:
        """Returns the environments."""
        return make_vec_env("SAB/PassiveTMaze-v0", self.envs, {"corridor_length": self.corridor_length})


class Agent:
    """An agent whose rollouts and updates can be run one by one.

    Args:
        model: of stable-baselines3's kind.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        _, self._callback = model._setup_learn(1, None)
        self._callback.on_training_start(locals(), globals())
        self._weights = deepcopy(model.policy.state_dict())

    @property
    def parameters(self) -> int:
        """How many parameters it learns."""
        return sum(parameter.numel() for parameter in self.model.policy.parameters())

    def collect(self) -> None:
        """Collects the next rollout."""
        model = self.model
        assert model.collect_rollouts(model.env, self._callback, model.rollout_buffer, model.n_steps)
        finished(model.device.type)

    def learn(self, seed: int) -> None:
        """Learns from the rollout; the seed is of the minibatches."""
        np.random.seed(seed)
        self.model.train()
        finished(self.model.device.type)

    def restore(self) -> None:
        """Restores the initial weights, so that the next round has the same work."""
        self.model.policy.load_state_dict(self._weights)


def contrib() -> Any:
    """Returns the package `sb3_contrib`.

    Raises:
        UserError: it is not installed.
    """
    try:
        return import_module("sb3_contrib")
    except ImportError as error:
        raise UserError(
            "bench agents: compares with sb3-contrib, which is not installed. Run: pip install 'sab-agents[peers]'."
        ) from error


def build(side: str, sizes: Sizes, seed: int = 0) -> Agent:
    """Returns the agent of one of `SIDES`.

    Raises:
        UserError: it is sb3-contrib's, which is not installed.
    """
    network: dict[str, Any] = {"lstm_hidden_size": sizes.hidden_size}
    maker: Any = RecurrentPPO
    policy: Any = side
    if side in {STOCK, REPAIRED}:
        maker = contrib().RecurrentPPO
        stock = maker.policy_aliases["MlpLstmPolicy"]
        policy = stock if side == STOCK else repaired(stock)
    elif side == SAB:
        network["core_kwargs"] = {"attention_size": 32, "top_k": 4, "capacity": 64}
    settings = {"n_steps": sizes.n_steps, "batch_size": sizes.batch_size, "n_epochs": sizes.n_epochs}
    return Agent(maker(policy, sizes.env(), policy_kwargs=network, seed=seed, device=sizes.device, **settings))


def repaired(policy: type[Any]) -> type[Any]:
    """Returns sb3-contrib's policy with one call of `nn.LSTM` for each minibatch, whatever starts in it.

    Its minibatches are cut at episode starts into sequences, so that a start is always a sequence's first step; yet the
    stock policy computes step by step if there is any. While it acts, a sequence is a single step.
    """
    return type(f"Repaired{policy.__name__}", (policy,), {"_process_sequence": staticmethod(_in_one_call)})


def _in_one_call(features: Any, states: Any, starts: Any, lstm: Any) -> tuple[Any, Any]:
    sequences = states[0].shape[1]
    kept = (1 - starts.view(sequences, -1)[:, 0]).view(1, -1, 1)
    x = features.view(sequences, -1, lstm.input_size).transpose(0, 1)
    output, after = lstm(x, tuple(kept * state for state in states))
    return output.transpose(0, 1).flatten(0, 1), after


def command(arguments: Sequence[str]) -> int:
    """Times the agents and prints how they compare."""
    default = Sizes(0)
    parser = Parser(
        "bench agents",
        "Times RecurrentPPO against sb3-contrib's in SAB/PassiveTMaze-v0, in turn: the same environments, networks, "
        "batches and losses; a rollout's learning and its collection apart; each side at its better thread count. One "
        "thread on a CPU is timed by the processor.",
    )
    parser.add_argument("mazes", nargs="*", type=at_least_one, default=list(MAZES), metavar="LENGTH", help="corridors")
    parser.add_argument("--rounds", type=at_least_one, default=5, help="timed rounds of each side; default: 5")
    parser.add_argument(
        "--threads", type=at_least_one, nargs="+", default=thread_counts(), metavar="N", help="default: one, and all"
    )
    parser.add_argument("--envs", type=at_least_one, default=default.envs, help=f"default: {default.envs}")
    parser.add_argument("--steps", type=at_least_one, default=default.n_steps, help=f"default: {default.n_steps}")
    parser.add_argument("--batch", type=at_least_one, default=default.batch_size, help=f"default: {default.batch_size}")
    parser.add_argument("--epochs", type=at_least_one, default=default.n_epochs, help=f"default: {default.n_epochs}")
    parser.add_argument("--hidden", type=at_least_one, default=default.hidden_size, help="size of the LSTMs")
    add_device(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    given = parser.parse(arguments)
    device_of(given.device)
    version = contrib().__version__
    console = terminal()
    rows = []
    with console.status("timing …") as status:
        for length in given.mazes:
            sizes = Sizes(length, given.envs, given.steps, given.batch, given.epochs, given.hidden, given.device)
            rows += measure(sizes, given.rounds, given.threads, status.update)
    console.print(f"torch {torch.__version__}, {name_of(given.device)}")
    console.print(agents_table(rows, given.envs, given.steps))
    if given.json is not None:
        facts = {
            "torch": torch.__version__,
            "sb3_contrib": version,
            "device": given.device,
            "rows": [asdict(row) for row in rows],
        }
        write_json(given.json, facts)
    return 0


def measure(sizes: Sizes, rounds: int, thread_counts: Sequence[int], say: Callable[[str], object] = str) -> list[Row]:
    """Times every side in turn, `rounds` times at each thread count, after a rollout at it that is not timed.

    Raises:
        UserError: sb3-contrib is not installed.
    """
    agents = {side: build(side, sizes) for side in SIDES}
    best: dict[tuple[str, str], Timing] = {}
    before = torch.get_num_threads()
    try:
        for threads in thread_counts:
            torch.set_num_threads(threads)
            times: dict[tuple[str, str], list[float]] = {(side, part): [] for part in PARTS for side in SIDES}
            for number in range(rounds + 1):
                for side, agent in agents.items():
                    say(f"T-Maze {sizes.corridor_length}, {threads} threads, round {number} of {rounds}: {side} …")
                    found = one_round(agent, sizes.rollouts if number else 1, number)
                    for part, seconds in zip(PARTS, found, strict=True) if number else ():
                        times[side, part].append(seconds)
            for key, timed in times.items():
                timing = Timing(statistics.median(timed), min(timed), max(timed), threads)
                if key not in best or timing.seconds < best[key].seconds:
                    best[key] = timing
    finally:
        torch.set_num_threads(before)
    return [
        Row(
            sizes.corridor_length,
            side,
            part,
            agents[side].parameters,
            **asdict(best[side, part]),
            to_stock=best[STOCK, part].seconds / best[side, part].seconds,
            to_repaired=best[REPAIRED, part].seconds / best[side, part].seconds,
        )
        for part in PARTS
        for side in SIDES
    ]


def one_round(agent: Agent, rollouts: int, seed: int) -> tuple[float, float]:
    """Collects rollouts and learns from each; returns the seconds of learning and of collecting, for one rollout.

    They are those of `clock`.
    """
    device = agent.model.device.type
    learning = collecting = 0.0
    for rollout in range(rollouts):
        start = clock(device)
        agent.collect()
        collected = clock(device)
        agent.learn(seed * rollouts + rollout)
        learning += clock(device) - collected
        collecting += collected - start
        agent.restore()
    return learning / rollouts, collecting / rollouts


def agents_table(rows: Sequence[Row], envs: int, steps: int) -> Table:
    """Returns the rows as a table."""
    table = Table(title=f"RecurrentPPO in SAB/PassiveTMaze-v0, a rollout of {envs} by {steps} steps, medians (spread)")
    for heading in ("maze", "part", "side", "ms", "spread", "threads", "to stock", "to repaired"):
        left = heading in {"part", "side"}
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    for i, row in enumerate(rows):
        table.add_row(
            str(row.corridor_length),
            row.part,
            row.side,
            f"{1e3 * row.seconds:,.0f}",
            f"{1e3 * row.low:,.0f} to {1e3 * row.high:,.0f}",
            str(row.threads),
            f"{row.to_stock:.2f}",
            f"{row.to_repaired:.2f}",
            end_section=(i + 1) % len(SIDES) == 0,
        )
    return table

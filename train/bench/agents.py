"""`sab-agents bench agents`: RecurrentPPO against stable-baselines3-contrib's, learning and collecting apart."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.table import Table

from sab_agents.train.bench.agents_sides import REPAIRED, SIDES, STOCK, Agent, Sizes, build, contrib
from sab_agents.train.bench.timing import Timing, thread_counts
from sab_agents.train.commands.arguments import Parser, at_least_one
from sab_agents.train.output import terminal, write_json

MAZES = (50, 500)
PARTS = ("learning", "collecting")


@dataclass(frozen=True)
class Row:
    """One side's times for a rollout, at its better thread count.

    Attributes:
        corridor_length: of the maze.
        side: one of `SIDES`.
        part: one of `PARTS`.
        parameters: numbers that the agent learns.
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


def command(arguments: Sequence[str]) -> int:
    """Times the agents and prints how they compare."""
    default = Sizes(0)
    parser = Parser(
        "bench agents",
        "Times RecurrentPPO against sb3-contrib's in SAB/PassiveTMaze-v0, in turn: the same environments, networks, "
        "batches and losses; a rollout's learning and its collection apart; each side at its better thread count.",
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
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    given = parser.parse(arguments)
    version = contrib().__version__
    console = terminal()
    rows = []
    with console.status("timing …") as status:
        for length in given.mazes:
            sizes = Sizes(length, given.envs, given.steps, given.batch, given.epochs, given.hidden)
            rows += measure(sizes, given.rounds, given.threads, status.update)
    console.print(agents_table(rows, given.envs, given.steps))
    if given.json is not None:
        facts = {"torch": torch.__version__, "sb3_contrib": version, "rows": [asdict(row) for row in rows]}
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
    """Collects rollouts and learns from each; returns the seconds of learning and of collecting, for one rollout."""
    learning = collecting = 0.0
    for rollout in range(rollouts):
        start = time.perf_counter()
        agent.collect()
        collected = time.perf_counter()
        agent.learn(seed * rollouts + rollout)
        learning += time.perf_counter() - collected
        collecting += collected - start
        agent.put_back()
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

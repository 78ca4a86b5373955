"""`sab-agents bench envs`: steps a second of native vector environments against Gymnasium's loop over single ones."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import SyncVectorEnv
from rich.table import Table

from sab_agents.envs.registration import DELAYED, SUPERVISED
from sab_agents.train.commands.arguments import Parser, at_least_one
from sab_agents.train.errors import UserError
from sab_agents.train.output import terminal, write_json
from sab_agents.train.progress import Progress

IDS = tuple(known.id for known in (*DELAYED, *SUPERVISED) if "data_dir" not in known.settings())  # that read no data
"""The ids that are timed, each with its own settings."""
PREPARED = 64  # batches of random actions, drawn before the clock starts


@dataclass(frozen=True)
class Row:
    """Steps of all copies a second, medians of the rounds, on one core.

    Attributes:
        id: Gymnasium's id.
        copies: how many are stepped together.
        native: of the vectorised environment.
        low: of its slowest round.
        high: of its fastest round.
        sync: of Gymnasium's SyncVectorEnv over single environments, without wrappers, in the same run.
        ratio: native / sync.
    """

    id: str
    copies: int
    native: float
    low: float
    high: float
    sync: float
    ratio: float


def command(arguments: Sequence[str]) -> int:
    """Times the environments and prints how many steps they take in a second."""
    parser = Parser(
        "bench envs", "Times vector environments against SyncVectorEnv over their single form, on one core."
    )
    parser.add_argument("ids", nargs="*", default=list(IDS), metavar="ID", help="environments; default: all")
    parser.add_argument("--copies", type=at_least_one, default=64, metavar="N", help="stepped together; default: 64")
    parser.add_argument("--rounds", type=at_least_one, default=7, help="timed rounds of each side; default: 7")
    parser.add_argument("--seconds", type=float, default=0.2, help="of a round, about; default: 0.2")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    given = parser.parse(arguments)
    unknown = [env_id for env_id in given.ids if env_id not in IDS]
    if unknown:
        raise UserError(f"bench envs: there is no {unknown[0]!r}. Choose from {', '.join(IDS)}.")
    console = terminal()
    rows = []
    with Progress("timing", console, transient=True) as bar:
        for number, env_id in enumerate(given.ids):
            bar.update(number / len(given.ids), env_id)
            rows.append(measure(env_id, given.copies, given.rounds, given.seconds))
    console.print(envs_table(rows))
    if given.json is not None:
        write_json(given.json, {"numpy": np.__version__, "rows": [asdict(row) for row in rows]})
    return 0


def measure(env_id: str, copies: int, rounds: int, seconds: float) -> Row:
    """Times both sides in turn, with the same random actions.

    Args:
        env_id: Gymnasium's id.
        copies: how many are stepped together.
        rounds: timed rounds of each side.
        seconds: approximate duration of a round.
    """
    sides = {
        "native": gym.make_vec(env_id, num_envs=copies),
        "sync": SyncVectorEnv([lambda: gym.make(env_id).unwrapped] * copies),
    }
    space = sides["native"].action_space
    space.seed(0)
    actions = [space.sample() for _ in range(PREPARED)]
    works = {}
    for name, envs in sides.items():
        envs.reset(seed=0)
        works[name] = stepping(envs, actions)
    steps = {name: max(1, round(seconds / works[name](PREPARED) * PREPARED)) for name in works}
    rates: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            rates[name].append(copies * steps[name] / work(steps[name]))
    native, sync = (statistics.median(rates[name]) for name in ("native", "sync"))
    return Row(env_id, copies, native, min(rates["native"]), max(rates["native"]), sync, native / sync)


def stepping(envs: Any, actions: Sequence[Any]) -> Callable[[int], float]:
    """Returns a function that takes this many steps and returns how many seconds they took."""

    def work(steps: int) -> float:
        start = time.perf_counter()
        for number in range(steps):
            envs.step(actions[number % PREPARED])
        return time.perf_counter() - start

    return work


def envs_table(rows: Sequence[Row]) -> Table:
    """Returns the rows as a table."""
    table = Table(title=f"Environment steps a second on one core, {rows[0].copies} copies, medians (spread)")
    for heading in ("id", "steps / s", "spread", "SyncVectorEnv", "ratio"):
        table.add_column(heading, justify="left" if heading == "id" else "right", no_wrap=True)
    for row in rows:
        spread = f"{row.low / 1e6:.2f} to {row.high / 1e6:.2f} M"
        table.add_row(row.id, f"{row.native / 1e6:.2f} M", spread, f"{row.sync:,.0f}", f"{row.ratio:.0f}")
    return table

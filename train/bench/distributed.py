"""`sab-agents bench distributed`: what learning costs with 1 and with 2 ranks, and what one all-reduce costs.

Each rank has one thread and the same work, so that with a core for each the time stays and the work doubles.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.table import Table

from sab_agents.distributed import RENDEZVOUS, Ranks
from sab_agents.ppo import RecurrentPPO
from sab_agents.train.bench.timing import Work
from sab_agents.train.commands.arguments import Parser, at_least_one
from sab_agents.train.errors import UserError
from sab_agents.train.output import terminal, write_json
from sab_agents.train.supervised.config import TrainConfig
from sab_agents.train.supervised.loop import Trainer
from sab_agents.vec_env.make import make_vec_env

APART, TOGETHER = "2 apart", "2"
PROCESSES = {"1": 1, APART: 2, TOGETHER: 2}
"""How many processes run; those apart exchange nothing, which tells the exchange from what the machine costs."""
ENVS, STEPS, HIDDEN = 8, 64, 64
SEQUENCES, LENGTH = 16, 50
PARAMETERS = (10_000, 100_000, 1_000_000, 10_000_000)
AGENT = f"RecurrentPPO, {ENVS} · {STEPS} steps and their updates"
SEQUENCE = f"train copying, {SEQUENCES} sequences of {LENGTH + 20} steps"
UNITS = {AGENT: ENVS * STEPS, SEQUENCE: SEQUENCES * (LENGTH + 20)}
"""Steps of one rank in each piece of work."""
Measured = dict[str, tuple[float, float]]
"""Median and shortest time by what was measured, in seconds."""


def command(arguments: Sequence[str]) -> int:
    """Times both and prints two tables."""
    parser = Parser("bench distributed", "Times learning with 1 and 2 ranks at one thread each, and the all-reduce.")
    parser.add_argument("--rounds", type=at_least_one, default=10, help="timed rounds (default: 10)")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    args = parser.parse(arguments)
    found = {how: measured(how, args.rounds) for how in PROCESSES}
    console = terminal()
    console.print(table_of_work(found))
    console.print(table_of_sums(found))
    if args.json is not None:
        write_json(args.json, found)
    return 0


def measured(how: str, rounds: int) -> Measured:
    """Returns the seconds of each piece of work, and of an all-reduce by its number of parameters, in rank 0."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        run_ranks(how, port, folder, rounds)
        found = json.loads((Path(folder) / "found.json").read_text(encoding="utf-8"))
    return {what: (median, fastest) for what, (median, fastest) in found.items()}


def run_ranks(how: str, port: int, folder: str, rounds: int) -> None:
    """Runs all processes until they end.

    Raises:
        UserError: one of them failed.
    """
    context = multiprocessing.get_context("forkserver")  # whose children start at once
    processes = [
        context.Process(target=rank_work, args=(rank, how, port, folder, rounds)) for rank in range(PROCESSES[how])
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise UserError("bench distributed: a process failed; its error is above.")


def rank_work(rank: int, how: str, port: int, folder: str, rounds: int) -> None:
    """Measures everything in one process; rank 0 writes it into the folder."""
    if how == TOGETHER:
        values = (str(rank), str(PROCESSES[how]), "127.0.0.1", str(port))
        os.environ |= dict(zip(RENDEZVOUS, values, strict=True))
    torch.set_num_threads(1)
    joined = Ranks.join("cpu")
    found = {
        AGENT: seconds(rollouts(), rounds, joined),
        SEQUENCE: seconds(updates(Path(folder) / f"run{rank if how == APART else 0}"), rounds, joined),
        **{str(P): seconds(sums(P, joined), 5 * rounds, joined) for P in PARAMETERS},
    }
    if rank == 0:
        (Path(folder) / "found.json").write_text(json.dumps(found), encoding="utf-8")
    joined.wait()


def seconds(work: Work, rounds: int, ranks: Ranks) -> tuple[float, float]:
    """Returns the median time and the shortest one of some work that all ranks begin together."""
    times = []
    for _ in range(rounds + 1):
        ranks.wait()
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:]), min(times[1:])


def rollouts() -> Work:
    """Returns a rollout of an agent and its updates."""
    env = make_vec_env("SAB/PassiveTMaze-v0", ENVS, {"corridor_length": 50})
    kwargs = {"lstm_hidden_size": HIDDEN}
    model = RecurrentPPO("MlpSabPolicy", env, n_steps=STEPS, seed=0, device="cpu", policy_kwargs=kwargs)
    steps = ENVS * STEPS * model.ranks.size
    return lambda: model.learn(steps, reset_num_timesteps=False)


def updates(folder: Path) -> Work:
    """Returns an update of a model of sequences."""
    config = TrainConfig(
        task="copying", length=LENGTH, hidden_size=HIDDEN, batch_size=SEQUENCES, threads=1, out=str(folder)
    )
    return Trainer(config).update


def sums(parameters: int, ranks: Ranks) -> Work:
    """Returns the mean of a gradient of so many parameters."""
    vector = torch.zeros(parameters)

    def work() -> None:
        ranks.average(vector)

    return work


def table_of_work(found: dict[str, Measured]) -> Table:
    """Returns the time of each piece of work by the number of ranks."""
    table = Table(title="Learning, one thread for each rank")
    table.add_column("work")
    for heading in ("ranks", "ms", "fastest", "steps a second, of all", "to one rank"):
        table.add_column(heading, justify="right")
    for what, steps in UNITS.items():
        for how, rows in found.items():
            (median, fastest), ranks = rows[what], PROCESSES[how]
            gain = ranks * found["1"][what][0] / median
            times = (f"{1e3 * median:.1f}", f"{1e3 * fastest:.1f}")
            table.add_row(what, how, *times, f"{ranks * steps / median:,.0f}", f"{gain:.2f}")
    return table


def table_of_sums(found: dict[str, Measured]) -> Table:
    """Returns the time of the all-reduce between two ranks by the number of parameters."""
    table = Table(title="One all-reduce of a float32 gradient: 2 ranks, gloo, one machine")
    for heading in ("parameters", "ms", "fastest", "ns a parameter"):
        table.add_column(heading, justify="right")
    for parameters in PARAMETERS:
        median, fastest = found[TOGETHER][str(parameters)]
        cells = (f"{1e3 * median:.3f}", f"{1e3 * fastest:.3f}", f"{1e9 * median / parameters:.2f}")
        table.add_row(f"{parameters:,}", *cells)
    return table

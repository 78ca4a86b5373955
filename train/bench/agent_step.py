"""`sab-agents bench agent-step`: one step of an agent, learned or only acted, and the environment's part of it.

One environment, one thread, all settings at their defaults. A learned step of `StreamAC` contains the environment's own
step, which is timed apart, with an action that nobody chose. `predict` is for one observation, with the state passed on
from call to call, stable-baselines3's part of it included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sab_agents import RecurrentPPO, StreamAC
from sab_agents.kernels import kernel_in_use
from sab_agents.train.bench.stream import BATCH, StreamRow, learner, learning, print_table, timed
from sab_agents.train.bench.timing import Work
from sab_agents.train.commands.arguments import Parser, at_least_one
from sab_agents.train.output import terminal, write_json

ENVIRONMENT = "SAB/PassiveTMaze-v0"
STREAMED = ("MlpSabPolicy", "MlpLstmPolicy", "MlpRtuPolicy")
COLLECTED = ("MlpSabPolicy", "MlpLstmPolicy")


def command(arguments: Sequence[str]) -> int:
    """Runs the benchmark and prints its figures."""
    parser = Parser("bench agent-step", "Times one step of agents and of their environment, one thread.")
    parser.add_argument("--env", default=ENVIRONMENT, metavar="ID", help=f"default: {ENVIRONMENT}")
    parser.add_argument("--rounds", type=at_least_one, default=40, help="timed rounds of each side; default: 40")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    given = parser.parse(arguments)
    console, threads = terminal(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = measure(given.env, given.rounds)
    finally:
        torch.set_num_threads(threads)
    console.print(f"torch {torch.__version__}, CPU, float32, one thread; {given.env}, default settings")
    print_table(console, rows)
    if given.json is not None:
        write_json(given.json, {"environment": given.env, "threads": 1, "rows": [asdict(row) for row in rows]})
    return 0


def measure(env: str, rounds: int) -> list[StreamRow]:
    """Times every side in turn."""
    kernel = kernel_in_use("cpu", torch.float32)
    agents = {policy: StreamAC(policy, env, seed=0) for policy in STREAMED}
    sides: dict[str, Callable[[], Work]] = {"environment alone": lambda: stepping(agents[STREAMED[0]].env)}
    for name, agent in agents.items():
        sides[f"StreamAC {name}: learned step"] = lambda agent=agent: stream_learning(agent)  # type: ignore[misc]
    for name, agent in agents.items():
        sides[f"StreamAC {name}: predict"] = lambda agent=agent: predicting(agent)  # type: ignore[misc]
    for name in COLLECTED:
        sides[f"RecurrentPPO {name}: predict"] = lambda name=name: predicting(  # type: ignore[misc]
            RecurrentPPO(name, env, seed=0, device="cpu")
        )
    sides["OnlineLearner: learn_one"] = lambda: learning(learner())
    return timed({(name, kernel): make() for name, make in sides.items()}, rounds)


def stepping(env: Any) -> Work:
    """Returns BATCH steps of an environment, wrapped as an agent sees it, with an agent's first action."""
    env.reset()
    env.action_space.seed(0)
    actions = np.array([env.action_space.sample()])

    def work() -> None:
        for _ in range(BATCH):
            env.step(actions)

    return work


def stream_learning(agent: StreamAC) -> Work:
    """Returns BATCH learned steps, after enough steps to fill every slot."""
    agent.learn(4 * BATCH, log_interval=None)
    return lambda: agent.learn(BATCH, log_interval=None, reset_num_timesteps=False)


def predicting(agent: StreamAC | RecurrentPPO) -> Work:
    """Returns BATCH calls of `predict`."""
    assert agent.env is not None
    observation, start = agent.env.reset()[0], np.zeros(1, bool)  # type: ignore[index]
    state: Any = None

    def work() -> None:
        nonlocal state
        for _ in range(BATCH):
            _, state = agent.predict(observation, state, start)

    return work

"""`sab-agents evaluate`: scores a trained model or a scripted policy, also at lengths at which it was not trained."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from rich.table import Table

from sab_agents.envs.supervised.task import Split
from sab_agents.train.commands.arguments import Parser, at_least_one, at_least_zero
from sab_agents.train.configuration import settings_of
from sab_agents.train.errors import UserError
from sab_agents.train.output import terminal, write_json
from sab_agents.train.run_folder import RunFolder
from sab_agents.train.supervised.evaluate import evaluate_run, scores_table
from sab_agents.train.supervised.evaluate_env import (
    EPISODES,
    SCRIPTED,
    evaluate_run_in_env,
    evaluate_scripted,
    returns_table,
)

WIDTH = 140  # columns if the output is no terminal


def command(arguments: Sequence[str]) -> int:
    """Prints a table of scores by length beside those of a memoryless learner, and writes them as JSON if requested."""
    parser = Parser("evaluate", "Score a trained model on held-out data, or a policy in an environment.")
    parser.add_argument(
        "run", metavar="RUN", help=f"a run folder that sab-agents train wrote; with --env also {', '.join(SCRIPTED)}"
    )
    parser.add_argument("--env", metavar="ID", help="an environment to act in (see sab-agents envs)")
    parser.add_argument("--length", type=at_least_one, nargs="+", metavar="N", help="lengths; default: as trained")
    parser.add_argument("--split", choices=get_args(Split), default="test", help="default: test")
    parser.add_argument(
        "--sequences", type=at_least_one, metavar="N", help="how many; default: the run's eval_sequences"
    )
    parser.add_argument("--episodes", type=at_least_one, metavar="N", help=f"that are played; default: {EPISODES}")
    parser.add_argument("--seed", type=at_least_zero, default=0, metavar="N", help="of the episodes; default: 0")
    parser.add_argument(
        *("--env-arg", "--set"),
        dest="settings",
        nargs="+",
        metavar="NAME=VALUE",
        help="arguments of the environment",
    )
    parser.add_argument("--device", help="a torch device; default: the run's")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the scores to this file")
    parsed = parser.parse(arguments)
    console = terminal(WIDTH)
    if parsed.run not in SCRIPTED and RunFolder(parsed.run).holds_agent:
        rows, table = _agent(parsed, console.width)
    else:
        rows, table = _on_task(parsed) if parsed.env is None else _in_env(parsed, console.width)
    console.print(table)
    if parsed.json is not None:
        write_json(parsed.json, rows)
    return 0


def _agent(parsed: Namespace, columns: int) -> tuple[list[dict[str, Any]], Table]:
    if parsed.env is not None or parsed.sequences is not None:
        raise UserError(
            f"--env and --sequences do not go with {parsed.run}, an agent, which is scored in its own environment; "
            "--env-arg changes that, and --episodes says how often."
        )
    # stable-baselines3 takes a while to import, which other runs should not cost.
    from sab_agents.train.agents.playing import evaluate_agent  # noqa: PLC0415

    episodes = EPISODES if parsed.episodes is None else parsed.episodes
    rows = evaluate_agent(
        parsed.run,
        [None] if parsed.length is None else parsed.length,
        episodes=episodes,
        seed=parsed.seed,
        arguments=settings_of("env-arg", parsed.settings or ()),
        device=parsed.device,
    )
    return rows, returns_table(f"{parsed.run}: {episodes:,} episodes, seed {parsed.seed}", rows, columns)


def _on_task(parsed: Namespace) -> tuple[list[dict[str, Any]], Table]:
    if parsed.run in SCRIPTED:
        raise UserError(f"{parsed.run} acts in an environment: name one with --env (see sab-agents envs).")
    rows = evaluate_run(
        parsed.run, lengths=parsed.length, split=parsed.split, sequences=parsed.sequences, device=parsed.device
    )
    return rows, scores_table(f"{parsed.run}: {parsed.split} data", rows)


def _in_env(parsed: Namespace, columns: int) -> tuple[list[dict[str, Any]], Table]:
    lengths = [None] if parsed.length is None else parsed.length
    if parsed.run in SCRIPTED:
        if parsed.sequences is not None:
            raise UserError(f"--sequences goes with a run; for {parsed.run}, say --episodes.")
        settings = settings_of("env-arg", parsed.settings or ())
        episodes = EPISODES if parsed.episodes is None else parsed.episodes
        rows = evaluate_scripted(
            parsed.run, parsed.env, lengths, episodes=episodes, seed=parsed.seed, settings=settings
        )
        what = f"seed {parsed.seed}"
    else:
        if parsed.settings or parsed.episodes is not None:
            raise UserError(
                "--set and --episodes go with scripted policies; a run has settings, and takes --sequences."
            )
        rows = evaluate_run_in_env(
            parsed.run, parsed.env, lengths, split=parsed.split, sequences=parsed.sequences, device=parsed.device
        )
        what = f"{parsed.split} data"
    return rows, returns_table(f"{parsed.run} in {parsed.env}: {rows[0]['episodes']:,} episodes, {what}", rows, columns)

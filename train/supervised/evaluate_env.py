"""Returns of a scripted policy or of a trained run in an environment, by length."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from sab_agents.checks import did_you_mean
from sab_agents.envs.dynamics import Returns
from sab_agents.envs.policies import Policy, Uniform
from sab_agents.envs.registration import ENVIRONMENTS
from sab_agents.envs.supervised import environment_of
from sab_agents.envs.supervised.task import Split
from sab_agents.train.errors import UserError, one_line
from sab_agents.train.supervised.evaluate import load_run, with_length
from sab_agents.train.supervised.rollouts import COPIES, Played, make, play, play_task
from sab_agents.vec_env.layers import AnyVectorEnv

ROOMY = 110  # columns of a terminal that has room for all of a table
SCRIPTED = ("random", "oracle", "memoryless")
EPISODES = 1000
Rows = list[dict[str, Any]]


def evaluate_scripted(
    policy: str,
    env_id: str,
    lengths: Sequence[int | None] = (None,),
    *,
    episodes: int = EPISODES,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> Rows:
    """Plays a scripted policy at each length.

    Args:
        policy: one of `SCRIPTED`.
        env_id: Gymnasium's id.
        lengths: of the environment; None is the registered one.
        episodes: at each length.
        seed: of the episodes and of the random policy.
        settings: other arguments of the environment.

    Returns:
        For each length: {"length", "episodes", "mean", "error", "returns": {"best", …}, "metrics": {…}}.

    Raises:
        UserError: the environment has no such policy, length or setting, or no end.
    """
    rows = []
    for length in lengths:
        arguments = {**(settings or {}), **length_setting(env_id, length)}
        env = make(env_id, min(COPIES, episodes), arguments)
        dynamics = getattr(env.unwrapped, "dynamics", None)
        if dynamics is not None and dynamics.horizon is None:
            raise UserError(f"{env_id}: an episode must end to have a return. Give it a length with --length.")
        played = play(env, scripted(policy, env_id, env, seed), episodes, seed)
        rows.append(row_of(length_of(env_id, env, length), played, env))
        env.close()
    return rows


def evaluate_run_in_env(
    run: str | Path,
    env_id: str,
    lengths: Sequence[int | None] = (None,),
    *,
    split: Split = "test",
    sequences: int | None = None,
    device: str | None = None,
) -> Rows:
    """Predicts the held-out sequences of a trained run's task through the task's environment, at each length.

    Args:
        run: the run folder.
        env_id: the environment of its task.
        lengths: of the task; None is that of the training.
        split: which data.
        sequences: how many; None is the config's eval_sequences.
        device: of the model; None is the one on which it was trained.

    Raises:
        UserError: there is no such run, the environment is not that of its task, or there is no such length.
    """
    config, task, model = load_run(run, device)
    fitting = environment_of(task).id
    if env_id != fitting:
        raise UserError(f"{run} was trained on {config.task}, whose environment is {fitting}, not {env_id}.")
    count = config.eval_sequences if sequences is None else sequences
    rows = []
    for length in lengths:
        at = task if length is None else with_length(task, length)
        arguments = {name: value for name, value in config.task_settings().items() if value is not None}
        arguments.pop("carry", None)
        if at.length is not None:
            arguments.pop("length", None)
            arguments |= length_setting(env_id, at.length)
        arguments["split"] = split
        arguments["action_mode"] = "value" if task.loss == "squared_error" else "log_probs"
        known = ENVIRONMENTS[env_id].settings()
        arguments = {name: value for name, value in arguments.items() if name in known}
        played = play_task(model, at, env_id, arguments, split=split, batch_size=config.batch_size, sequences=count)
        rows.append(row_of(at.length, played, make(env_id, 1, arguments)))
    return rows


def length_setting(env_id: str, length: int | None) -> dict[str, int]:
    """Returns the argument that makes the environment this long.

    Raises:
        UserError: it has none.
    """
    if length is None:
        return {}
    name = ENVIRONMENTS[env_id].length_argument() if env_id in ENVIRONMENTS else ""
    if not name:
        raise UserError(f"{env_id}: its length is fixed, so --length cannot change it.")
    return {name: length}


def length_of(env_id: str, env: AnyVectorEnv, length: int | None) -> int | None:
    """Returns the length that an environment was made with."""
    if length is not None or env_id not in ENVIRONMENTS:
        return length
    name = ENVIRONMENTS[env_id].length_argument()
    value = getattr(env.unwrapped, "dynamics", None)
    for owner in (value, getattr(value, "task", None)):
        found = getattr(owner, name, None) if name else None
        if isinstance(found, int):
            return found
    return None


def scripted(name: str, env_id: str, env: AnyVectorEnv, seed: int) -> Policy:
    """Returns the policy of that name.

    Raises:
        UserError: the environment has none.
    """
    if name == "random":
        return Uniform(env.single_action_space, seed)
    dynamics = getattr(env.unwrapped, "dynamics", None)
    if dynamics is None:
        raise UserError(f"{env_id}: only a random policy is known. {did_you_mean(env_id, ENVIRONMENTS)}")
    try:
        policy: Policy = getattr(dynamics, name)()
    except NotImplementedError as error:
        raise UserError(f"{env_id}: {one_line(error)}") from error
    return policy


def row_of(length: int | None, played: Played, env: AnyVectorEnv) -> dict[str, Any]:
    """Returns one row of the report, as it is written to JSON."""
    known: Returns = getattr(env.unwrapped, "returns", Returns(None, None, None))
    return {
        "length": length,
        "episodes": len(played.returns),
        "steps": float(played.lengths.mean()),
        "mean": played.mean,
        "error": played.error,
        "returns": asdict(known),
        "metrics": dict(played.metrics),
    }


def returns_table(title: str, rows: Rows, columns: int = ROOMY) -> Table:
    """Returns the rows as a table: the return, how far it is from memoryless to best, and the task's own metrics.

    Args:
        title: of the table.
        rows: of `evaluate_run_in_env` or its relatives.
        columns: of the terminal; a narrow one has fewer and closer columns.
    """
    narrow = columns < ROOMY
    table = Table(title=title, title_justify="left")
    if narrow:
        table.box, table.padding, table.pad_edge = box.SIMPLE_HEAD, (0, 1, 0, 0), False
    known = [name for name in ("random", "memoryless", "best") if any(row["returns"][name] is not None for row in rows)]
    known = [name for name in known if not (narrow and name == "random")]
    for heading in ("length", *(() if narrow else ("steps",)), "return", "± s.e.", *known):
        style = "dim" if heading in (*known, "steps") else None
        table.add_column(heading, justify="right", style=style, no_wrap=True)
    fractions = [fraction_of(row) for row in rows]
    if any(fraction is not None for fraction in fractions):
        table.add_column("→ best" if narrow else "memoryless → best", no_wrap=True)
    for name in rows[0]["metrics"]:
        table.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    for row, fraction in zip(rows, fractions, strict=True):
        cells: list[str | Text] = [_whole(row["length"]), *(() if narrow else (f"{row['steps']:g}",))]
        cells += [_number(row["mean"]), _number(row["error"]), *(_number(row["returns"][name]) for name in known)]
        if any(each is not None for each in fractions):
            cells.append(_bar(fraction, 4 if narrow else 10))
        table.add_row(*cells, *(_number(value) for value in row["metrics"].values()))
    return table


def fraction_of(row: Mapping[str, Any]) -> float | None:
    """Returns how far a return is from the memoryless to the best; None if one is unknown or they are equal."""
    best, memoryless = row["returns"]["best"], row["returns"]["memoryless"]
    if best is None or memoryless is None or best == memoryless:
        return None
    return float((row["mean"] - memoryless) / (best - memoryless))


def _bar(fraction: float | None, width: int) -> Text:
    if fraction is None:
        return Text("-")
    lit = round(min(max(fraction, 0.0), 1.0) * width)
    colour = "green" if fraction > 0.99 else "yellow" if fraction > 0.01 else "red"
    return Text.assemble(("━" * lit, colour), ("━" * (width - lit), "bright_black"), f" {100 * fraction:4.0f} %")


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.2f}"


def _whole(value: int | None) -> str:
    return "-" if value is None else str(value)

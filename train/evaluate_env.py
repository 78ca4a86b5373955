"""`sab-agents evaluate WHO --env ID`: the return of a scripted policy or of a trained run, by length."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import yaml
from rich.table import Table
from rich.text import Text

from sab_agents.checks import did_you_mean
from sab_agents.envs.dynamics import Returns
from sab_agents.envs.policies import Policy, Uniform
from sab_agents.envs.registration import ENVIRONMENTS
from sab_agents.envs.supervised import environment_of
from sab_agents.train.errors import UserError, one_line
from sab_agents.train.rollouts import COPIES, AnyVectorEnv, Played, make, play, play_task

SCRIPTED = ("random", "oracle", "memoryless")
EPISODES = 1000
Rows = list[dict[str, Any]]


def evaluate_scripted(given: Namespace) -> Rows:
    """Plays a scripted policy at each length.

    Args:
        given: run (which policy), env, length, episodes, seed, settings.

    Returns:
        For each length: {"length", "episodes", "mean", "error", "returns": {"best", …}, "metrics": {…}}.

    Raises:
        UserError: the environment has no such policy, length or setting, or no end.
    """
    if given.sequences is not None:
        raise UserError(f"--sequences goes with a run; for {given.run}, say --episodes.")
    episodes = EPISODES if given.episodes is None else given.episodes
    settings = settings_of(given.settings or ())
    rows = []
    for length in [None] if given.length is None else given.length:
        arguments = {**settings, **length_setting(given.env, length)}
        env = make(given.env, min(COPIES, episodes), arguments)
        dynamics = getattr(env.unwrapped, "dynamics", None)
        if dynamics is not None and dynamics.horizon is None:
            raise UserError(f"{given.env}: an episode must end to have a return. Give it a length with --length.")
        played = play(env, scripted(given.run, given.env, env, given.seed), episodes, given.seed)
        rows.append(row_of(length_of(given.env, env, length), played, env))
        env.close()
    return rows


def evaluate_run_in_env(given: Namespace) -> Rows:
    """Lets a trained run predict the held-out sequences of its task through the task's environment, at each length.

    Args:
        given: run (the folder), env, length, split, sequences, device.

    Raises:
        UserError: there is no such run, the environment is not that of its task, or there is no such length.
    """
    from sab_agents.train.evaluate import load_run, with_length  # noqa: PLC0415  # they import each other

    config, task, model = load_run(given.run, given.device)
    fitting = environment_of(task).id
    if given.env != fitting:
        raise UserError(f"{given.run} was trained on {config.task}, whose environment is {fitting}, not {given.env}.")
    if given.settings or given.episodes is not None:
        raise UserError("--set and --episodes go with scripted policies; a run has settings, and takes --sequences.")
    sequences = config.eval_sequences if given.sequences is None else given.sequences
    rows = []
    for length in [None] if given.length is None else given.length:
        at = task if length is None else with_length(task, length)
        arguments = {name: value for name, value in config.task_settings().items() if value is not None}
        arguments.pop("carry", None)
        if at.length is not None:
            arguments.pop("length", None)
            arguments |= length_setting(given.env, at.length)
        arguments["split"] = given.split
        arguments["action_mode"] = "value" if task.loss == "squared_error" else "log_probs"
        arguments = {name: value for name, value in arguments.items() if name in settings_known(given.env)}
        played = play_task(
            model,
            at,
            given.env,
            arguments,
            split=given.split,
            batch_size=config.batch_size,
            sequences=sequences,
        )
        rows.append(row_of(at.length, played, make(given.env, 1, arguments)))
    return rows


def settings_of(pairs: Sequence[str]) -> dict[str, Any]:
    """The settings NAME=VALUE of the command line; values are read as YAML.

    Raises:
        UserError: one is not of this form.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise UserError(f"--set: settings must be NAME=VALUE, but one is '{pair}'.")
        try:
            settings[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(f"--set: '{pair}' has no readable value: {one_line(error)}") from error
    return settings


def settings_known(env_id: str) -> Sequence[str]:
    """The names of an environment's settings."""
    return ENVIRONMENTS[env_id].settings()


def length_setting(env_id: str, length: int | None) -> dict[str, int]:
    """The argument that makes the environment so long.

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
    """The length that an environment was made with."""
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
    """The policy of that name.

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
    """One row of the report, as it is written to JSON."""
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


def table_of(title: str, rows: Rows) -> Table:
    """The rows as a table: the return, where it lies between memoryless and best, and the task's own metrics."""
    table = Table(title=title, title_justify="left")
    for heading in ("length", "steps", "return", "± s.e.", "random", "memoryless", "best"):
        style = "dim" if heading in ("random", "memoryless", "best", "steps") else None
        table.add_column(heading, justify="right", style=style, no_wrap=True)
    shares = [share_of(row) for row in rows]
    if any(share is not None for share in shares):
        table.add_column("memoryless → best", no_wrap=True)
    for name in rows[0]["metrics"]:
        table.add_column(name.replace("_", " "), justify="right")
    for row, share in zip(rows, shares, strict=True):
        known = [_number(row["returns"][name]) for name in ("random", "memoryless", "best")]
        cells: list[str | Text] = [_whole(row["length"]), f"{row['steps']:g}", _number(row["mean"])]
        cells += [_number(row["error"]), *known]
        if any(each is not None for each in shares):
            cells.append(_bar(share))
        table.add_row(*cells, *(_number(value) for value in row["metrics"].values()))
    return table


def share_of(row: Mapping[str, Any]) -> float | None:
    """How far a return has come from the memoryless to the best; None where either is unknown or both are one."""
    best, memoryless = row["returns"]["best"], row["returns"]["memoryless"]
    if best is None or memoryless is None or best == memoryless:
        return None
    return float((row["mean"] - memoryless) / (best - memoryless))


def _bar(share: float | None, width: int = 10) -> Text:
    if share is None:
        return Text("-")
    lit = round(min(max(share, 0.0), 1.0) * width)
    colour = "green" if share > 0.99 else "yellow" if share > 0.01 else "red"
    return Text.assemble(("━" * lit, colour), ("━" * (width - lit), "bright_black"), f" {100 * share:4.0f} %")


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.2f}"


def _whole(value: int | None) -> str:
    return "-" if value is None else str(value)

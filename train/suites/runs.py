"""Studies of single runs, which `sab-agents report` reads as it reads suites: runs of one kind become one study."""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sab_agents.train.agents.config import AgentConfig
from sab_agents.train.configuration import load
from sab_agents.train.errors import UserError
from sab_agents.train.run_folder import RunFolder
from sab_agents.train.suites.compare import KEPT, Compare, CompareCell, CompareConfig
from sab_agents.train.suites.engine import read_study
from sab_agents.train.suites.study import Column, Panel, Row, Study
from sab_agents.train.supervised.config import TrainConfig


def studies_in(folders: Sequence[Path]) -> list[tuple[str, Study]]:
    """Returns what folders of suites and of runs hold, each study with the name of its, or its first, folder.

    Runs of agents in the same environment, and runs of models on the same task, are one study.

    Raises:
        UserError: a folder holds neither, a run is not finished, or two runs differ in nothing that a table shows.
    """
    studies: list[tuple[str, Study]] = []
    kinds: dict[str, list[RunFolder]] = {}
    for folder in folders:
        run = RunFolder(folder)
        if not run.config.exists() or "suite" in run.read_settings():
            studies.append((folder.resolve().name, read_study(folder)[1]))
            continue
        if not run.result.exists():
            raise UserError(f"{folder} is not finished. Continue it with sab-agents resume {folder}.")
        kinds.setdefault(_kind(run), []).append(run)
    for runs in kinds.values():
        study = _of_agents(runs) if runs[0].holds_agent else _of_models(runs)
        studies.append((runs[0].path.resolve().name, study))
    return studies


def _kind(run: RunFolder) -> str:
    """Returns what two runs must share to stand in one table."""
    if run.holds_agent:
        agent = load(AgentConfig, run.config)
        shared: list[Any] = [agent.env, dict(agent.env_arg), list(agent.wrappers)]
    else:
        model = load(TrainConfig, run.config)
        shared = [model.task, model.task_settings()]
    return json.dumps(shared, sort_keys=True)


def _of_agents(runs: Sequence[RunFolder]) -> Study:
    configs = [load(AgentConfig, run.config) for run in runs]
    rows: dict[tuple[str, int], Row] = {}
    learners: dict[str, Mapping[str, Any]] = {}
    for run, config in zip(runs, configs, strict=True):
        name = config.policy + (", stream" if config.algo == "stream" else "")
        _once(rows, (name, config.seed), run)
        result = run.read_result() or {}
        logged = [line for line in run.read_metrics() if line["return"] is not None]
        learners[name] = {"algo": config.algo, "num_envs": config.copies, **config.setting}
        numbers = {"return": result["return"], "length": result["length"], "steps": result["steps"]}
        numbers |= {"minutes": result["seconds"] / 60, "parameters": result["parameters"]}
        rows[name, config.seed] = Row(
            name,
            "",
            config.seed,
            {column: value for column, value in numbers.items() if value is not None},
            curves={"return": [(line["step"], line["return"]) for line in logged]},
        )
    known = importlib.import_module("sab_agents.train.agents.training").known_returns
    first = configs[0]
    return Study(
        title=first.env,
        values=("",),
        learners=learners,
        columns=(
            Column("return", "{:.4g}", spread=True),
            Column("length", "{:,.0f}", spread=True),
            *(Column(name, "{:,.0f}") for name in ("steps", "parameters")),
            Column("minutes", "{:.1f}"),
        ),
        rows=tuple(rows.values()),
        note="Return and length are means over the last 100 episodes of training.",
        shared=dict(first.env_arg),
        panels=(Panel("return", "environment steps, all copies", "return"),),
        known={"": known(first.env, first.env_arg)},
    )


def _of_models(runs: Sequence[RunFolder]) -> Study:
    configs = [load(TrainConfig, run.config) for run in runs]
    results: dict[CompareCell, dict[str, Any]] = {}
    core_settings: dict[str, Any] = {}
    for run, config in zip(runs, configs, strict=True):
        cell = CompareCell(config.core, config.seed)
        _once(results, cell, run)
        result = run.read_result() or {}
        held_out = [line for line in run.read_metrics() if line["split"] == "validation"]
        results[cell] = {**{name: result[name] for name in KEPT}, "validation": held_out}
        core_settings[config.core] = config.settings_of_core()
    shared = {field.name: getattr(configs[0], field.name) for field in dataclasses.fields(TrainConfig)}
    cores, seeds = (tuple(dict.fromkeys(each)) for each in zip(*results, strict=True))
    return Compare(CompareConfig(**{**shared, "core_settings": core_settings, "cores": cores, "seeds": seeds})).study(
        results
    )


def _once(there: Mapping[Any, Any], key: tuple[str, int], run: RunFolder) -> None:
    if key in there:
        raise UserError(f"{run.path}: another run has {key[0]} with seed {key[1]}, too. Report one of them.")

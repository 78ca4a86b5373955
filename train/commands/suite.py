"""`sab-agents suite run CONFIG | list | report RUN…`: experiments of many runs."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from rich.markup import escape
from rich.table import Table

from sab_agents.checks import did_you_mean
from sab_agents.train.configuration import Settings, keys_of, read_yaml
from sab_agents.train.errors import UserError
from sab_agents.train.interrupts import continued_by
from sab_agents.train.output import terminal
from sab_agents.train.shipped import FOLDER, config_path, shipped_configs

MODULES: Mapping[str, str] = MappingProxyType(
    {
        "compare": "sab_agents.train.suites.compare",
        "agents": "sab_agents.train.suites.agents",
        "stream": "sab_agents.train.suites.stream",
        "online": "sab_agents.train.suites.recall",
        "conditioning": "sab_agents.train.suites.conditioning",
        "text": "sab_agents.train.suites.text",
        "paper": "sab_agents.train.suites.paper",
    }
)
"""The module of each suite, which has its `suite`."""
USAGE = "sab-agents suite run CONFIG --out FOLDER [--jobs N] [--key value …]"
HELP = """\
usage: sab-agents suite run CONFIG --out FOLDER [--jobs N | --engine ray]
                            [--key value …]
       sab-agents suite list
       sab-agents suite report FOLDER… --out FOLDER

run     runs every cell of an experiment (learners, sizes, seeds) and writes
        its table, plots and result.json; the same command continues what was
        interrupted. The config's keys say which suite it is:
        compare       several cores with several seeds on a task
                      (--cores sab lstm --seeds 0 1 2)
        agents        PPO agents over sizes of an environment
        stream        streaming agents over sizes of an environment
        online        learners of an endless stream at several delays
        conditioning  learners that predict returns of trace conditioning
        text          learners that read a text once, character by character
        paper         learners on all tasks of a paper, in one table
        sab-agents suite run CONFIG --help lists the settings of that suite.
list    lists the configs that come with the package
report  lays out what suites found on one page, as Markdown and as HTML
"""
WIDTH = 120  # columns if the output is no terminal


def command(arguments: Sequence[str]) -> int:
    """Runs one of the verbs."""
    verbs: Mapping[str, Callable[[Sequence[str]], int]] = {"run": run, "list": list_configs, "report": _report}
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP)
        return 0 if arguments else 2
    if arguments[0] not in verbs:
        raise UserError(f"suite has no '{arguments[0]}'. {did_you_mean(arguments[0], verbs)}")
    return verbs[arguments[0]](arguments[1:])


def _report(arguments: Sequence[str]) -> int:
    """Runs `sab-agents report`, whose module needs torch and matplotlib."""
    return int(importlib.import_module("sab_agents.train.commands.report").command(arguments))


def run(arguments: Sequence[str], name: str | None = None) -> int:
    """Runs the suite of a config.

    Args:
        arguments: the config, and flags.
        name: of the suite; None goes by the config's keys.
    """
    if not arguments or arguments[0].startswith("-"):
        if set(arguments) & {"-h", "--help"}:
            print(HELP)
            return 0
        raise UserError(f"suite run needs a config file: {USAGE}.")
    path = config_path(arguments[0])
    content = read_yaml(path)
    if name is None:
        flags = [flag.removeprefix("--").split("=")[0].split(".")[0] for flag in arguments if flag.startswith("--")]
        name = kind_of(path, content, flags)
    chosen = importlib.import_module(MODULES[name])
    with continued_by(lambda: "Continue with the same command: finished cells are kept."):
        return int(chosen.command([str(path), *arguments[1:]]))


def kind_of(path: Path, content: Mapping[str, object], flags: Iterable[str] = ()) -> str:
    """Returns the suite of a config: the one that it names under `suite`, or whose settings its keys are.

    Raises:
        UserError: it names one that there is not.
    """
    if (named := content.get("suite")) is not None:
        if named not in MODULES:
            raise UserError(f"{path}: suite: there is no '{named}'. {did_you_mean(str(named), MODULES)}")
        return str(named)
    keys = {*content, *(flag.replace("-", "_") for flag in flags)}

    def fits(name: str) -> tuple[int, int]:
        cls: type[Settings] = importlib.import_module(MODULES[name]).suite.config_class
        assert dataclasses.is_dataclass(cls)
        required = [
            each.name
            for each in dataclasses.fields(cls)
            if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
        ]
        return len(keys & set(keys_of(cls))), -len(set(required) - keys)

    return max(MODULES, key=fits)


def list_configs(arguments: Sequence[str]) -> int:
    """Prints the configs that come with the package, the suite of each, and what it is about."""
    if set(arguments) & {"-h", "--help"}:
        print(HELP)
        return 0
    if arguments:
        raise UserError(f"suite list takes nothing, but got '{arguments[0]}'.")
    table = Table(title=f"Configs in {FOLDER}", title_justify="left")
    table.add_column("config", no_wrap=True)
    table.add_column("suite", no_wrap=True)
    table.add_column("about")
    for name, path in shipped_configs().items():
        table.add_row(name, kind_of(path, read_yaml(path)), escape(_about(path)))
    console = terminal(WIDTH)
    console.print(table)
    console.print("sab-agents suite run CONFIG --out FOLDER; the first ones, of one task, also train: ", end="")
    console.print("sab-agents train CONFIG")
    return 0


def _about(path: Path) -> str:
    """Returns the first sentence of the comment at a config's beginning."""
    comment: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.removeprefix("#").strip())
    return " ".join(comment).partition(". ")[0].rstrip(".") + "."

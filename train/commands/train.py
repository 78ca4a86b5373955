"""`sab-agents train`: trains an agent in any environment, or a model on a task, into a run folder."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
from rich.console import Console

from sab_agents.checks import did_you_mean
from sab_agents.envs.supervised import TASKS
from sab_agents.train.agents.config import AgentConfig
from sab_agents.train.configuration import Settings, help_of, keys_of, load, read_yaml
from sab_agents.train.errors import TrainingError, UserError
from sab_agents.train.interrupts import continued_by
from sab_agents.train.output import is_main, lines, program
from sab_agents.train.run_folder import RunFolder
from sab_agents.train.shipped import config_path, shipped_configs
from sab_agents.train.supervised.config import TrainConfig
from sab_agents.train.trackers import HELP, split_track

USAGE = "sab-agents train CONFIG | TASK | --env ID --policy NAME [--key value …]"
INTRODUCTION = """\
usage: sab-agents train --env ID --policy NAME [--key value …]   an agent
       sab-agents train CONFIG | TASK [--key value …]   sequences, or an agent

  --env     any id that Gymnasium knows, or module:Id for one of your own
  --policy  MlpSabPolicy, CnnSabPolicy, MultiInputSabPolicy, or the same with
            Lstm, Gru, MinGru, Rtu, AttentionLstm or Transformer for Sab
  CONFIG    a YAML file of the keys below, or one that comes with the package,
            such as recall: sab-agents suite list
  TASK      {tasks}
  --track   {track}

examples:
  sab-agents train --env CartPole-v1 --policy MlpSabPolicy --steps 50000
  sab-agents train --env SAB/PassiveTMaze-v0 --env-arg corridor_length=20
  sab-agents train --env CartPole-v1 --setting n_steps=64 gamma=0.98
  sab-agents train recall --core lstm --seed 3
  torchrun --nproc-per-node=2 -m sab_agents train --env CartPole-v1

An agent:
"""


def command(arguments: Sequence[str]) -> int:
    """Trains what the command line names; flags change the settings of a config."""
    if "-h" in arguments or "--help" in arguments:
        print(INTRODUCTION.format(tasks=", ".join(TASKS), track=HELP))
        print(help_of(AgentConfig, "sab-agents train --env ID [--key value …]", {}))
        print("A model of sequences:\n")
        print(help_of(TrainConfig, "sab-agents train CONFIG | TASK [--key value …]", {}))
        return 0
    settings, track = split_track(arguments)
    cls, path, flags = _named(settings)
    return train_run(load(cls, path, flags), track)


def train_run(config: Settings, track: Sequence[str] = ()) -> int:
    """Trains an agent or a model of sequences, and prints its scores and what can be done with it.

    Args:
        config: the run's settings.
        track: trackers that show the run.
    """
    console = lines() if is_main() else Console(quiet=True)
    # Imported only now, so that help and errors in a config don't wait for torch.
    if isinstance(config, AgentConfig):
        folder = RunFolder(config.folder)
        training = importlib.import_module("sab_agents.train.agents.training")
        with _resumable(folder):
            result = training.train_agent(config, track=track)
        last = min(100, result["episodes"])
        score = "no episode has ended"
        if result["return"] is not None:
            score = f"return {result['return']:.4g}, mean of the last {last} episodes"
        console.print(f"{folder.path} · {result['steps']:,} steps in {result['seconds']:,.0f} s · {score}")
        watched = [("watch it", f"sab-agents watch {folder.path}")]
    else:
        assert isinstance(config, TrainConfig)
        folder = RunFolder(config.folder)
        loop = importlib.import_module("sab_agents.train.supervised.loop")
        with _resumable(folder):
            result = loop.train(config, track=track)
        console.print(f"{folder.path} · {result['steps']} updates in {result['seconds']:.0f} s · {_scores(result)}")
        watched = []
    pictures = sorted(folder.plots.glob("*.png"))
    following = [
        *watched,
        ("score it", f"sab-agents evaluate {folder.path}"),
        ("train longer", f"{program()} resume {folder.path} --steps {2 * config.steps}"),
        ("look at", ", ".join(map(str, pictures))),
    ]
    for what, text in following:
        console.print(f"  {what:<13} {text}", markup=False)
    return 0


def config_of(folder: RunFolder, flags: Sequence[str]) -> Settings:
    """Returns the settings with which a run folder's run is continued.

    Raises:
        UserError: the folder holds no run, or a flag does not fit.
    """
    cls = AgentConfig if folder.holds_agent else TrainConfig
    return load(cls, folder.config, [*flags, "--out", str(folder.path), "--resume", "true"])


def _named(arguments: list[str]) -> tuple[type[Settings], Path | None, list[str]]:
    """Returns what the command line trains: the kind of its settings, the file, and the flags."""
    if not arguments or arguments[0].startswith("--"):
        flags = {argument.partition("=")[0].replace("-", "_") for argument in arguments}
        if not flags & {"__env", "__task"}:
            raise UserError(f"train needs an environment, a task or a config file: {USAGE}.")
        return AgentConfig if "__env" in flags else TrainConfig, None, arguments
    name, flags_of = arguments[0], arguments[1:]
    path = config_path(name)
    if not path.is_file() and name in TASKS:
        return TrainConfig, None, ["--task", name, *flags_of]
    if not path.is_file() and (name in gym.registry or ":" in name):
        raise UserError(f"{name} is an environment: sab-agents train --env {name} --policy MlpSabPolicy.")
    if not path.is_file() and not path.suffix:
        known = [*TASKS, *shipped_configs()]
        raise UserError(f"there is no task and no config file '{name}'. {did_you_mean(name, known)}")
    content = read_yaml(path)
    if "env" not in content:
        return TrainConfig, path, flags_of
    if not content.keys() <= set(keys_of(AgentConfig)) and content.keys() & {"values", "learners", "policies"}:
        raise UserError(f"{name} describes a suite of many runs: sab-agents suite run {name} --out FOLDER.")
    return AgentConfig, path, flags_of


@contextmanager
def _resumable(folder: RunFolder) -> Iterator[None]:
    """Says how to continue after an interrupt, or after the death of another rank."""
    lost = importlib.import_module("sab_agents.distributed").RankLost
    try:
        with continued_by(lambda: _advice(folder)):
            yield
    except lost as error:
        raise TrainingError(f"{error} {_advice(folder)}") from error


def _advice(folder: RunFolder) -> str:
    if folder.agent.exists() or folder.checkpoint.exists():
        return f"Continue: {program()} resume {folder.path}"
    if not folder.config.exists():
        return "Nothing was saved yet. Start again with the same command."
    return f"Nothing was saved yet. Start again: {program()} resume {folder.path}"


def _scores(result: dict[str, Any]) -> str:
    scores = (
        f"{name} {values['test']:.4g} (memoryless {values['memoryless']:.4g})"
        for name, values in result["metrics"].items()
    )
    return f"test {', '.join(scores)}"

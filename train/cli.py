"""The `sab-agents` command. Each subcommand is a module with a function `command`, imported when it is used."""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence

import sab_agents
from sab_agents.checks import did_you_mean
from sab_agents.train.errors import UserError
from sab_agents.train.interrupts import terminated_as_interrupted
from sab_agents.train.output import is_main

# For each subcommand its module, which has `command(arguments) -> exit code`, and what it does.
COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("sab_agents.train.commands.train", "train an agent in any environment, or a model on a task"),
    "resume": ("sab_agents.train.commands.resume", "continue a run or a suite, or train a run longer"),
    "evaluate": (
        "sab_agents.train.commands.evaluate",
        "score a trained run or a scripted policy",
    ),
    "watch": ("sab_agents.train.commands.watch", "see a trained agent act, in a window, as text or as a video"),
    "suite": ("sab_agents.train.commands.suite", "run, list and report experiments of many runs"),
    "report": ("sab_agents.train.commands.report", "lay out what runs and suites found on one page"),
    "envs": ("sab_agents.train.commands.envs", "list the environments and what is known of each"),
    "export": ("sab_agents.train.commands.export", "write a trained agent's step as ONNX or as a torch.export program"),
    "demo": ("sab_agents.train.commands.demo", "see in minutes what SAB learns and a truncated LSTM cannot"),
    "bench": ("sab_agents.train.commands.bench", "time SAB against nn.LSTM and a plain loop"),
}
SHARED = ("train", "resume")
"""Commands that several processes under `torchrun` run together."""
FORMER = ("agents", "compare", "conditioning", "online", "stream", "text")
"""Commands of version 0.1, each a suite; they are gone in version 0.3."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand.

    Args:
        argv: the arguments after the program's name; None takes them from the command line.

    Returns:
        The exit code: 0; 2 for an error that the user can correct; 1 for training that failed; 128 and the signal's
        number for a command that was interrupted, or whose output nobody reads any more.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # what a terminal's encoding does not have
    try:
        with terminated_as_interrupted():
            code = _run(arguments)
            sys.stdout.flush()
            return code
    except UserError as error:
        print(f"sab-agents: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as signalled:
        advice = getattr(signalled, "__notes__", ["Nothing that was finished is lost."])
        if is_main():
            print(f"sab-agents: interrupted. {advice[0]}", file=sys.stderr)
        return 128 + (signalled.args[0] if signalled.args else signal.SIGINT)
    except BrokenPipeError:
        # Who reads the output, such as `head`, has enough; what is still to be flushed at exit would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else 2
    if arguments == ["--version"]:
        print(f"sab-agents {sab_agents.__version__}")
        return 0
    name = arguments[0]
    if name in FORMER:
        print(
            f"sab-agents: warning: '{name}' is now 'suite run': sab-agents suite run {' '.join(arguments[1:])}. "
            "The old name works until version 0.3.",
            file=sys.stderr,
        )
        return int(importlib.import_module("sab_agents.train.commands.suite").run(arguments[1:], name))
    if name not in COMMANDS:
        raise UserError(f"unknown command '{name}'. {did_you_mean(name, COMMANDS)}")
    if name not in SHARED and os.environ.get("WORLD_SIZE", "1") != "1":
        raise UserError(f"'{name}' runs in one process, but torchrun has started several. Start it without torchrun.")
    return int(importlib.import_module(COMMANDS[name][0]).command(arguments[1:]))


def _help() -> str:
    text = [f"  {name:<9} {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: sab-agents COMMAND …",
            "       sab-agents --version",
            "",
            *text,
            "",
            "Begin with: sab-agents train --env CartPole-v1 --policy MlpSabPolicy",
            "`sab-agents COMMAND --help` says more of each.",
        ]
    )

"""The `sab-agents` command. Each subcommand is a module with a function `command`, imported when it is used."""

from __future__ import annotations

import importlib
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from sab_agents.checks import did_you_mean
from sab_agents.train.errors import UserError

# For each subcommand its module, which has `command(arguments) -> exit code`, and what it does.
COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("sab_agents.train.commands.train", "train a model from a config file into a run folder"),
    "evaluate": (
        "sab_agents.train.commands.evaluate",
        "score a trained model or a scripted policy, also at other lengths",
    ),
    "envs": ("sab_agents.train.commands.envs", "list the environments and what is known of each"),
    "compare": ("sab_agents.train.suites.compare", "train several cores with several seeds: a table and curves"),
    "online": ("sab_agents.train.suites.recall", "run learners of an endless stream at several delays"),
    "conditioning": (
        "sab_agents.train.suites.conditioning",
        "run learners that predict the returns of endless trace conditioning",
    ),
    "text": ("sab_agents.train.suites.text", "let learners read a text once, character by character"),
    "agents": ("sab_agents.train.suites.agents", "run PPO agents over sizes of an environment, learners and seeds"),
    "stream": ("sab_agents.train.suites.stream", "run streaming agents over sizes of an environment"),
    "report": ("sab_agents.train.commands.report", "show what suites found on one page, as Markdown and as HTML"),
    "export": (
        "sab_agents.train.commands.export",
        "write a saved agent's step as ONNX or as a torch.export program",
    ),
    "demo": ("sab_agents.train.commands.demo", "see in minutes what SAB learns and a truncated LSTM cannot"),
    "bench": ("sab_agents.train.commands.bench", "time SAB against nn.LSTM and a plain loop"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand.

    Args:
        argv: the arguments after the program's name; None takes them from the command line.

    Returns:
        The exit code: 0; 2 for an error that the user can correct; 1 for training that failed.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with _terminated_as_interrupted():
            return _run(arguments)
    except UserError as error:
        print(f"sab-agents: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as signalled:
        print(
            "sab-agents: interrupted. Continue a training run with --resume true, a suite with the same command.",
            file=sys.stderr,
        )
        return 128 + (signalled.args[0] if signalled.args else signal.SIGINT)


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else 2
    name = arguments[0]
    if name not in COMMANDS:
        raise UserError(f"unknown command '{name}'. {did_you_mean(name, COMMANDS)}")
    return int(importlib.import_module(COMMANDS[name][0]).command(arguments[1:]))


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Lets SIGTERM, which schedulers and `timeout` send, end a command as Ctrl-C does: files and workers are closed."""
    if threading.current_thread() is not threading.main_thread():  # where Python sets no handlers
        yield
        return

    def interrupt(number: int, _: FrameType | None) -> None:
        raise KeyboardInterrupt(number)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _help() -> str:
    text = [f"  {name:<10} {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(["usage: sab-agents COMMAND …", "", *text, "", "`sab-agents COMMAND --help` says more of each."])

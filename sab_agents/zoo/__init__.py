"""RL Zoo's scripts with this library's agents: `python -m sab_agents.zoo train --algo ppo_sab --env …`.

`ppo_sab` is `PPOSab`, a `RecurrentPPO` whose memory's settings are arguments. The scripts and their flags are RL Zoo's:
`train`, with `-optimize` and `--storage` for a search on several machines, and `enjoy`. Hyperparameters of environments
are in `hyperparams/ppo_sab.yml`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from sab_agents.checks import did_you_mean
from sab_agents.zoo.agent import PPOSab, converted, sample

__all__ = ["ALGO", "HYPERPARAMS", "PPOSab", "main", "register"]

ALGO = "ppo_sab"
HYPERPARAMS = Path(__file__).with_name("hyperparams") / "ppo_sab.yml"
SCRIPTS = ("train", "enjoy")
USAGE = f"python -m sab_agents.zoo {' | '.join(SCRIPTS)} [--algo {ALGO}] --env ID [flags of RL Zoo]"


def register() -> None:
    """Makes `ppo_sab`, its search for hyperparameters and the environments of this library known to RL Zoo.

    Raises:
        ImportError: RL Zoo is not installed.
    """
    try:
        zoo = importlib.import_module("rl_zoo3")
        options = importlib.import_module("rl_zoo3.hyperparams_opt")
    except ImportError as error:
        raise ImportError(
            f"sab_agents.zoo needs RL Zoo, but {error.name} is not installed. Run: pip install 'sab-agents[zoo]'."
        ) from error
    zoo.ALGOS[ALGO] = PPOSab
    options.HYPERPARAMS_SAMPLER[ALGO] = sample
    options.HYPERPARAMS_CONVERTER[ALGO] = converted


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a script of RL Zoo.

    Where the command line leaves them out, `--algo` is `ppo_sab`, its hyperparameters are those of this package, and
    `enjoy` looks into `logs`, where `train` writes.

    Args:
        argv: the script and its flags; None takes them from the command line.

    Returns:
        The exit code: 0; 2 if there is no such script, or RL Zoo is not installed.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: {USAGE}\n       python -m sab_agents.zoo train --help")
        return 0 if arguments else 2
    script = arguments.pop(0)
    if script not in SCRIPTS:
        print(f"sab_agents.zoo: unknown script '{script}'. {did_you_mean(script, SCRIPTS)}", file=sys.stderr)
        return 2
    try:
        register()
    except ImportError as error:
        print(error, file=sys.stderr)
        return 2
    before = sys.argv
    sys.argv = [f"sab_agents.zoo {script}", *completed(script, arguments)]
    try:
        getattr(importlib.import_module(f"rl_zoo3.{script}"), script)()
    finally:
        sys.argv = before
    return 0


def completed(script: str, arguments: Sequence[str]) -> list[str]:
    """Returns the flags of a script with those that are left out."""
    whole = list(arguments)
    if _value(whole, "--algo") is None:
        whole += ["--algo", ALGO]
    if _value(whole, "--algo") != ALGO:
        return whole
    if script == "train" and _value(whole, "-conf", "--conf-file") is None:
        whole += ["--conf-file", str(HYPERPARAMS)]
    if script == "enjoy" and _value(whole, "-f", "--folder") is None:
        whole += ["--folder", "logs"]
    return whole


def _value(arguments: Sequence[str], *names: str) -> str | None:
    """Returns the value of a flag that has these names; None if it is left out."""
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in names:
            return value if equals else next(iter(arguments[place + 1 :]), "")
    return None

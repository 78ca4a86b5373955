"""`sab-agents train CONFIG [--key value …]`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from sab_agents.train.configuration import help_of, load
from sab_agents.train.errors import UserError
from sab_agents.train.supervised.config import TrainConfig

USAGE = "sab-agents train CONFIG [--key value …]"


def command(arguments: Sequence[str]) -> int:
    """Trains the config's model; the flags change the config's settings."""
    if "-h" in arguments or "--help" in arguments:
        print(help_of(TrainConfig, USAGE, {}))
        return 0
    if not arguments or arguments[0].startswith("--"):
        raise UserError(f"train needs a config file: {USAGE}.")
    config = load(TrainConfig, arguments[0], arguments[1:])
    # Imported only now, so that help and errors in a config don't wait for torch.
    result = importlib.import_module("sab_agents.train.supervised.loop").train(config)
    scores = ", ".join(
        f"{name} {values['test']:.4g} (memoryless {values['memoryless']:.4g})"
        for name, values in result["metrics"].items()
    )
    print(f"{config.folder} · {result['steps']} updates in {result['seconds']:.0f} s · test {scores}")
    return 0

"""`sab-agents train CONFIG [--key value …]`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from sab_agents.train.config import config_parser, load_config
from sab_agents.train.errors import UserError

USAGE = "sab-agents train CONFIG [--key value …]"


def command(arguments: Sequence[str]) -> int:
    """Trains the config's model; the flags change the config's settings."""
    if "-h" in arguments or "--help" in arguments:
        print(config_parser(USAGE).format_help())
        return 0
    if not arguments or arguments[0].startswith("--"):
        raise UserError(f"train needs a config file: {USAGE}.")
    config = load_config(arguments[0], arguments[1:])
    # Imported only now, so that help and errors in a config don't wait for torch.
    result = importlib.import_module("sab_agents.train.loop").train(config)
    scores = ", ".join(
        f"{name} {values['test']:.4g} (memoryless {values['memoryless']:.4g})"
        for name, values in result["metrics"].items()
    )
    print(f"{config.folder} · {result['steps']} updates in {result['seconds']:.0f} s · test {scores}")
    return 0

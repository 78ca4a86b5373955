"""`sab-agents resume RUN`: continues what was interrupted, or trains longer."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

from sab_agents.train.commands.train import config_of, train_run
from sab_agents.train.errors import UserError
from sab_agents.train.run_folder import RunFolder
from sab_agents.train.trackers import split_track

USAGE = "sab-agents resume RUN [--key value …]"
HELP = f"""usage: {USAGE}

Continues a run, or a suite, that was interrupted. Flags change settings of a
run: --steps 200000 trains it longer. A model of sequences continues bit-exactly
from its last checkpoint; so does an agent in environments of this library, and
in others with new episodes; a suite keeps its finished cells. A run that was
tracked (--track) is tracked further.
"""


def command(arguments: Sequence[str]) -> int:
    """Continues a run or a suite."""
    if "-h" in arguments or "--help" in arguments:
        print(HELP)
        return 0
    if not arguments or arguments[0].startswith("--"):
        raise UserError(f"resume needs the folder of a run or of a suite: {USAGE}.")
    folder = RunFolder(Path(arguments[0]))
    if "suite" in folder.read_settings():
        running = importlib.import_module("sab_agents.train.commands.suite")
        return int(running.command(["run", str(folder.config), *arguments[1:], "--out", str(folder.path)]))
    settings, track = split_track(arguments[1:])
    return train_run(config_of(folder, settings), track)

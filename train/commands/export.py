"""`sab-agents export RUN FILE`: a saved agent's step as ONNX or as a torch.export program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sab_agents.train.commands.arguments import Parser, at_least_one
from sab_agents.train.errors import UserError, one_line
from sab_agents.train.output import lines
from sab_agents.train.run_folder import RunFolder


def command(arguments: Sequence[str]) -> int:
    """Loads the agent and writes the file."""
    parser = Parser("export", "Write a saved agent's step as a file that runs without this library.")
    parser.add_argument(
        "model", type=Path, metavar="RUN", help="the run folder of an agent, or a file that RecurrentPPO.save wrote"
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="ends in .onnx or .pt2")
    parser.add_argument("--rows", type=at_least_one, metavar="N", help="rows of every call; default: any number")
    parser.add_argument("--max-steps", type=at_least_one, metavar="N", help="for a state that grows with the episode")
    given = parser.parse(arguments)
    from sab_agents.ppo import RecurrentPPO, export_policy  # noqa: PLC0415 (stable-baselines3 takes a while to import)

    saved = _saved(given.model)
    try:
        model = RecurrentPPO.load(saved, device="cpu")
        path = export_policy(model, given.file, batch_size=given.rows, max_steps=given.max_steps)
    except (OSError, TypeError, ValueError, RuntimeError, ImportError) as error:
        raise UserError(one_line(error)) from error
    lines().print(f"{type(model.policy).__name__} -> {path}")
    return 0


def _saved(model: Path) -> Path:
    """Returns the file of the agent, for a file or a run folder."""
    if not model.is_dir():
        return model
    run = RunFolder(model)
    if run.read_settings().get("algo") != "ppo":
        raise UserError(f"{model} holds no agent of RecurrentPPO (sab-agents train --algo ppo), which export needs.")
    return run.agent

"""The folder of one training run: which files it has; a kill leaves each of them whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sab_agents.train.configuration import read_yaml
from sab_agents.train.errors import UserError, one_line
from sab_agents.train.output import make_folder, write_atomically, write_json


class RunFolder:
    """The files of one run.

    config.yaml holds the settings, metrics.jsonl one line for each logged step, result.json the outcome (once the run
    is finished), plots/ the PNGs, tb/ TensorBoard's events and tracking.json the run's ids in trackers. A model of
    sequences is in model.safetensors, and what resuming it needs in checkpoint.safetensors; agent.zip is both for an
    agent, but for places/, which has where its environments were.

    Args:
        path: the folder; `create` makes it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.metrics = self.path / "metrics.jsonl"
        self.checkpoint = self.path / "checkpoint.safetensors"
        self.model = self.path / "model.safetensors"
        self.agent = self.path / "agent.zip"
        self.places = self.path / "places"
        self.result = self.path / "result.json"
        self.plots = self.path / "plots"
        self.tensorboard = self.path / "tb"
        self.tracking = self.path / "tracking.json"

    def create(self, settings: Mapping[str, Any], *, resume: bool) -> None:
        """Makes the folder and writes its config.

        Raises:
            UserError: it already holds a run and `resume` is not set, or it cannot be written.
        """
        if not resume and self.config.exists():
            raise UserError(
                f"{self.path} already holds a run. Continue it with sab-agents resume {self.path}, or choose another "
                "--out."
            )
        make_folder(self.path)
        write_atomically(self.config, yaml.safe_dump(dict(settings), sort_keys=False).encode())

    def read_settings(self) -> dict[str, Any]:
        """Returns the run's settings.

        Raises:
            UserError: the folder holds no run.
        """
        if not self.config.exists():
            raise UserError(f"{self.path} holds no run: there is no config.yaml. Train one with sab-agents train.")
        return read_yaml(self.config)

    @property
    def holds_agent(self) -> bool:
        """Whether the run is one of an agent in an environment, and not of a model of sequences.

        Raises:
            UserError: the folder holds no run.
        """
        return "policy" in self.read_settings()

    def read_result(self) -> dict[str, Any] | None:
        """Returns the outcome, or None while the run is not finished.

        Raises:
            UserError: the file is damaged.
        """
        if not self.result.exists():
            return None
        result: dict[str, Any] = _parsed(self.result, self.result.read_text(encoding="utf-8"))
        return result

    def write_result(self, result: dict[str, Any]) -> None:
        """Marks the run as finished with this outcome."""
        write_json(self.result, result)

    def read_metrics(self) -> list[dict[str, Any]]:
        """Returns the logged lines, oldest first, without a last one that a kill left half-written.

        Raises:
            UserError: another line is damaged.
        """
        if not self.metrics.exists():
            return []
        lines = self.metrics.read_text(encoding="utf-8").splitlines(keepends=True)
        return [_parsed(self.metrics, line) for line in lines if line.endswith("\n")]

    def cut_metrics(self, step: int) -> None:
        """Removes the lines that were logged after the checkpoint at `step`, and those of a finished run's test."""
        kept = [line for line in self.read_metrics() if line["step"] <= step and line["split"] != "test"]
        write_atomically(self.metrics, "".join(json.dumps(line) + "\n" for line in kept).encode())


def _parsed(file: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        remedy = "Remove that line." if file.suffix == ".jsonl" else "Remove the file: the run is continued without it."
        raise UserError(f"{file}: damaged: {one_line(text)[:40]!r} is no JSON. {remedy}") from error

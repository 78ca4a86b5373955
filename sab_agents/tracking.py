"""Weights & Biases and MLflow as output formats of stable-baselines3's logger.

    >>> from stable_baselines3.common.logger import configure
    >>> from sab_agents.tracking import WandbWriter
    >>> logger = configure("runs/1", ["tensorboard"])                       # doctest: +SKIP
    >>> logger.output_formats.append(WandbWriter("run 1", folder="runs/1")) # doctest: +SKIP
    >>> model.set_logger(logger)                                            # doctest: +SKIP

A tracker gets what TensorBoard gets: numbers, images and figures, at the logger's step. `close` ends the run.
"""

from __future__ import annotations

import importlib
import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import Figure, Image, KVWriter

PROJECT = "sab-agents"
STEP = "global_step"
"""The name of the step in W&B, by which its plots are drawn."""


class WandbWriter(KVWriter):
    """A run in Weights & Biases.

    The environment variables of W&B hold: with WANDB_MODE=offline it writes files alone, which `wandb sync` uploads.

    Args:
        name: of the run.
        folder: where W&B puts its folder `wandb`; None is the present folder.
        group: of runs that belong together.
        settings: what the run was started with.
        run_id: continues the run with this id; None begins one.

    Attributes:
        run_id: of the run.

    Raises:
        ImportError: W&B is not installed.
        wandb.Error: W&B cannot be reached, or nobody is logged in.
    """

    def __init__(
        self,
        name: str,
        *,
        folder: str | Path | None = None,
        group: str | None = None,
        settings: Mapping[str, Any] | None = None,
        run_id: str | None = None,
    ) -> None:
        self._wandb = _imported("wandb", "Weights & Biases")
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=name,
            dir=None if folder is None else str(Path(folder).resolve()),  # its server has another current folder
            group=group,
            config=dict(settings or {}),
            id=run_id,
            resume="allow" if run_id is not None else None,
            reinit="create_new",
            settings=self._wandb.Settings(silent=True, console="off"),
        )
        self._run.define_metric("*", step_metric=STEP)
        self.run_id: str = self._run.id

    @staticmethod
    def prepare(group: str | None = None) -> None:
        """Does nothing: a group of W&B needs no preparation."""

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Logs what TensorBoard would be given of some named values."""
        numbers, pictures = _shown(key_values, key_excluded)
        images = {name: self._wandb.Image(picture) for name, picture in pictures.items()}
        if numbers or images:
            self._run.log({**numbers, **images, STEP: step})

    def close(self, *, failed: bool = False) -> None:
        """Ends the run; a second time does nothing."""
        self._run.finish(exit_code=int(failed))


class MlflowWriter(KVWriter):
    """A run in MLflow.

    It is in the store that the environment variable MLFLOW_TRACKING_URI names, or else in MLflow's default, a file of
    the present folder; and in the experiment that MLFLOW_EXPERIMENT_NAME names, or else the group, or else
    `sab-agents`.

    Args:
        name: of the run.
        folder: not needed; MLflow's own settings say where it writes.
        group: the experiment, for runs that belong together.
        settings: what the run was started with; they become parameters, of a run that begins.
        run_id: continues the run with this id; None begins one.

    Attributes:
        run_id: of the run.

    Raises:
        ImportError: MLflow is not installed.
        mlflow.exceptions.MlflowException: its store cannot be reached.
    """

    def __init__(
        self,
        name: str,
        *,
        folder: str | Path | None = None,  # noqa: ARG002  # as for all trackers
        group: str | None = None,
        settings: Mapping[str, Any] | None = None,
        run_id: str | None = None,
    ) -> None:
        self._entities = _imported("mlflow", "MLflow").entities
        self._error: type[Exception] = importlib.import_module("mlflow.exceptions").MlflowException
        self._client, experiment = _experiment(group)
        self._ended = self._lost = False
        if run_id is not None:
            self.run_id = run_id
            self._client.update_run(run_id, status="RUNNING")
            return
        tags = {} if group is None else {"group": group}
        self.run_id = self._client.create_run(experiment, run_name=name, tags=tags).info.run_id
        parameters = [
            self._entities.Param(_plain_name(key), str(value)[:LONGEST]) for key, value in (settings or {}).items()
        ]
        for first in range(0, len(parameters), 100):  # as many as MLflow takes at a time
            self._client.log_batch(self.run_id, params=parameters[first : first + 100])

    @staticmethod
    def prepare(group: str | None = None) -> None:
        """Creates the store and the experiment, which several processes must not do at once."""
        _imported("mlflow", "MLflow")
        _experiment(group)

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Logs what TensorBoard would be given of some named values.

        A store that fails is a warning: the run continues, and is no longer tracked.
        """
        if self._lost or self._ended:
            return
        numbers, pictures = _shown(key_values, key_excluded)
        now = int(1000 * time.time())
        metrics = [self._entities.Metric(_plain_name(name), value, now, step) for name, value in numbers.items()]
        try:
            if metrics:
                self._client.log_batch(self.run_id, metrics=metrics)
            for name, picture in pictures.items():
                if isinstance(picture, np.ndarray):
                    self._client.log_image(self.run_id, picture, key=_plain_name(name), step=step)
                else:
                    self._client.log_figure(self.run_id, picture, f"{_plain_name(name)}-{step}.png")
        except self._error as error:
            self._lost = True
            warnings.warn(f"MLflow: {error} This run is no longer tracked there.", RuntimeWarning, stacklevel=2)

    def close(self, *, failed: bool = False) -> None:
        """Ends the run; a second time does nothing."""
        if not (self._ended or self._lost):
            self._client.set_terminated(self.run_id, "FAILED" if failed else "FINISHED")
        self._ended = True


LONGEST = 500
"""Characters of a parameter that every store of MLflow takes."""
WRITERS: Mapping[str, type[WandbWriter] | type[MlflowWriter]] = {"wandb": WandbWriter, "mlflow": MlflowWriter}


def _imported(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{name} is not installed. Run: pip install 'sab-agents[tracking]'.") from error


def _experiment(group: str | None) -> tuple[Any, str]:
    """Returns MLflow's client, and the id of an experiment, which is created unless it is there."""
    client = importlib.import_module("mlflow.tracking").MlflowClient()
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or group or PROJECT
    there = client.get_experiment_by_name(name)
    return client, str(there.experiment_id if there is not None else client.create_experiment(name))


def _plain_name(name: str) -> str:
    """Returns a name of the characters that MLflow allows."""
    return re.sub(r"[^\w\-. /]", "_", name)


def _shown(
    key_values: Mapping[str, Any], key_excluded: Mapping[str, tuple[str, ...] | None]
) -> tuple[dict[str, float], dict[str, Any]]:
    """Returns the numbers, and the images and figures, that are not kept from TensorBoard."""
    numbers, pictures = dict[str, float](), dict[str, Any]()
    for name, value in _included(key_values, key_excluded):
        if isinstance(value, Image):
            pictures[name] = _pixels(value)
        elif isinstance(value, Figure):
            pictures[name] = value.figure
        elif np.ndim(value) == 0 and np.issubdtype(np.asarray(value).dtype, np.number):
            numbers[name] = float(value)
    return numbers, pictures


def _included(
    key_values: Mapping[str, Any], key_excluded: Mapping[str, tuple[str, ...] | None]
) -> Iterator[tuple[str, Any]]:
    for name, value in key_values.items():
        if "tensorboard" not in (key_excluded.get(name) or ()):
            yield name, value


def _pixels(image: Image) -> np.ndarray[Any, Any]:
    """Returns the pixels of an image by height, width and channel."""
    pixels = np.asarray(image.image)
    order = [image.dataformats.index(axis) for axis in "HWC" if axis in image.dataformats]
    return pixels.transpose(order)

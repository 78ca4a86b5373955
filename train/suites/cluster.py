"""Runs tasks on a Ray cluster: what each writes into a folder on its node comes back with its result."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from sab_agents import __version__
from sab_agents.train.errors import TrainingError, UserError, one_line
from sab_agents.train.output import write_atomically

TRIES = 4
"""How often a task is run whose process or node died."""
CARRIED = ("WANDB_MODE", "WANDB_PROJECT", "WANDB_ENTITY", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME")
"""Environment variables that tasks get from this process; none is a secret."""

WorkT = TypeVar("WorkT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster.

    Attributes:
        address: HOST:PORT of its head, as `ray start` takes it; None is the environment variable RAY_ADDRESS, or else a
            cluster that runs on this machine, or else one that is started here and ended with the work.
        processors: CPUs that each task occupies.
    """

    address: str | None = None
    processors: int = 1


def check_ray() -> None:
    """Raises UserError if Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise UserError("--engine ray needs Ray, which is not installed. Run: pip install 'sab-agents[ray]'.")


def run_on(
    cluster: Cluster, task: Callable[[WorkT, Path], ResultT], works: Sequence[WorkT], out: Path
) -> Iterator[ResultT | TrainingError]:
    """Runs a task for each of several works, as many at a time as the cluster has processors.

    A task whose process or node dies is repeated, from its beginning and on any node; nothing of the first attempt is
    kept.

    Args:
        cluster: where.
        task: gets a work and an empty folder. What it leaves in the folder, also when it raises TrainingError, is
            copied to `out`, in the place of files of the same names: those of `cells/*.json` last, because they say
            that the others are there.
        works: what there is to do. They, the task and its results are pickled.
        out: a folder of this machine.

    Yields:
        The result of each task as soon as it ends; the error of one that failed or whose process died `TRIES` times.

    Raises:
        UserError: Ray is not installed, the cluster cannot be reached, or a task says that a setting does not fit.
    """
    check_ray()
    ray: Any = importlib.import_module("ray")
    variables = {name: os.environ[name] for name in CARRIED if name in os.environ}
    with _connected(ray, cluster.address):
        remote = ray.remote(_ran).options(
            num_cpus=cluster.processors,
            max_retries=TRIES - 1,
            runtime_env={"env_vars": variables} if variables else None,
        )
        shared = ray.put(task)
        waiting = [remote.remote(shared, work, __version__) for work in works]
        try:
            while waiting:
                (ended,), waiting = ray.wait(waiting, num_returns=1)
                yield _collected(ray, ended, out)
        finally:
            for left in waiting:  # after an interrupt or an error
                ray.cancel(left, force=True)


class _Outcome(NamedTuple):
    """What a task came to: its result or its error, and its files by their paths in the folder."""

    result: Any
    error: UserError | None
    files: dict[str, bytes]


def _ran(task: Callable[[Any, Path], Any], work: Any, version: str) -> _Outcome:
    """Runs a task on a node."""
    if version != __version__:
        error = UserError(f"a node has sab-agents {__version__}, but this machine {version}. Install one of the two.")
        return _Outcome(None, error, {})
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="sab-agents-") as name:
        folder, result, raised = Path(name), None, None
        try:
            result = task(work, folder)
        except UserError as error:
            raised = error
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return _Outcome(result, raised, {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths})


def _collected(ray: Any, ended: Any, out: Path) -> Any:
    """Writes the files of a task that ended, and returns its result, or the error that concerns it alone."""
    try:
        outcome: _Outcome = ray.get(ended)
    except ray.exceptions.RayTaskError:  # an error in the task's code
        raise
    except ray.exceptions.RayError as error:
        return TrainingError(f"its process or its node died {TRIES} times: {one_line(error)}")
    for name in sorted(outcome.files, key=lambda name: Path(name).match("cells/*.json")):
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, outcome.files[name])
    if outcome.error is not None and not isinstance(outcome.error, TrainingError):
        raise outcome.error
    return outcome.result if outcome.error is None else outcome.error


@contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[None]:
    """Connects to a cluster, unless this process is connected already.

    Raises:
        UserError: it cannot be reached.
    """
    _check_answers(address)
    if ray.is_initialized():
        yield
        return
    terminated = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        where = "Ray cannot be started" if address is None else f"Ray cannot connect to {address}"
        raise UserError(f"{where}: {one_line(error)}") from error
    try:
        signal.signal(signal.SIGTERM, terminated)  # which Ray replaces
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str | None) -> None:
    """Raises UserError if nothing listens at an address, for which Ray would wait several minutes."""
    if address is None or address in ("auto", "local"):  # Ray's words for a cluster of this machine
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        raise UserError(f"--address must be HOST:PORT, as in 10.0.0.1:6379, but is '{address}'.")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"no Ray cluster answers at {address}: {one_line(error)}. Start one there: ray start --head."
        ) from error

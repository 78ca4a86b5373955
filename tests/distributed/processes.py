"""Two processes that find each other, as `torchrun` starts them."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

PRELOADED = ["sab_agents.train.agents.training", "sab_agents.train.supervised.loop", "torch.utils.tensorboard"]


def in_two(function: Callable[..., None], folder: Path, *arguments: Any, ends: Sequence[int] = (0, 0)) -> list[str]:
    """Calls a function of a module with rank 0 and 1, the folder and the arguments, each in a process of its own.

    They are forked from one that has imported everything but computed nothing.

    Args:
        function: what they call.
        folder: where their standard errors are written.
        arguments: the others.
        ends: the exit codes that they must have.

    Returns:
        What each wrote to its standard error.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [context.Process(target=_run, args=(rank, port, function, folder, *arguments)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
        process.kill()  # which does nothing to one that has ended
    errors = [(folder / f"errors{rank}").read_text(encoding="utf-8") for rank in range(2)]
    assert [process.exitcode for process in processes] == list(ends), "\n".join(errors)
    return errors


def _run(rank: int, port: int, function: Callable[..., None], folder: Path, *arguments: Any) -> None:
    found = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in found.items()} | {"MASTER_ADDR": "127.0.0.1"}
    torch.set_num_threads(1)
    sys.stderr = (folder / f"errors{rank}").open("w", encoding="utf-8", buffering=1)
    sys.stdout = (folder / f"printed{rank}").open("w", encoding="utf-8", buffering=1)
    function(rank, folder, *arguments)

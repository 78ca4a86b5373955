"""Two processes that find each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.multiprocessing.spawn import spawn


def in_two(function: Callable[..., None], folder: Path, *arguments: Any) -> None:
    """Calls a function of a module with rank 0 and 1, the folder and the arguments, each in a process of its own."""
    spawn(_run, (function, folder, *arguments), nprocs=2)  # type: ignore[no-untyped-call]


def _run(rank: int, function: Callable[..., None], folder: Path, *arguments: Any) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    try:
        function(rank, folder, *arguments)
    finally:
        distributed.destroy_process_group()

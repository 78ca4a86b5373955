"""Several pieces of work at once, each on its share of torch's threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Result = TypeVar("Result")


def one_by_one(works: Sequence[Callable[[], Result]]) -> list[Result]:
    """The results of works, one after the other."""
    return [work() for work in works]


def side_by_side(works: Sequence[Callable[[], Result]]) -> list[Result]:
    """The same at once, where torch has a thread for each; works must not share what they change.

    A recurrent network of few rows can use only one thread, and compiled code lets other threads of Python run.
    """
    threads = torch.get_num_threads()
    if not 1 < len(works) <= threads:
        return one_by_one(works)
    torch.set_num_threads(threads // len(works))  # for new threads as well
    try:
        with ThreadPoolExecutor(len(works) - 1) as others:
            rest = [others.submit(work) for work in works[1:]]
            return [works[0](), *(other.result() for other in rest)]
    finally:
        torch.set_num_threads(threads)

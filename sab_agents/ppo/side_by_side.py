"""Several pieces of work at once, each on one of torch's threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch

from sab_agents.kernels.native_backend.extension import native

Result = TypeVar("Result")


def one_by_one(works: Sequence[Callable[[], Result]]) -> list[Result]:
    """The results of works, one after the other."""
    return [work() for work in works]


def side_by_side(works: Sequence[Callable[[], Result]]) -> list[Result]:
    """The same at once, where torch has a thread for each; works must not share what they change.

    A recurrent network of few rows can use only one thread, and compiled code lets other threads of Python run. They
    must be torch's own: between two operations those go on spinning, and would take the processor from any other.
    """
    if native is None or not 1 < len(works) <= torch.get_num_threads():
        return one_by_one(works)
    attempts = tuple(_Attempt(work) for work in works)
    native.at_once(attempts)
    return [attempt.result() for attempt in attempts]


class _Attempt(Generic[Result]):
    """A piece of work whose failure waits until its result is asked for."""

    def __init__(self, work: Callable[[], Result]) -> None:
        self._work = work
        self._error: BaseException | None = None

    def __call__(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:
            self._error = error

    def result(self) -> Result:
        """What the work returned; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._result

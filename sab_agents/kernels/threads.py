"""Several calls at once, each on one of torch's threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch

from sab_agents.kernels.native_backend.extension import native

Result = TypeVar("Result")


def one_by_one(calls: Sequence[Callable[[], Result]]) -> list[Result]:
    """Returns the results of calls that are made one after the other."""
    return [call() for call in calls]


def side_by_side(calls: Sequence[Callable[[], Result]]) -> list[Result]:
    """Makes the calls at the same time if torch has a thread for each, and returns their results in order.

    A recurrent network of few rows keeps only one thread busy, and native code lets other threads of Python run. They
    must be torch's own threads: between two operations those keep spinning, and would take the processor from others.

    Args:
        calls: which must not share anything that they change.

    Raises:
        BaseException: what the first of the calls that failed raised, after all of them have ended.
    """
    if native is None or not 1 < len(calls) <= torch.get_num_threads():
        return one_by_one(calls)
    attempts = tuple(_Attempt(call) for call in calls)
    native.at_once(attempts)
    return [attempt.result() for attempt in attempts]


class _Attempt(Generic[Result]):
    """A call whose error is kept until its result is asked for."""

    def __init__(self, call: Callable[[], Result]) -> None:
        self._call = call
        self._error: BaseException | None = None

    def __call__(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:
            self._error = error

    def result(self) -> Result:
        """Returns what the call returned; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._result

"""Fair timing on a noisy machine: the sides take turns, and medians at each side's best thread count are compared."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch

Work = Callable[[], object]
Side = TypeVar("Side", bound=Hashable)


@dataclass(frozen=True)
class Timing:
    """The duration of one side.

    Attributes:
        seconds: median of the rounds.
        low: fastest round, in seconds.
        high: slowest round, in seconds.
        threads: the thread count at which it was measured, the side's best.
    """

    seconds: float
    low: float
    high: float
    threads: int

    def of_each(self, parts: int) -> Timing:
        """Returns the time of one of `parts` equal parts."""
        return Timing(self.seconds / parts, self.low / parts, self.high / parts, self.threads)


def clock(device: str = "cpu") -> float:
    """Returns seconds; on a CPU with one thread those of the processor, which other programs hardly change."""
    return time.process_time() if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter()


def thread_counts() -> list[int]:
    """Returns one thread, and as many as this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return sorted({1, cores})


def finished(device: str) -> None:
    """Waits for all work on a device; work on a CPU is done when its call returns."""
    if device == "cuda":
        torch.cuda.synchronize()


@dataclass(frozen=True)
class Rounds:
    """One side's rounds at its best thread count.

    Attributes:
        seconds: of each round.
        threads: the thread count.
    """

    seconds: list[float]
    threads: int

    @property
    def timing(self) -> Timing:
        """Their median and spread."""
        return Timing(statistics.median(self.seconds), min(self.seconds), max(self.seconds), self.threads)

    def ratios(self, other: Rounds) -> list[float]:
        """Returns the ratio to the other side in each round."""
        return [mine / theirs for mine, theirs in zip(self.seconds, other.seconds, strict=True)]


def in_turn(
    sides: Mapping[Side, Work], rounds: int, device: str = "cpu", *, shared: bool = False
) -> dict[Side, Rounds]:
    """Times every side in turn, `rounds` times at each thread count, and keeps each side's best thread count.

    On a GPU a round lasts until the device is done, and one thread starts the work. With `shared`, for cores on which
    other programs run, it is the processor time of one thread.
    """
    clock = time.process_time if shared else time.perf_counter
    best: dict[Side, Rounds] = {}
    before = torch.get_num_threads()
    try:
        for threads in thread_counts() if device == "cpu" and not shared else [1]:
            torch.set_num_threads(threads)
            for work in sides.values():
                work()
            seconds: dict[Side, list[float]] = {name: [] for name in sides}
            for _ in range(rounds):
                for name, work in sides.items():
                    finished(device)
                    start = clock()
                    work()
                    finished(device)
                    seconds[name].append(clock() - start)
            for name, times in seconds.items():
                found = Rounds(times, threads)
                if name not in best or found.timing.seconds < best[name].timing.seconds:
                    best[name] = found
    finally:
        torch.set_num_threads(before)
    return best


def race(sides: Mapping[Side, Work], rounds: int, device: str = "cpu") -> dict[Side, Timing]:
    """Returns median and spread of each side; see `in_turn`."""
    return {name: found.timing for name, found in in_turn(sides, rounds, device).items()}

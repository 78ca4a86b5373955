"""Which cases of a test are run by default, and which are slow: more of the same, for `make test-slow`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import pytest


def slow(*values: Any) -> Any:
    """A case that is not run by default, of `values` for the names that are parametrized."""
    return pytest.param(*values, marks=pytest.mark.slow)


def first(count: int, cases: Iterable[Any]) -> list[Any]:
    """`cases`, of which only so many are run by default."""
    return [case if number < count else slow(case) for number, case in enumerate(cases)]


def only(chosen: Iterable[str], cases: Iterable[str]) -> list[Any]:
    """`cases`, of which only the `chosen` are run by default."""
    chosen, cases = set(chosen), list(cases)
    assert chosen <= set(cases), chosen - set(cases)
    return [case if case in chosen else slow(case) for case in cases]


def covering(cases: Sequence[Mapping[str, int]], together: int) -> list[int]:
    """Places of some of the `cases`, values of names, in which any so many values that meet in a case meet, too.

    Chosen greedily: each has the most meetings that were not there before it, and is the first of those.
    """
    meetings: list[set[Any]] = [set(combinations(sorted(case.items()), min(together, len(case)))) for case in cases]
    missing = set().union(*meetings)
    chosen = []
    while missing:
        best = max(range(len(cases)), key=lambda place: len(meetings[place] & missing))
        chosen.append(best)
        missing -= meetings[best]
    return sorted(chosen)

"""Calls that are made at the same time, each on one of torch's threads."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from threading import Barrier, get_ident

import pytest
import torch

from sab_agents.kernels.native_backend.extension import native
from sab_agents.kernels.threads import side_by_side

needs_native = pytest.mark.skipif(native is None, reason="the native kernel was not built: no C++ compiler")


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@needs_native
def test_calls_are_made_at_once_on_torchs_own_threads(two_threads: None) -> None:  # noqa: ARG001
    meet = Barrier(2)

    def call(number: int) -> tuple[int, int]:
        meet.wait(timeout=10)
        return number, get_ident()

    (first, here), (second, other) = side_by_side([partial(call, 1), partial(call, 2)])
    assert (first, second) == (1, 2)
    assert {here, other} > {get_ident()}
    again = [thread for _, thread in side_by_side([partial(call, 1), partial(call, 2)])]
    assert set(again) == {here, other}


def test_an_error_in_one_call_is_raised_and_threads_come_back(two_threads: None) -> None:  # noqa: ARG001
    with pytest.raises(ZeroDivisionError):
        side_by_side([lambda: 0, lambda: 1 // 0])
    assert torch.get_num_threads() == 2


def test_without_a_thread_for_each_calls_are_made_in_order() -> None:
    seen: list[int] = []

    def call(number: int) -> int:
        seen.append(number)
        return number

    assert side_by_side([partial(call, 1), partial(call, 2)]) == [1, 2]
    assert seen == [1, 2]

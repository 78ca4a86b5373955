"""Steps that are recorded by the native kernel, and those that are left to the caller."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch

from sab_agents.kernels import Recorder
from tests.kernels.extension import needs_native

pytestmark = needs_native


def test_steps_are_recorded_where_they_belong() -> None:
    recorder, record, starts = Recorder(3), torch.zeros(4, 1, 3), torch.ones(4, 1, dtype=torch.bool)
    for time in (2, 0):
        assert recorder.put(torch.full((1, 3), time + 1.0), record, starts, time)
    assert record[:, 0, 0].tolist() == [1, 0, 3, 0]
    assert starts[:, 0].tolist() == [False, True, False, True]
    other = torch.zeros(2, 1, 3)
    assert recorder.put(torch.ones(1, 3), other, None, 1)
    assert other.sum() == 3
    assert copy.deepcopy(recorder).put(torch.ones(1, 3), other, None, 0)
    assert other.sum() == 6


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_is_not_finite_is_not_recorded(number: float) -> None:
    record = torch.zeros(4, 1, 3)
    assert not Recorder(3).put(torch.tensor([[0.0, number, 1.0]]), record, None, 1)
    assert not record.any()


@pytest.mark.parametrize(
    ("x", "record", "time"),
    [
        (torch.ones(1, 4), torch.zeros(4, 1, 3), 0),
        (torch.ones(3, 1).t().double(), torch.zeros(4, 1, 3), 0),
        (torch.ones(1, 3), torch.zeros(4, 1, 3).double(), 0),
        (torch.ones(1, 3), torch.zeros(4, 2, 3), 0),
        (torch.ones(1, 3), torch.zeros(4, 1, 3), 4),
        (torch.ones(1, 3), torch.zeros(4, 1, 3), -1),
        (torch.ones(1, 3, device="meta"), torch.zeros(4, 1, 3), 0),
        ([[1.0, 1.0, 1.0]], torch.zeros(4, 1, 3), 0),
    ],
    ids=["width", "dtype", "record's dtype", "rows", "beyond", "before", "meta", "list"],
)
def test_what_the_native_kernel_does_not_take_is_left_to_the_caller(x: Any, record: torch.Tensor, time: int) -> None:
    assert not Recorder(3).put(x, record, None, time)
    assert not record.any()


def test_under_a_transform_nothing_is_recorded() -> None:
    record, found = torch.zeros(4, 1, 3), []

    def noted(x: torch.Tensor) -> torch.Tensor:
        found.append(Recorder(3).put(x, record, None, 0))
        return x

    torch.func.vmap(noted)(torch.ones(2, 1, 3))
    assert found == [False]

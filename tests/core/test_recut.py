"""Rows that are rearranged at episode starts: everything returns to its place, and an LSTM is the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sab_agents.core.lstm import LSTM, LSTMState
from sab_agents.kernels import forced_kernel
from sab_agents.kernels.layout import layout
from sab_agents.kernels.native_backend.extension import native

needs_native = pytest.mark.skipif(native is None, reason="the native kernel was not built: no C++ compiler")
STARTS = {
    "one row": [[10, 23]],
    "from the first step": [[0, 7, 8, 20]],
    "at the last step": [[12, 29]],
    "two rows": [[0, 11, 21], [5, 17]],
    "three rows": [[16], [2, 3, 14], [0, 15]],
    "every step": [list(range(30))],
}
T = 30


def starts(rows: list[list[int]]) -> Tensor:
    found = torch.zeros(T, len(rows), dtype=torch.bool)
    for row, at in enumerate(rows):
        found[at, row] = True
    return found


@pytest.mark.parametrize("rows", STARTS.values(), ids=STARTS)
def test_every_step_lies_behind_what_came_before_it(rows: list[list[int]]) -> None:
    start = starts(rows)
    found = layout(start)
    assert found is not None
    given = torch.arange(1, T * len(rows) + 1).view(T, len(rows))
    laid = found.laid(given)
    length = len(laid)
    assert length < T
    assert torch.equal(found.given(laid), given)
    assert torch.equal(found.laid(start) | (laid == 0), found.start)
    assert int((laid > 0).sum()) == given.numel()  # nothing twice
    places = found.place.view(T, -1)
    for row in range(len(rows)):
        assert int(places[-1, row]) == (length - 1) * laid.shape[1] + int(found.ends[row])
        for t in range(T):
            if start[t, row]:
                continue
            if t:
                assert int(places[t, row]) == int(places[t - 1, row]) + laid.shape[1]
            else:
                assert int(found.begins[places[t, row]]) == row
    assert sorted(found.begins[found.begins < len(rows)].tolist()) == [
        row for row, at in enumerate(rows) if 0 not in at
    ]


@pytest.mark.parametrize(
    "rows",
    [[[]], [[0]], [[5], []], [[28]], [[10], [10], [10], [10]]],
    ids=["none", "first", "a whole row", "late", "many"],
)
def test_rows_stay_as_they_are_where_nothing_is_gained(rows: list[list[int]]) -> None:
    assert layout(starts(rows)) is None


@needs_native
@pytest.mark.parametrize("rows", STARTS.values(), ids=STARTS)
@pytest.mark.parametrize("settings", [{}, {"bptt_steps": 4}, {"layers": 2}], ids=str)
def test_an_lstm_is_the_same_as_in_plain_torch(rows: list[list[int]], settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    B = len(rows)
    double = LSTM(3, 5, dtype=torch.float64, **settings)
    single = LSTM(3, 5, **settings)
    single.load_state_dict(double.state_dict())
    x, weight = torch.randn(T, B, 3, dtype=torch.float64), torch.randn(T, B, 5, dtype=torch.float64)
    h, c = (torch.randn(B, double.layers, 5, dtype=torch.float64) for _ in range(2))
    ends = torch.randn(2, B, double.layers, 5, dtype=torch.float64)
    found = []
    for core, way in ((double, "torch"), (single, "native")):
        leaves = [t.detach().to(next(core.parameters()).dtype).clone().requires_grad_() for t in (x, h, c)]
        state = LSTMState(leaves[1], leaves[2], torch.full((B,), 3))
        with forced_kernel(way):
            output, after = core(leaves[0], state, starts(rows))
        total = (output * weight).sum() + (after.h * ends[0]).sum() + (after.c * ends[1]).sum()
        total.backward()
        gradients = [leaf.grad for leaf in (*leaves, *core.parameters())]
        found.append([output, after.h, after.c, after.step, *gradients])
    for expected, got in zip(*found, strict=True):
        assert expected is not None
        assert got is not None
        torch.testing.assert_close(got.to(expected.dtype), expected, rtol=1e-4, atol=1e-5)

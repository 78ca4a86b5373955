"""Random calls end in a result or in an error of one sentence; see `random_calls`."""

from __future__ import annotations

import pytest

from tests.kernels.random_calls import Calls


@pytest.mark.parametrize("seed", range(4))
def test_each_ends_in_a_result_or_in_an_error_of_one_sentence(seed: int) -> None:
    calls = Calls(seed)
    calls.run(400)
    ended_well = sum(count for name, count in calls.outcomes.items() if ":" not in name)
    assert 150 < ended_well < 395

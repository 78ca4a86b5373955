"""The copying task: its sequences, its varied training lengths and its memoryless score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sab_agents.envs.supervised import Copying
from tests.envs.conftest import tokens_of


@pytest.mark.parametrize("length", [1, 2, 30])
def test_the_symbols_are_repeated_in_order(length: int) -> None:
    batch = Copying(length).train_batch(0, 20, 0)
    for tokens, targets in zip(tokens_of(batch), batch.targets.T.tolist(), strict=True):
        symbols = tokens[:10]
        assert set(symbols) <= set(range(1, 9))
        assert tokens == symbols + [0] * (length - 1) + [9] + [0] * 10
        assert targets == [0] * (length + 10) + symbols
    assert batch.trained.all()
    assert batch.scored[-10:].all()
    assert not batch.scored[:-10].any()


def test_the_eight_symbols_are_equally_frequent() -> None:
    batch = Copying(1).train_batch(0, 4000, 0)
    shares = np.bincount(batch.targets[batch.scored], minlength=9) / 40_000
    assert shares[0] == 0
    np.testing.assert_allclose(shares[1:], Copying(1).memoryless["accuracy"], atol=0.01)


def test_training_lengths_vary_and_the_held_out_length_is_fixed() -> None:
    task = Copying(length=9, min_length=4)
    lengths = [task.train_batch(index, 2, seed=0).inputs.shape[0] - 20 for index in range(60)]
    assert set(lengths) == set(range(4, 10))
    same = task.train_batch(7, 2, seed=0).inputs
    np.testing.assert_array_equal(same, task.train_batch(7, 2, seed=0).inputs)
    assert {batch.inputs.shape[0] for batch in task.evaluation_batches("validation", 2, 6)} == {29}
    assert task.with_length(3).train_batch(0, 2, seed=0).inputs.shape[0] == 23


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (10, ValueError), (2.5, TypeError)])
def test_a_minimum_outside_the_lengths_is_an_error(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="min_length"):
        Copying(length=9, min_length=value)

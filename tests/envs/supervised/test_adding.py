"""The adding task: its sequences and its memoryless score."""

from __future__ import annotations

import numpy as np
import pytest

from sab_agents.envs.supervised import Adding


@pytest.mark.parametrize("length", [2, 3, 20, 21])
def test_the_target_is_the_sum_of_one_marked_value_of_each_half(length: int) -> None:
    batch = Adding(length).train_batch(0, 50, 0)
    half = length // 2
    for row in range(50):
        values, marks = batch.inputs[:, row].T.tolist()
        assert all(0 <= value < 1 for value in values)
        assert sorted(set(marks)) in ([0, 1], [1])
        assert sum(marks[:half]) == sum(marks[half:]) == 1
        total = sum(value for value, mark in zip(values, marks, strict=True) if mark)
        assert batch.targets[-1, row] == pytest.approx(total, abs=1e-6)
    assert batch.scored[-1].all()
    assert not batch.scored[:-1].any()
    assert np.array_equal(batch.trained, batch.scored)


def test_every_step_of_a_half_is_marked_equally_often() -> None:
    marks = Adding(5).train_batch(0, 30_000, 0).inputs[..., 1].mean(axis=1)
    np.testing.assert_allclose(marks, [1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 3], atol=0.015)


@pytest.mark.parametrize("length", [2, 3, 8])
def test_the_memoryless_score_is_the_best_that_the_last_input_allows(length: int) -> None:
    task = Adding(length)
    batch = task.train_batch(0, 200_000, 0)
    value, mark = batch.inputs[-1].T
    cell = (value * 50).astype(np.int64) + 50 * mark.astype(np.int64)  # the best answer to each is its mean target
    sums, counts = np.bincount(cell, batch.targets[-1], minlength=100), np.bincount(cell, minlength=100)
    best = (sums / np.maximum(counts, 1))[cell]
    assert np.square(best - batch.targets[-1]).mean() == pytest.approx(task.memoryless["squared_error"], abs=1.5e-3)
    assert np.square(1 - batch.targets[-1]).mean() == pytest.approx(1 / 6, abs=1.5e-3)


def test_the_memoryless_score_approaches_one_sixth_from_below_as_sequences_grow() -> None:
    scores = [Adding(length).memoryless["squared_error"] for length in (2, 10, 100, 10_000)]
    assert scores == sorted(scores)
    assert scores[0] == pytest.approx(1 / 12)
    assert scores[-1] == pytest.approx(1 / 6, rel=1e-3)

"""Delayed recall: its sequences, its noise and its memoryless score."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sab_agents.envs.supervised import Recall
from tests.envs.conftest import tokens_of


def test_there_must_be_two_symbols_and_one_distractor() -> None:
    assert Recall(symbols=2, distractors=1).input_size == 4
    with pytest.raises(ValueError, match="symbols must be at least 2, but is 1"):
        Recall(symbols=1)
    with pytest.raises(ValueError, match="distractors must be at least 1, but is 0"):
        Recall(distractors=0)


def test_the_query_asks_for_the_first_symbol() -> None:
    task = Recall(length=8, symbols=5, distractors=3)
    batch = task.train_batch(0, 40, 0)
    assert (task.input_size, task.output_size) == (9, 5)
    for tokens, targets in zip(tokens_of(batch), batch.targets.T.tolist(), strict=True):
        symbol, *noise, query = tokens
        assert symbol < 5
        assert len(noise) == 8
        assert all(5 <= token < 8 for token in noise)
        assert query == 8
        assert targets == [0] * 9 + [symbol]
    assert batch.scored[-1].all()
    assert not batch.scored[:-1].any()
    assert np.array_equal(batch.trained, batch.scored)


def test_there_are_as_many_distractors_as_symbols_unless_told() -> None:
    assert Recall(symbols=6).input_size == 13
    assert Recall(symbols=6, distractors=2).input_size == 9


def test_the_memoryless_score_is_guessing_since_the_query_says_nothing() -> None:
    task = Recall(length=3, symbols=4)
    batch = task.train_batch(0, 50_000, 0)
    assert (batch.inputs[-1] == batch.inputs[-1, 0]).all()
    shares = np.bincount(batch.targets[-1]) / 50_000
    assert shares.max() == pytest.approx(task.memoryless["accuracy"], abs=0.01)
    assert -(shares * np.log(shares)).sum() == pytest.approx(task.memoryless["cross_entropy"], abs=1e-3)
    assert task.memoryless["cross_entropy"] == pytest.approx(math.log(4))


def test_the_noise_is_independent_of_the_symbol_and_of_the_noise_before() -> None:
    tokens = Recall(length=2, symbols=3).train_batch(0, 30_000, 0).inputs.argmax(axis=2)
    for earlier, later in ((tokens[0], tokens[1] - 3), (tokens[1] - 3, tokens[2] - 3)):
        shares = np.bincount(3 * earlier + later, minlength=9) / 30_000
        np.testing.assert_allclose(shares, 1 / 9, atol=0.01)

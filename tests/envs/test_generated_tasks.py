"""Tests of the tasks that draw their sequences: copying, adding and delayed recall."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from sab_agents.envs.supervised.adding import Adding
from sab_agents.envs.supervised.copying import Copying
from sab_agents.envs.supervised.recall import Recall
from sab_agents.envs.supervised.task import Batch, SequenceTask, Split

TASKS = [Copying(length=7), Adding(length=9), Recall(length=6, symbols=4, distractors=3)]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
every_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)


def same(one: Batch, other: Batch) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in vars(one))


def tokens_of(batch: Batch) -> list[list[int]]:
    """The token at each step of each row, after checking that inputs are one-hot."""
    assert set(np.unique(batch.inputs)) == {0.0, 1.0}
    assert (batch.inputs.sum(axis=2) == 1).all()
    tokens: list[list[int]] = batch.inputs.argmax(axis=2).T.tolist()
    return tokens


@every_task
def test_a_batch_has_the_promised_shapes_and_types(task: SequenceTask) -> None:
    batch = task.train_batch(0, 5, seed=3)
    T = len(batch.inputs)
    assert batch.inputs.shape == (T, 5, task.input_size)
    assert batch.inputs.dtype == np.float32
    assert batch.targets.shape == (T, 5)
    assert batch.targets.dtype == (np.float32 if task.loss == "squared_error" else np.int64)
    for mask in (batch.trained, batch.scored, batch.episode_start):
        assert mask.shape == (T, 5)
        assert mask.dtype == np.bool_
    assert batch.episode_start[0].all()
    assert not batch.episode_start[1:].any()


@every_task
def test_a_training_batch_depends_on_its_arguments_alone(task: SequenceTask) -> None:
    first = task.train_batch(4, 6, seed=1)
    task.train_batch(9, 2, seed=8)
    assert same(first, task.train_batch(4, 6, seed=1))


@every_task
@pytest.mark.parametrize(("index", "seed"), [(5, 1), (4, 2), (1, 4)])
def test_another_index_or_seed_gives_another_batch(task: SequenceTask, index: int, seed: int) -> None:
    assert not same(task.train_batch(4, 6, seed=1), task.train_batch(index, 6, seed=seed))


@every_task
@pytest.mark.parametrize("split", SPLITS)
def test_held_out_batches_are_the_same_at_each_call_and_as_many_as_asked(task: SequenceTask, split: Split) -> None:
    first, second = (list(task.evaluation_batches(split, 4, 10)) for _ in range(2))
    assert [batch.inputs.shape[1] for batch in first] == [4, 4, 2]
    assert all(same(*pair) for pair in zip(first, second, strict=True))
    assert not any(same(*pair) for pair in pairwise(first))


@every_task
def test_held_out_sequences_differ_between_splits_and_from_training(task: SequenceTask) -> None:
    held_out = [batch for split in SPLITS for batch in task.evaluation_batches(split, 8, 16)]
    training = [task.train_batch(index, 8, seed) for index in range(4) for seed in range(4)]
    seen = [batch.inputs.tobytes() for batch in held_out + training]
    assert len(set(seen)) == len(seen)


def test_numpy_hashes_a_trailing_zero_away_which_a_spawn_key_prevents() -> None:
    drawn = [np.random.default_rng(entropy).integers(1 << 60) for entropy in ([1, 2], [1, 2, 0])]
    spawned = np.random.default_rng(np.random.SeedSequence([1, 2], spawn_key=(0,))).integers(1 << 60)
    assert drawn[0] == drawn[1] != spawned


@every_task
def test_another_length_is_another_task_that_is_otherwise_the_same(task: SequenceTask) -> None:
    assert task.length is not None
    longer = task.with_length(task.length + 30)
    assert longer.length == task.length + 30
    assert len(longer.train_batch(0, 2, 0).inputs) == len(task.train_batch(0, 2, 0).inputs) + 30
    assert longer.with_length(task.length) == task
    assert longer != task


@pytest.mark.parametrize(("task", "minimum"), [(Copying, 1), (Adding, 2), (Recall, 1)])
def test_a_length_below_the_minimum_is_refused(task: type[Copying | Adding | Recall], minimum: int) -> None:
    task(length=minimum).train_batch(0, 1, 0)
    message = f"{task.__name__}: length must be an int of at least {minimum}, but is {minimum - 1}"
    with pytest.raises(ValueError, match=message):
        task(length=minimum - 1)
    with pytest.raises(ValueError, match=message):
        task().with_length(minimum - 1)


@pytest.mark.parametrize("value", [True, 3.0, "3", None])
def test_a_length_that_is_no_int_is_refused(value: object) -> None:
    for task in (Copying, Adding, Recall):
        with pytest.raises(TypeError, match="length must be an int of at least"):
            task(length=value)  # type: ignore[arg-type]


def test_recall_needs_two_symbols_and_one_distractor() -> None:
    assert Recall(symbols=2, distractors=1).input_size == 4
    with pytest.raises(ValueError, match="symbols must be an int of at least 2, but is 1"):
        Recall(symbols=1)
    with pytest.raises(ValueError, match="distractors must be an int of at least 1, but is 0"):
        Recall(distractors=0)


@every_task
def test_arguments_of_batches_are_checked(task: SequenceTask) -> None:
    with pytest.raises(ValueError, match="index must be an int of at least 0, but is -1"):
        task.train_batch(-1, 2, 0)
    with pytest.raises(ValueError, match="batch_size must be an int of at least 1, but is 0"):
        task.train_batch(0, 0, 0)
    with pytest.raises(ValueError, match="seed must be an int of at least 0, but is -3"):
        task.train_batch(0, 2, -3)
    with pytest.raises(ValueError, match="sequences must be an int of at least 1, but is 0"):
        task.evaluation_batches("test", 2, 0)
    with pytest.raises(ValueError, match=r"split must be one of train, validation, test, but is 'tests'.*'test'"):
        task.evaluation_batches("tests", 2, 4)  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [1, 2, 30])
def test_copying_asks_for_the_symbols_in_their_order(length: int) -> None:
    batch = Copying(length).train_batch(0, 20, 0)
    for tokens, targets in zip(tokens_of(batch), batch.targets.T.tolist(), strict=True):
        symbols = tokens[:10]
        assert set(symbols) <= set(range(1, 9))
        assert tokens == symbols + [0] * (length - 1) + [9] + [0] * 10
        assert targets == [0] * (length + 10) + symbols
    assert batch.trained.all()
    assert batch.scored[-10:].all()
    assert not batch.scored[:-10].any()


def test_copying_draws_its_eight_symbols_equally_often() -> None:
    batch = Copying(1).train_batch(0, 4000, 0)
    shares = np.bincount(batch.targets[batch.scored], minlength=9) / 40_000
    assert shares[0] == 0
    np.testing.assert_allclose(shares[1:], Copying(1).memoryless["accuracy"], atol=0.01)


@pytest.mark.parametrize("length", [2, 3, 20, 21])
def test_adding_asks_for_the_sum_of_one_number_of_each_half(length: int) -> None:
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


def test_adding_marks_every_step_of_a_half_equally_often() -> None:
    marks = Adding(5).train_batch(0, 30_000, 0).inputs[..., 1].mean(axis=1)
    np.testing.assert_allclose(marks, [1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 3], atol=0.015)


@pytest.mark.parametrize("length", [2, 3, 8])
def test_addings_memoryless_score_is_the_best_that_the_last_input_allows(length: int) -> None:
    task = Adding(length)
    batch = task.train_batch(0, 200_000, 0)
    value, mark = batch.inputs[-1].T
    cell = (value * 50).astype(np.int64) + 50 * mark.astype(np.int64)  # the best answer to each is its mean target
    sums, counts = np.bincount(cell, batch.targets[-1], minlength=100), np.bincount(cell, minlength=100)
    best = (sums / np.maximum(counts, 1))[cell]
    assert np.square(best - batch.targets[-1]).mean() == pytest.approx(task.memoryless["squared_error"], abs=1.5e-3)
    assert np.square(1 - batch.targets[-1]).mean() == pytest.approx(1 / 6, abs=1.5e-3)


def test_addings_memoryless_score_comes_near_one_sixth_from_below_as_sequences_grow() -> None:
    scores = [Adding(length).memoryless["squared_error"] for length in (2, 10, 100, 10_000)]
    assert scores == sorted(scores)
    assert scores[0] == pytest.approx(1 / 12)
    assert scores[-1] == pytest.approx(1 / 6, rel=1e-3)


def test_recall_asks_for_the_first_symbol_after_the_noise() -> None:
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


def test_recall_has_as_many_distractors_as_symbols_unless_told() -> None:
    assert Recall(symbols=6).input_size == 13
    assert Recall(symbols=6, distractors=2).input_size == 9


def test_recalls_memoryless_score_is_guessing_since_the_query_says_nothing() -> None:
    task = Recall(length=3, symbols=4)
    batch = task.train_batch(0, 50_000, 0)
    assert (batch.inputs[-1] == batch.inputs[-1, 0]).all()
    shares = np.bincount(batch.targets[-1]) / 50_000
    assert shares.max() == pytest.approx(task.memoryless["accuracy"], abs=0.01)
    assert -(shares * np.log(shares)).sum() == pytest.approx(task.memoryless["cross_entropy"], abs=1e-3)
    assert task.memoryless["cross_entropy"] == pytest.approx(math.log(4))


def test_recalls_noise_is_independent_of_the_symbol_and_of_the_noise_before() -> None:
    tokens = Recall(length=2, symbols=3).train_batch(0, 30_000, 0).inputs.argmax(axis=2)
    for earlier, later in ((tokens[0], tokens[1] - 3), (tokens[1] - 3, tokens[2] - 3)):
        shares = np.bincount(3 * earlier + later, minlength=9) / 30_000
        np.testing.assert_allclose(shares, 1 / 9, atol=0.01)


def test_copying_trains_at_varied_lengths_and_is_tested_at_its_own() -> None:
    task = Copying(length=9, min_length=4)
    lengths = [task.train_batch(index, 2, seed=0).inputs.shape[0] - 20 for index in range(60)]
    assert set(lengths) == set(range(4, 10))
    same = task.train_batch(7, 2, seed=0).inputs
    np.testing.assert_array_equal(same, task.train_batch(7, 2, seed=0).inputs)
    assert {batch.inputs.shape[0] for batch in task.evaluation_batches("validation", 2, 6)} == {29}
    assert task.with_length(3).train_batch(0, 2, seed=0).inputs.shape[0] == 23


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (10, ValueError), (2.5, TypeError)])
def test_copying_refuses_a_minimum_outside_its_lengths(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="min_length"):
        Copying(length=9, min_length=value)

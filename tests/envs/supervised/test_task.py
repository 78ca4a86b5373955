"""Batches of every generated task: shapes, determinism, held-out data, lengths and argument checks."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from sab_agents.envs.supervised import TASKS, Adding, Copying, Recall, SequenceTask, make_task
from sab_agents.envs.supervised.task import SPLITS, Batch, GeneratedTask, Split

GENERATED: dict[str, Any] = {name: task for name, task in TASKS.items() if issubclass(task, GeneratedTask)}
every_task = pytest.mark.parametrize(
    "task", [*(make_task(name, length=9) for name in GENERATED), Recall(length=6, symbols=4, distractors=3)], ids=str
)


def same(one: Batch, other: Batch) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in vars(one))


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
def test_a_length_below_the_minimum_is_an_error(task: type[Copying | Adding | Recall], minimum: int) -> None:
    task(length=minimum).train_batch(0, 1, 0)
    message = f"{task.__name__}: length must be at least {minimum}, but is {minimum - 1}"
    with pytest.raises(ValueError, match=message):
        task(length=minimum - 1)
    with pytest.raises(ValueError, match=message):
        task().with_length(minimum - 1)


@pytest.mark.parametrize("value", [True, 3.0, "3", None])
def test_a_length_that_is_not_an_int_is_an_error(value: object) -> None:
    for task in GENERATED.values():
        with pytest.raises(TypeError, match="length must be an int of at least"):
            task(length=value)


@every_task
def test_arguments_of_batches_are_checked(task: SequenceTask) -> None:
    with pytest.raises(ValueError, match="index must be at least 0, but is -1"):
        task.train_batch(-1, 2, 0)
    with pytest.raises(ValueError, match="batch_size must be at least 1, but is 0"):
        task.train_batch(0, 0, 0)
    with pytest.raises(ValueError, match="seed must be at least 0, but is -3"):
        task.train_batch(0, 2, -3)
    with pytest.raises(ValueError, match="sequences must be at least 1, but is 0"):
        task.evaluation_batches("test", 2, 0)
    with pytest.raises(ValueError, match=r"split must be one of train, validation, test, but is 'tests'.*'test'"):
        task.evaluation_batches("tests", 2, 4)  # type: ignore[arg-type]

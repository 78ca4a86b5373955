"""The interface of a sequence task, and the base class of tasks that draw their sequences.

A batch is a pure function of its index, so that training resumes bit-exactly.

Dimensions: T steps, B sequences, I input size.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, Self, get_args, runtime_checkable

import numpy as np

from sab_agents.checks import at_least, one_of
from sab_agents.envs.arrays import Bools, Floats32, Ints

Split = Literal["train", "validation", "test"]
Loss = Literal["cross_entropy", "squared_error"]

SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class Batch:
    """Sequences for training or evaluation, time first.

    Attributes:
        inputs: (T, B, I) float32.
        targets: (T, B) int64 classes for "cross_entropy", float32 values for "squared_error".
        trained: (T, B) bool, the steps whose loss is minimised.
        scored: (T, B) bool, the steps that count in the metrics of the task.
        episode_start: (T, B) bool, the steps at which a sequence begins. If the first step is False, the sequence
            continues that of the previous batch, and the learner carries its state over.
    """

    inputs: Floats32
    targets: Ints | Floats32
    trained: Bools
    scored: Bools
    episode_start: Bools


@runtime_checkable
class SequenceTask(Protocol):
    """A supervised task over sequences.

    Attributes:
        name: name of the task in configs.
        input_size: I.
        output_size: number of classes for "cross_entropy", 1 for "squared_error".
        loss: the training loss.
        metrics: names of the metrics, the most important one first; each of "accuracy", "cross_entropy" (nats),
            "bits_per_character" and "squared_error", over the scored steps.
        memoryless: for each metric, the score of the best learner that sees only the current input.
        length: the setting that `with_length` changes (blanks, delay, steps …), or None if the length is fixed.
    """

    name: str
    input_size: int
    output_size: int
    loss: Loss
    metrics: tuple[str, ...]
    length: int | None

    @property
    def memoryless(self) -> Mapping[str, float]:
        """For each metric, the score of the best memoryless learner on held-out data."""

    def train_batch(self, index: int, batch_size: int, seed: int) -> Batch:
        """Returns the batch of training update `index`; the same arguments always return the same batch.

        Args:
            index: number of the update, at least 0.
            batch_size: B, at least 1.
            seed: at least 0.
        """

    def evaluation_batches(self, split: Split, batch_size: int, sequences: int) -> Iterator[Batch]:
        """Yields batches of a split, the same at each call.

        Args:
            split: "train", "validation" or "test".
            batch_size: B, at least 1; the last batch may be smaller.
            sequences: maximum number of sequences, at least 1; a data set may have fewer.
        """

    def with_length(self, length: int) -> Self:
        """Returns the same task with another length.

        Raises:
            ValueError: the length is below the minimum of the task, or the length of the task is fixed.
        """


class GeneratedTask(SequenceTask):
    """A task that draws its sequences from a generator; a subclass defines `draw_batch`."""

    @abstractmethod
    def draw_batch(self, generator: np.random.Generator, B: int) -> Batch:
        """Draws a batch of B sequences."""

    def train_batch(self, index: int, batch_size: int, seed: int) -> Batch:
        """See `SequenceTask.train_batch`."""
        check_training(type(self).__name__, index, batch_size, seed)
        return self.draw_batch(np.random.default_rng([seed, index]), batch_size)

    def evaluation_batches(self, split: Split, batch_size: int, sequences: int) -> Iterator[Batch]:
        """See `SequenceTask.evaluation_batches`. The sequences depend on the split and on `batch_size` alone."""
        check_evaluation(type(self).__name__, split, batch_size, sequences)
        return self._held_out_batches(split, batch_size, sequences)

    def _held_out_batches(self, split: Split, batch_size: int, sequences: int) -> Iterator[Batch]:
        for number, first in enumerate(range(0, sequences, batch_size)):
            # The spawn key separates the held-out streams from all training streams. A longer list of seeds would not,
            # because NumPy hashes [a, b] and [a, b, 0] to the same stream.
            stream = np.random.SeedSequence([SPLITS.index(split), number], spawn_key=(0,))
            yield self.draw_held_out(split, np.random.default_rng(stream), min(batch_size, sequences - first))

    def draw_held_out(self, split: Split, generator: np.random.Generator, B: int) -> Batch:  # noqa: ARG002
        """Draws a batch of a split. Without data, all splits are drawn as `draw_batch` draws."""
        return self.draw_batch(generator, B)


def only_steps(steps: slice, T: int, B: int) -> Bools:
    """Returns a (T, B) mask that is True at the given steps of every sequence."""
    mask = np.zeros((T, B), dtype=np.bool_)
    mask[steps] = True
    return mask


def check_training(owner: str, index: int, batch_size: int, seed: int) -> None:
    """Checks the arguments of `train_batch` of the class `owner`.

    Raises:
        TypeError: an argument is not an int.
        ValueError: an argument is out of range.
    """
    at_least(f"{owner}.train_batch", "index", index, 0)
    at_least(f"{owner}.train_batch", "batch_size", batch_size, 1)
    at_least(f"{owner}.train_batch", "seed", seed, 0)


def check_evaluation(owner: str, split: str, batch_size: int, sequences: int) -> None:
    """Checks the arguments of `evaluation_batches` of the class `owner`.

    Raises:
        TypeError: a size is not an int.
        ValueError: a size is below 1, or there is no such split.
    """
    one_of(f"{owner}.evaluation_batches", "split", split, SPLITS)
    at_least(f"{owner}.evaluation_batches", "batch_size", batch_size, 1)
    at_least(f"{owner}.evaluation_batches", "sequences", sequences, 1)

"""What a sequence task is: batches that are a pure function of their index, and the score of a memoryless learner.

Dimensions: T steps, B sequences, I input size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

Split = Literal["train", "validation", "test"]
Loss = Literal["cross_entropy", "squared_error"]

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Batch:
    """Sequences to learn from or to be tested on, time first.

    Attributes:
        inputs: (T, B, I) float32.
        targets: (T, B) int64 classes for "cross_entropy", float32 values for "squared_error".
        trained: (T, B) bool, the steps whose loss is learnt.
        scored: (T, B) bool, the steps that count in the task's metrics.
        episode_start: (T, B) bool, the steps at which a sequence begins. Where the first step is False, the sequence
            goes on from the batch before, and the learner carries its state.
    """

    inputs: Floats
    targets: Ints | Floats
    trained: Bools
    scored: Bools
    episode_start: Bools


@runtime_checkable
class SequenceTask(Protocol):
    """A supervised task over sequences.

    Attributes:
        name: as it stands in a config.
        input_size: I.
        output_size: classes for "cross_entropy", 1 for "squared_error".
        loss: how predictions are learnt.
        metrics: names of the scores, the one that matters most first; each of "accuracy", "cross_entropy" (nats),
            "bits_per_character", "squared_error", over the scored steps.
        memoryless: for each metric, what the best learner scores that sees only the present input.
        length: the number that `with_length` changes (blanks, delay, steps …), or None where it is fixed.
    """

    name: str
    input_size: int
    output_size: int
    loss: Loss
    metrics: tuple[str, ...]
    length: int | None

    @property
    def memoryless(self) -> Mapping[str, float]:
        """For each metric, what the best memoryless learner scores on held-out data."""

    def train_batch(self, index: int, batch_size: int, seed: int) -> Batch:
        """The batch of training update `index` (0, 1, …): the same arguments always give the same batch."""

    def evaluation_batches(self, split: Split, batch_size: int, sequences: int) -> Iterator[Batch]:
        """Held-out data, the same at each call: at most `sequences` sequences; a data set ends when it is used up."""

    def with_length(self, length: int) -> Self:
        """The same task at another length.

        Raises:
            ValueError: the length is below the task's minimum, or the task's length is fixed.
        """

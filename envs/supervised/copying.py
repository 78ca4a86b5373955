"""The copying task: ten symbols must be repeated after a long blank."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from sab_agents.envs.supervised.checks import check_evaluation, check_training, check_whole
from sab_agents.envs.supervised.generated import held_out_batches, only_steps, training_generator
from sab_agents.envs.supervised.task import Batch, Ints, SequenceTask, Split

BLANK, MARKER = 0, 9
SYMBOLS = 8  # tokens 1 … 8
COPIED = 10  # symbols to remember
ONE_HOT = np.eye(MARKER + 1, dtype=np.float32)


@dataclass(frozen=True)
class Copying(SequenceTask):
    """Reads ten symbols, then `length` - 1 blanks and a marker, and must write the ten symbols in their order.

    Inputs: (length + 20, B, 10) one-hot tokens: ten symbols uniform in 1 … 8, `length` - 1 blanks (0), the marker (9),
    ten blanks. Targets: blank for the first `length` + 10 steps, then the ten symbols; 9 classes, the token numbers
    0 … 8. Every step is trained, the last ten are scored. On those the present input is always a blank, so that a
    memoryless learner can only guess among eight equally likely symbols: accuracy 1/8, cross-entropy ln 8 nats.

    Source: Hochreiter & Schmidhuber (1997); in this form Arjovsky, Shah & Bengio (2016) and Ke et al. (2018).

    Attributes:
        length: T, steps between the last symbol read and the marker, at least 1.
        min_length: each training batch draws its own length, uniform in `min_length` … `length`; None trains at
            `length` alone. Held-out batches always have `length`.

    Raises:
        TypeError: a length is no int.
        ValueError: a length is below 1, or `min_length` is above `length`.
    """

    length: int = 100
    min_length: int | None = None

    name = "copying"
    input_size = MARKER + 1
    output_size = SYMBOLS + 1
    loss = "cross_entropy"
    metrics = ("accuracy", "cross_entropy")

    def __post_init__(self) -> None:
        check_whole("Copying", "length", self.length, 1)
        if self.min_length is not None:
            check_whole("Copying", "min_length", self.min_length, 1)
            if self.min_length > self.length:
                raise ValueError(
                    f"Copying: min_length must be at most length = {self.length}, but is {self.min_length}."
                )

    @property
    def memoryless(self) -> Mapping[str, float]:
        """Guessing among the eight symbols."""
        return {"accuracy": 1 / SYMBOLS, "cross_entropy": math.log(SYMBOLS)}

    def train_batch(self, index: int, batch_size: int, seed: int) -> Batch:
        """See `SequenceTask.train_batch`."""
        check_training("Copying.train_batch", index, batch_size, seed)
        generator = training_generator(index, seed)
        if self.min_length is None:
            return self._draw(generator, batch_size)
        length = int(generator.integers(self.min_length, self.length + 1))
        return replace(self, length=length, min_length=None)._draw(generator, batch_size)

    def evaluation_batches(self, split: Split, batch_size: int, sequences: int) -> Iterator[Batch]:
        """See `SequenceTask.evaluation_batches`; the same symbols at every length."""
        check_evaluation("Copying.evaluation_batches", split, batch_size, sequences)
        return held_out_batches(self._draw, split, batch_size, sequences)

    def with_length(self, length: int) -> Self:
        """See `SequenceTask.with_length`."""
        return replace(self, length=length, min_length=None)

    def draw(self, generator: np.random.Generator, B: int) -> tuple[Ints, Ints]:
        """Draws B sequences: their tokens and their targets, (length + 20, B) each."""
        T = self.length + 2 * COPIED
        symbols = generator.integers(1, SYMBOLS + 1, size=(COPIED, B))
        tokens = np.full((T, B), BLANK)
        tokens[:COPIED] = symbols
        tokens[-COPIED - 1] = MARKER
        targets = np.full((T, B), BLANK, dtype=np.int64)
        targets[-COPIED:] = symbols
        return tokens, targets

    def _draw(self, generator: np.random.Generator, B: int) -> Batch:
        tokens, targets = self.draw(generator, B)
        T = len(tokens)
        return Batch(
            inputs=ONE_HOT[tokens],
            targets=targets,
            trained=only_steps(slice(None), T, B),
            scored=only_steps(slice(-COPIED, None), T, B),
            episode_start=only_steps(slice(0, 1), T, B),
        )

"""The adding task: two marked numbers of a long sequence must be summed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from sab_agents.envs.supervised.checks import check_evaluation, check_training, check_whole
from sab_agents.envs.supervised.generated import held_out_batches, only_steps, training_generator
from sab_agents.envs.supervised.task import Batch, Floats, SequenceTask, Split


@dataclass(frozen=True)
class Adding(SequenceTask):
    """Reads `length` numbers, of which one in each half is marked, and must give the sum of these two at the end.

    Inputs: (length, B, 2): a value uniform in [0, 1), and an indicator that is 1 at one uniformly random step of the
    first `length` // 2 steps and at one of the remaining steps, else 0. Targets: the sum at the last step, 0 before.
    Only the last step is trained and scored, by squared error.

    Always answering the mean, 1, errs by the variance of a sum of two uniform numbers, 2/12 = 1/6: the level published
    for a learner without memory. The best memoryless learner is a little better, since with probability 1/h, h the
    number of steps in the second half, the last step is itself marked and one of the numbers known, which leaves 1/12;
    `memoryless` is this exact value, 1/6 - 1/(12 h).

    Source: Hochreiter & Schmidhuber (1997); in this form Arjovsky, Shah & Bengio (2016) and Ke et al. (2018).

    Attributes:
        length: T, steps in all, at least 2.

    Raises:
        TypeError: the length is no int.
        ValueError: the length is below 2.
    """

    length: int = 200

    name = "adding"
    input_size = 2
    output_size = 1
    loss = "squared_error"
    metrics = ("squared_error",)

    def __post_init__(self) -> None:
        check_whole("Adding", "length", self.length, 2)

    @property
    def memoryless(self) -> Mapping[str, float]:
        """Answering 1, or 1/2 more than the last value where that one is marked."""
        second_half = self.length - self.length // 2
        return {"squared_error": 1 / 6 - 1 / (12 * second_half)}

    def train_batch(self, index: int, batch_size: int, seed: int) -> Batch:
        """See `SequenceTask.train_batch`."""
        check_training("Adding.train_batch", index, batch_size, seed)
        return self._draw(training_generator(index, seed), batch_size)

    def evaluation_batches(self, split: Split, batch_size: int, sequences: int) -> Iterator[Batch]:
        """See `SequenceTask.evaluation_batches`."""
        check_evaluation("Adding.evaluation_batches", split, batch_size, sequences)
        return held_out_batches(self._draw, split, batch_size, sequences)

    def with_length(self, length: int) -> Self:
        """See `SequenceTask.with_length`."""
        return replace(self, length=length)

    def draw(self, generator: np.random.Generator, B: int) -> tuple[Floats, Floats]:
        """Draws B sequences: their inputs (length, B, 2) and their targets (length, B)."""
        T, half = self.length, self.length // 2
        rows = np.arange(B)
        first, second = generator.integers(0, half, size=B), generator.integers(half, T, size=B)
        inputs = np.zeros((T, B, 2), dtype=np.float32)
        inputs[..., 0] = generator.random((T, B), dtype=np.float32)
        inputs[first, rows, 1] = inputs[second, rows, 1] = 1
        targets = np.zeros((T, B), dtype=np.float32)
        targets[-1] = inputs[first, rows, 0] + inputs[second, rows, 0]
        return inputs, targets

    def _draw(self, generator: np.random.Generator, B: int) -> Batch:
        inputs, targets = self.draw(generator, B)
        T = self.length
        last = only_steps(slice(-1, None), T, B)
        return Batch(
            inputs=inputs,
            targets=targets,
            trained=last,
            scored=last.copy(),
            episode_start=only_steps(slice(0, 1), T, B),
        )

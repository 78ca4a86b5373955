"""The delayed recall task: one symbol must be remembered through a stretch of noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from sab_agents.envs.supervised.checks import check_evaluation, check_training, check_whole
from sab_agents.envs.supervised.generated import held_out_batches, only_steps, training_generator
from sab_agents.envs.supervised.task import Batch, Ints, SequenceTask, Split


@dataclass(frozen=True)
class Recall(SequenceTask):
    """Reads one symbol, then `length` steps of noise, and must name the symbol when asked at the last step.

    Inputs: (length + 2, B, symbols + distractors + 1), one-hot over symbols, noise tokens and the query, in this
    order: a uniform symbol, `length` uniform and independent noise tokens, the query. Targets: the symbol at the
    query, 0 before; only the query is trained and scored. Its input is always the same, so that a memoryless learner
    can only guess among equally likely symbols: accuracy 1/symbols, cross-entropy ln(symbols) nats.

    Source: in the manner of the long-time-lag tasks of Hochreiter & Schmidhuber (1997).

    Attributes:
        length: the delay, steps of noise between symbol and query, at least 1.
        symbols: different symbols, at least 2.
        distractors: different noise tokens, at least 1; None for as many as symbols.

    Raises:
        TypeError: a setting is no int.
        ValueError: a setting is below its minimum.
    """

    length: int = 100
    symbols: int = 10
    distractors: int | None = None
    input_size: int = field(init=False, repr=False)
    output_size: int = field(init=False, repr=False)

    name = "recall"
    loss = "cross_entropy"
    metrics = ("accuracy", "cross_entropy")

    def __post_init__(self) -> None:
        check_whole("Recall", "length", self.length, 1)
        check_whole("Recall", "symbols", self.symbols, 2)
        if self.distractors is not None:
            check_whole("Recall", "distractors", self.distractors, 1)
        noise_tokens = self.symbols if self.distractors is None else self.distractors
        object.__setattr__(self, "input_size", self.symbols + noise_tokens + 1)
        object.__setattr__(self, "output_size", self.symbols)

    @property
    def memoryless(self) -> Mapping[str, float]:
        """Guessing among the symbols."""
        return {"accuracy": 1 / self.symbols, "cross_entropy": math.log(self.symbols)}

    def train_batch(self, index: int, batch_size: int, seed: int) -> Batch:
        """See `SequenceTask.train_batch`."""
        check_training("Recall.train_batch", index, batch_size, seed)
        return self._draw(training_generator(index, seed), batch_size)

    def evaluation_batches(self, split: Split, batch_size: int, sequences: int) -> Iterator[Batch]:
        """See `SequenceTask.evaluation_batches`; the same symbols at every length."""
        check_evaluation("Recall.evaluation_batches", split, batch_size, sequences)
        return held_out_batches(self._draw, split, batch_size, sequences)

    def with_length(self, length: int) -> Self:
        """See `SequenceTask.with_length`."""
        return replace(self, length=length)

    def draw(self, generator: np.random.Generator, B: int) -> tuple[Ints, Ints]:
        """Draws B sequences: their tokens and their targets, (length + 2, B) each."""
        T, query = self.length + 2, self.input_size - 1
        targets = np.zeros((T, B), dtype=np.int64)
        targets[-1] = generator.integers(0, self.symbols, size=B)
        tokens = np.empty((T, B), dtype=np.int64)
        tokens[0] = targets[-1]
        tokens[1:-1] = generator.integers(self.symbols, query, size=(self.length, B))
        tokens[-1] = query
        return tokens, targets

    def _draw(self, generator: np.random.Generator, B: int) -> Batch:
        tokens, targets = self.draw(generator, B)
        T = len(tokens)
        asked = only_steps(slice(-1, None), T, B)
        return Batch(
            inputs=np.eye(self.input_size, dtype=np.float32)[tokens],
            targets=targets,
            trained=asked,
            scored=asked.copy(),
            episode_start=only_steps(slice(0, 1), T, B),
        )

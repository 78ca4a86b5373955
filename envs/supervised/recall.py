"""Delayed recall: a symbol must be remembered through noise, in sequences of one query or in an endless stream.

Dimensions: T steps, B sequences or rows, C symbols, I input size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from sab_agents.checks import at_least, int_between
from sab_agents.envs.arrays import Array, Bools, Floats32, Ints
from sab_agents.envs.dynamics import MAX_STEPS
from sab_agents.envs.policies import Policy, Remembering
from sab_agents.envs.supervised.action_modes import class_action_mode
from sab_agents.envs.supervised.cue_stream import Asked, CueStream, check_noise
from sab_agents.envs.supervised.sequences import LAST_STEP, SequenceDynamics, SequenceEnv, SequenceVectorEnv
from sab_agents.envs.supervised.task import Batch, GeneratedTask, only_steps

MAX_SYMBOLS = 1000


@dataclass(frozen=True)
class Recall(GeneratedTask):
    """A symbol and `length` steps of noise are read; the symbol must be named at the query in the last step.

    Inputs: (length + 2, B, symbols + distractors + 1), one-hot over symbols, noise tokens and the query, in this order:
    a uniform symbol, `length` uniform and independent noise tokens, the query. Targets: the symbol at the query, 0
    before. Only the query is trained and scored. Its input is always the same, so a memoryless learner can only guess
    among equally likely symbols: accuracy 1/symbols, cross-entropy ln(symbols) nats.

    Source: in the manner of the long-time-lag tasks of Hochreiter & Schmidhuber (1997).

    Attributes:
        length: number of noise tokens between the symbol and the query, at least 1.
        symbols: number of different symbols, at least 2.
        distractors: number of different noise tokens, at least 1; None for as many as symbols.

    Raises:
        TypeError: a setting is not an int.
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
        at_least("Recall", "length", self.length, 1)
        at_least("Recall", "symbols", self.symbols, 2)
        if self.distractors is not None:
            at_least("Recall", "distractors", self.distractors, 1)
        noise_tokens = self.symbols if self.distractors is None else self.distractors
        object.__setattr__(self, "input_size", self.symbols + noise_tokens + 1)
        object.__setattr__(self, "output_size", self.symbols)

    @property
    def memoryless(self) -> Mapping[str, float]:
        """Scores of guessing among the symbols."""
        return {"accuracy": 1 / self.symbols, "cross_entropy": math.log(self.symbols)}

    def with_length(self, length: int) -> Self:
        """See `SequenceTask.with_length`."""
        return replace(self, length=length)

    def draw(self, generator: np.random.Generator, B: int) -> tuple[Ints, Ints]:
        """Draws the tokens and the targets of B sequences, (length + 2, B) each. The symbols do not depend on length.

        Args:
            generator: source of the random numbers.
            B: number of sequences.
        """
        T, query = self.length + 2, self.input_size - 1
        targets = np.zeros((T, B), dtype=np.int64)
        targets[-1] = generator.integers(0, self.symbols, size=B)
        tokens = np.empty((T, B), dtype=np.int64)
        tokens[0] = targets[-1]
        tokens[1:-1] = generator.integers(self.symbols, query, size=(self.length, B))
        tokens[-1] = query
        return tokens, targets

    def draw_batch(self, generator: np.random.Generator, B: int) -> Batch:
        """See `GeneratedTask.draw_batch`."""
        tokens, targets = self.draw(generator, B)
        T = len(tokens)
        last = only_steps(LAST_STEP, T, B)
        return Batch(
            inputs=np.eye(self.input_size, dtype=np.float32)[tokens],
            targets=targets,
            trained=last,
            scored=last.copy(),
            episode_start=only_steps(slice(0, 1), T, B),
        )


class RecallSequences(SequenceDynamics):
    """Delayed recall: one symbol must be named after a stretch of noise.

    Sequences are drawn as by the task `Recall`: a symbol, `length` noise tokens, a query. The last step, whose target
    is the symbol, is scored.

    Actions: `action_mode` "class": Discrete(symbols); "log_probs": Box(symbols), one logit per symbol.
    Observations: Box(symbols + distractors + 1), one-hot over symbols, noise tokens and the query.
    Rewards: at the last step, "class": 1 if the symbol is correct; "log_probs": the log-probability of the target.
    Episodes end (terminated) after `length` + 2 steps, with `cross_entropy` ("log_probs") and `accuracy` in `info`.

    Returns:
        best: 1, or 0 as log-probability.
        random: 1/symbols. As log-probability of uniform logits: see `LogProbActions`.
        memoryless: 1/symbols, or -ln symbols: the query is always the same.

    Args:
        length: number of noise tokens between the symbol and the query.
        symbols: number of different symbols, 2 to 1000.
        distractors: number of different noise tokens, 1 to 1000; None for as many as symbols.
        action_mode: "class" or "log_probs".
    """

    purpose = "memory: one symbol, named after a stretch of noise"
    scored_steps = 1

    def __init__(
        self, length: int = 100, symbols: int = 10, distractors: int | None = None, action_mode: str = "class"
    ) -> None:
        owner = "DelayedRecall"
        if distractors is not None:
            distractors = int_between(owner, "distractors", distractors, 1, MAX_SYMBOLS)
        symbols = int_between(owner, "symbols", symbols, 2, MAX_SYMBOLS)
        self.task = Recall(int_between(owner, "length", length, 1, MAX_STEPS), symbols, distractors)
        super().__init__(self.task.input_size, class_action_mode(owner, action_mode, symbols), self.longest)

    @property
    def longest(self) -> int:
        """See `SequenceDynamics.longest`."""
        return self.task.length + 2

    @property
    def memoryless_reward(self) -> float:
        """See `SequenceDynamics.memoryless_reward`."""
        return -math.log(self.task.symbols) if self.mode.has_loss else 1 / self.task.symbols

    def draw(self, copy: int, generator: np.random.Generator) -> tuple[Array, Array, slice]:  # noqa: ARG002
        """See `SequenceDynamics.draw`."""
        tokens, targets = self.task.draw(generator, 1)
        return tokens[:, 0], targets[:, 0], LAST_STEP

    def oracle(self) -> Policy:
        """Returns the policy that remembers the first token and names it at every step."""
        symbols = self.task.symbols

        def update(observations: Array, symbol: Array, start: Bools) -> Array:
            return np.where(start, observations[:, :symbols].argmax(axis=1), symbol.astype(np.int64))

        return Remembering(update, lambda _observations, symbol, _start: self.mode.best_for_targets(symbol))

    def memoryless(self) -> Policy:
        """Returns the policy that considers all symbols equally likely."""
        return self.expecting(np.full(self.task.symbols, 1 / self.task.symbols))


class RecallEnv(SequenceEnv):
    """One copy of `RecallSequences`."""

    dynamics_class = RecallSequences


class RecallVectorEnv(SequenceVectorEnv):
    """n copies of `RecallSequences`."""

    dynamics_class = RecallSequences


class RecallStream(CueStream):
    """Delayed recall without an end: round after round, a symbol is shown and must be named when the question comes.

    The input has C channels for the cue (one-hot), one for the question, and the rest for a distractor drawn at each
    step in between (one-hot) plus Gaussian noise. With `asked`, nothing in the input tells the first of two cues from
    the second.

    The question's input is always the same, so the accuracy of a memoryless learner is 1/C. Naming the wrong one of two
    cues is right in 1/C of the rounds, naming either in (1 + 1/C)/2.

    Args:
        delay: number of steps from the cue, or from the second of two, to the question, at least 1.
        rows: B, the number of parallel streams.
        symbols: C, at least 2.
        distractors: number of different distractors, at least 1.
        noise: standard deviation of the noise in the distractors' channels.
        says_starts: see `CueStream`.
        jitter: see `CueStream`.
        min_delay: see `CueStream`.
        asked: "newest" or "oldest" of two cues in each round; None for rounds of one cue.
        seed: seed of all random numbers.

    Raises:
        TypeError: a count is not an int, or `says_starts` is not a bool.
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        delay: int,
        *,
        rows: int = 1,
        symbols: int = 8,
        distractors: int = 8,
        noise: float = 0.0,
        says_starts: bool = True,
        jitter: float = 0.0,
        min_delay: int | None = None,
        asked: Asked | None = None,
        seed: int = 0,
    ) -> None:
        owner = type(self).__name__
        self.symbols = at_least(owner, "symbols", symbols, 2)
        self.distractors = at_least(owner, "distractors", distractors, 1)
        self.noise = check_noise(owner, noise)
        super().__init__(
            delay, rows=rows, says_starts=says_starts, jitter=jitter, min_delay=min_delay, asked=asked, seed=seed
        )
        self.cue = self.generator.integers(0, symbols, rows)

    @property
    def classes(self) -> int:
        """C."""
        return self.symbols

    @property
    def input_size(self) -> int:
        """I = C + 1 + distractors."""
        return self.symbols + 1 + self.distractors

    def draw(self, shown: Bools, between: Bools) -> tuple[Floats32, Ints]:
        """See `CueStream.draw`."""
        generator, rows = self.generator, np.arange(self.rows)
        symbol = generator.integers(0, self.symbols, self.rows)
        x = np.zeros((self.rows, self.input_size), dtype=np.float32)
        token = self.symbols + 1 + generator.integers(0, self.distractors, self.rows)
        x[rows[between], token[between]] = 1
        if self.noise:
            noise = generator.standard_normal((self.rows, self.distractors), dtype=np.float32)
            x[:, self.symbols + 1 :] += self.noise * noise * between[:, None]
        x[rows[shown], symbol[shown]] = 1
        x[~shown & ~between, self.symbols] = 1
        return x, symbol

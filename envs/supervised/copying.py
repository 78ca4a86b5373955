"""The copying task: ten symbols must be repeated after a long blank.

Dimensions: T steps, B sequences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from sab_agents.checks import at_least, int_between
from sab_agents.envs.arrays import Array, Bools, Ints
from sab_agents.envs.dynamics import MAX_STEPS
from sab_agents.envs.policies import Policy, Remembering
from sab_agents.envs.supervised.action_modes import class_action_mode
from sab_agents.envs.supervised.sequences import SequenceDynamics, SequenceEnv, SequenceVectorEnv
from sab_agents.envs.supervised.task import Batch, GeneratedTask, check_training, only_steps

BLANK, MARKER = 0, 9
SYMBOLS = 8  # tokens 1 … 8
COPIED = 10  # symbols to remember
ONE_HOT = np.eye(MARKER + 1, dtype=np.float32)


@dataclass(frozen=True)
class Copying(GeneratedTask):
    """Ten symbols, `length` - 1 blanks and a marker are read; then the ten symbols must be repeated in order.

    Inputs: (length + 20, B, 10) one-hot tokens: ten symbols uniform in 1 … 8, `length` - 1 blanks (0), the marker (9),
    ten blanks. Targets: blank for the first `length` + 10 steps, then the ten symbols; 9 classes, the token indices
    0 … 8. All steps are trained, the last ten are scored. At those the current input is always a blank, so a memoryless
    learner can only guess among eight equally likely symbols: accuracy 1/8, cross-entropy ln 8 nats.

    Source: Hochreiter & Schmidhuber (1997); in this form Arjovsky, Shah & Bengio (2016) and Ke et al. (2018).

    Attributes:
        length: number of steps between the last symbol and the marker, at least 1.
        min_length: if not None, each training batch draws its own length uniformly from `min_length` … `length`.
            Held-out batches always have `length`.

    Raises:
        TypeError: a length is not an int.
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
        at_least("Copying", "length", self.length, 1)
        if self.min_length is not None:
            at_least("Copying", "min_length", self.min_length, 1)
            if self.min_length > self.length:
                raise ValueError(
                    f"Copying: min_length must be at most length = {self.length}, but is {self.min_length}. "
                    "Lower it or raise length."
                )

    @property
    def memoryless(self) -> Mapping[str, float]:
        """Scores of guessing among the eight symbols."""
        return {"accuracy": 1 / SYMBOLS, "cross_entropy": math.log(SYMBOLS)}

    def train_batch(self, index: int, batch_size: int, seed: int) -> Batch:
        """See `SequenceTask.train_batch`."""
        if self.min_length is None:
            return super().train_batch(index, batch_size, seed)
        check_training("Copying", index, batch_size, seed)
        generator = np.random.default_rng([seed, index])
        length = int(generator.integers(self.min_length, self.length + 1))
        return self.with_length(length).draw_batch(generator, batch_size)

    def with_length(self, length: int) -> Self:
        """See `SequenceTask.with_length`. The result trains at this length alone."""
        return replace(self, length=length, min_length=None)

    def draw(self, generator: np.random.Generator, B: int) -> tuple[Ints, Ints]:
        """Draws the tokens and the targets of B sequences, (length + 20, B) each. The symbols do not depend on length.

        Args:
            generator: source of the random numbers.
            B: number of sequences.
        """
        T = self.length + 2 * COPIED
        symbols = generator.integers(1, SYMBOLS + 1, size=(COPIED, B))
        tokens = np.full((T, B), BLANK)
        tokens[:COPIED] = symbols
        tokens[-COPIED - 1] = MARKER
        targets = np.full((T, B), BLANK, dtype=np.int64)
        targets[-COPIED:] = symbols
        return tokens, targets

    def draw_batch(self, generator: np.random.Generator, B: int) -> Batch:
        """See `GeneratedTask.draw_batch`."""
        tokens, targets = self.draw(generator, B)
        T = len(tokens)
        return Batch(
            inputs=ONE_HOT[tokens],
            targets=targets,
            trained=only_steps(slice(None), T, B),
            scored=only_steps(slice(-COPIED, None), T, B),
            episode_start=only_steps(slice(0, 1), T, B),
        )


class CopyingSequences(SequenceDynamics):
    """Copying: ten symbols must be repeated in order after a long blank.

    Sequences are drawn as by the task `Copying`: ten symbols uniform in 1 … 8, `length` - 1 blanks (0), a marker (9),
    ten blanks. The last ten steps, whose targets are the symbols, are scored.

    Actions: `action_mode` "class": Discrete(9), the token; "log_probs": Box(9), one logit per token.
    Observations: Box(10), the token one-hot.
    Rewards: at the scored steps, "class": 1 if the token is correct; "log_probs": the log-probability of the target.
    Episodes end (terminated) after `length` + 20 steps, with `CE10` ("log_probs") and `accuracy` in `info`.

    Returns:
        best: 10, or 0 as log-probabilities: all symbols have been seen.
        random: 10/9: one of nine tokens is correct. As log-probabilities of uniform logits: see `LogProbActions`.
        memoryless: 10/8, or -10 ln 8: at every scored step the observation is a blank, and the target is one of eight
            equally likely symbols.

    Args:
        length: number of steps between the last symbol and the marker.
        action_mode: "class" or "log_probs".

    Source: Arjovsky, Shah & Bengio (2016); Ke et al. (2018), whose CE10 and accuracy are those of the last ten steps.
    """

    purpose = "memory: ten symbols, repeated after a long blank"
    loss_name = "CE10"
    scored_steps = COPIED

    def __init__(self, length: int = 100, action_mode: str = "class") -> None:
        self.task = Copying(int_between("Copying", "length", length, 1, MAX_STEPS))
        super().__init__(MARKER + 1, class_action_mode("Copying", action_mode, SYMBOLS + 1), self.longest)

    @property
    def longest(self) -> int:
        """See `SequenceDynamics.longest`."""
        return self.task.length + 2 * COPIED

    @property
    def memoryless_reward(self) -> float:
        """See `SequenceDynamics.memoryless_reward`."""
        return -math.log(SYMBOLS) if self.mode.has_loss else 1 / SYMBOLS

    def draw(self, copy: int, generator: np.random.Generator) -> tuple[Array, Array, slice]:  # noqa: ARG002
        """See `SequenceDynamics.draw`."""
        tokens, targets = self.task.draw(generator, 1)
        return tokens[:, 0], targets[:, 0], slice(-COPIED, None)

    def oracle(self) -> Policy:
        """Returns the policy that remembers the symbols and repeats them from the step after the marker on."""
        return Remembering(
            update=_update_memory,
            rule=lambda _observations, memory, _start: self.mode.best_for_targets(_symbol(memory)),
        )

    def memoryless(self) -> Policy:
        """Returns the policy that considers the eight symbols equally likely at every step."""
        probabilities = np.full(SYMBOLS + 1, 1 / SYMBOLS)
        probabilities[BLANK] = 0
        return self.expecting(probabilities)


def _update_memory(observations: Array, memory: Array, start: Bools) -> Array:
    """Returns (n, 12): the ten symbols, the number of steps, and the number of steps from the marker on."""
    shape = (len(observations), COPIED + 2)
    memory = np.where(start[:, None], 0, memory if memory.ndim else np.zeros(shape, np.int64))
    token, steps = observations.argmax(axis=1), memory[:, COPIED]
    reading = np.flatnonzero(steps < COPIED)
    memory[reading, steps[reading]] = token[reading]
    memory[:, COPIED + 1] += (memory[:, COPIED + 1] > 0) | (token == MARKER)
    memory[:, COPIED] += 1
    return memory


def _symbol(memory: Array) -> Array:
    """Returns the symbol to repeat at this step, or blank up to the marker."""
    since_marker = memory[:, COPIED + 1]
    place = (since_marker - 2).clip(0, COPIED - 1)
    return np.where(since_marker >= 2, memory[np.arange(len(memory)), place], BLANK)


class CopyingEnv(SequenceEnv):
    """One copy of `CopyingSequences`."""

    dynamics_class = CopyingSequences


class CopyingVectorEnv(SequenceVectorEnv):
    """n copies of `CopyingSequences`."""

    dynamics_class = CopyingSequences

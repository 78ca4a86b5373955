"""The adding task: the sum of two marked values among many.

Dimensions: T steps, B sequences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from sab_agents.checks import at_least, int_between, one_of
from sab_agents.envs.arrays import Array, Floats32
from sab_agents.envs.dynamics import MAX_STEPS
from sab_agents.envs.policies import Policy, Reactive, Remembering
from sab_agents.envs.supervised.action_modes import ValueActions
from sab_agents.envs.supervised.sequences import LAST_STEP, SequenceDynamics, SequenceEnv, SequenceVectorEnv
from sab_agents.envs.supervised.task import Batch, GeneratedTask, only_steps

SUM_MEAN, SUM_VARIANCE = 1.0, 1 / 6  # of two values uniform in [0, 1)


@dataclass(frozen=True)
class Adding(GeneratedTask):
    """`length` values are read, one of which in each half is marked; the target at the end is the sum of these two.

    Inputs: (length, B, 2): a value uniform in [0, 1), and an indicator that is 1 at one uniformly random step of the
    first `length` // 2 steps and at one of the remaining steps, else 0. Targets: the sum at the last step, 0 before.
    Only the last step is trained and scored, by squared error.

    Always predicting the mean, 1, has the variance of a sum of two uniform values as its error, 2/12 = 1/6: the value
    published for a learner without memory. The best memoryless learner is slightly better: with probability 1/h, where
    h is the number of steps in the second half, the last step is marked itself and one of the values is known, which
    leaves 1/12. `memoryless` is this exact value, 1/6 - 1/(12 h).

    Source: Hochreiter & Schmidhuber (1997); in this form Arjovsky, Shah & Bengio (2016) and Ke et al. (2018).

    Attributes:
        length: T, at least 2.

    Raises:
        TypeError: the length is not an int.
        ValueError: the length is below 2.
    """

    length: int = 200

    name = "adding"
    input_size = 2
    output_size = 1
    loss = "squared_error"
    metrics = ("squared_error",)

    def __post_init__(self) -> None:
        at_least("Adding", "length", self.length, 2)

    @property
    def memoryless(self) -> Mapping[str, float]:
        """Score of predicting 1, or 1/2 more than the last value if that is marked."""
        second_half = self.length - self.length // 2
        return {"squared_error": 1 / 6 - 1 / (12 * second_half)}

    def with_length(self, length: int) -> Self:
        """See `SequenceTask.with_length`."""
        return replace(self, length=length)

    def draw(self, generator: np.random.Generator, B: int) -> tuple[Floats32, Floats32]:
        """Draws the inputs (T, B, 2) and the targets (T, B) of B sequences."""
        T, half = self.length, self.length // 2
        rows = np.arange(B)
        first, second = generator.integers(0, half, size=B), generator.integers(half, T, size=B)
        inputs = np.zeros((T, B, 2), dtype=np.float32)
        inputs[..., 0] = generator.random((T, B), dtype=np.float32)
        inputs[first, rows, 1] = inputs[second, rows, 1] = 1
        targets = np.zeros((T, B), dtype=np.float32)
        targets[-1] = inputs[first, rows, 0] + inputs[second, rows, 0]
        return inputs, targets

    def draw_batch(self, generator: np.random.Generator, B: int) -> Batch:
        """See `GeneratedTask.draw_batch`."""
        inputs, targets = self.draw(generator, B)
        T = self.length
        last = only_steps(LAST_STEP, T, B)
        return Batch(
            inputs=inputs,
            targets=targets,
            trained=last,
            scored=last.copy(),
            episode_start=only_steps(slice(0, 1), T, B),
        )


class AddingSequences(SequenceDynamics):
    """Adding: the sum of two marked values must be predicted at the end.

    Sequences are drawn as by the task `Adding`: `length` values uniform in [0, 1), one of which in each half is marked.
    The last step is scored.

    Actions: Box(1) from -1 to 1, the sum minus its mean, which is 1; `target` in `info` is on this scale, too.
    Observations: Box(2), the value and whether it is marked.
    Rewards: the negative squared error at the last step, else 0.
    Episodes end (terminated) after `length` steps, with `mean_squared_error` in `info`.

    Returns:
        best: 0.
        random: -1/2, the negative variances of a uniform value from -1 to 1, 1/3, and of the sum, 1/6.
        memoryless: -1/6 + 1/(12 h), where h is the number of steps in the second half: with probability 1/h the last
            value is marked itself, which leaves only the variance of the other value, 1/12, of that of the sum, 1/6.

    Args:
        length: T, at least 2.
        action_mode: "value".

    Source: Hochreiter & Schmidhuber (1997); Ke et al. (2018).
    """

    purpose = "memory: two marked numbers among many, summed at the end"
    one_hot = False
    loss_name = "mean_squared_error"
    scored_steps = 1

    def __init__(self, length: int = 200, action_mode: str = "value") -> None:
        self.task = Adding(int_between("Adding", "length", length, 2, MAX_STEPS))
        one_of("Adding", "action_mode", action_mode, ["value"])
        super().__init__(2, ValueActions(SUM_VARIANCE), self.longest)

    @property
    def longest(self) -> int:
        """See `SequenceDynamics.longest`."""
        return self.task.length

    @property
    def memoryless_reward(self) -> float:
        """See `SequenceDynamics.memoryless_reward`."""
        return -self.task.memoryless["squared_error"]

    def draw(self, copy: int, generator: np.random.Generator) -> tuple[Array, Array, slice]:  # noqa: ARG002
        """See `SequenceDynamics.draw`."""
        inputs, sums = self.task.draw(generator, 1)
        return inputs[:, 0], _centred(sums[:, 0]), LAST_STEP

    def sequence_of(self, batch: Batch, copy: int) -> tuple[Array, Array, Array]:
        """See `SequenceDynamics.sequence_of`."""
        inputs, sums, scored = super().sequence_of(batch, copy)
        return inputs, _centred(sums), scored

    def oracle(self) -> Policy:
        """Returns the policy that adds up the marked values."""
        return Remembering(
            update=lambda observations, total, start: (
                np.where(start, 0, total) + observations[:, 0].astype(np.float64) * observations[:, 1]
            ),
            rule=lambda _observations, total, _start: self.mode.best_for_targets(total - SUM_MEAN),
        )

    def memoryless(self) -> Policy:
        """Returns the policy that predicts the mean, or 1/2 more than the current value if that is marked."""

        def rule(observations: Array) -> Array:
            marked = observations[:, 1] == 1
            sums = np.where(marked, observations[:, 0] + SUM_MEAN / 2, SUM_MEAN)
            return self.mode.best_for_targets(sums - SUM_MEAN)

        return Reactive(rule)


def _centred(sums: Array) -> Array:
    """Returns the sums minus their mean, in float64; the zeros of the steps that are not scored stay."""
    centred = sums.astype(np.float64)
    centred[-1] -= SUM_MEAN
    return centred


class AddingEnv(SequenceEnv):
    """One copy of `AddingSequences`."""

    dynamics_class = AddingSequences


class AddingVectorEnv(SequenceVectorEnv):
    """n copies of `AddingSequences`."""

    dynamics_class = AddingSequences

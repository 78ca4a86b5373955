"""Copying, adding and delayed recall as environments.

Dimensions: n copies, T steps of a sequence.
"""

from __future__ import annotations

import math

import numpy as np

from sab_agents.envs.checks import one_of, whole
from sab_agents.envs.dynamics import Array, Bools
from sab_agents.envs.policies import Policy, Reactive, Remembering
from sab_agents.envs.supervised.adding import Adding
from sab_agents.envs.supervised.answers import Value
from sab_agents.envs.supervised.copying import BLANK, COPIED, MARKER, SYMBOLS, Copying
from sab_agents.envs.supervised.recall import Recall
from sab_agents.envs.supervised.sequences import SequenceDynamics, SequenceEnv, SequenceVectorEnv, class_answers
from sab_agents.envs.supervised.task import Batch

LAST = slice(-1, None)
MOST_SYMBOLS = 1000
SUM_MEAN, SUM_VARIANCE = 1.0, 1 / 6  # of two numbers uniform in [0, 1)


class CopyingSequences(SequenceDynamics):
    """Copying: ten symbols must be written in their order after a long blank.

    Sequences are drawn as by the task `Copying`: ten symbols uniform in 1 … 8, `length` - 1 blanks (0), a marker (9),
    ten blanks. The last ten steps are scored, whose targets are the symbols.

    Actions: `action_mode` "class": Discrete(9), the token; "log_probs": Box(9), a number for each token.
    Observations: Box(10), the token one-hot.
    Rewards: at the scored steps, "class": 1 for the right token; "log_probs": the log-probability of the right one.
    Episodes end (terminated) after `length` + 20 steps, with `CE10` ("log_probs") and `accuracy` in `info`.

    Returns:
        best: 10, or 0 as log-probabilities: the symbols were seen.
        random: 10/9; one of nine tokens is right. As log-probabilities of uniform numbers: `LogProbs.random`.
        memoryless: 10/8, or -10 ln 8: at every scored step the observation is a blank, and the target one of eight
            symbols, equally likely.

    Args:
        length: T, steps between the last symbol and the marker.
        action_mode: "class" or "log_probs".

    Source: Arjovsky, Shah & Bengio (2016); Ke et al. (2018), whose CE10 and accuracy are those of the last ten steps.
    """

    purpose = "memory: ten symbols, repeated after a long blank"
    loss_name = "CE10"
    scored_steps = COPIED

    def __init__(self, length: int = 100, action_mode: str = "class") -> None:
        self.task = Copying(whole("Copying", "length", length))
        super().__init__(MARKER + 1, class_answers("Copying", action_mode, SYMBOLS + 1), self.longest)

    @property
    def longest(self) -> int:
        """See `SequenceDynamics.longest`."""
        return self.task.length + 2 * COPIED

    @property
    def memoryless_reward(self) -> float:
        """See the class."""
        return -math.log(SYMBOLS) if self.answers.has_loss else 1 / SYMBOLS

    def draw(self, copy: int, generator: np.random.Generator) -> tuple[Array, Array, slice]:  # noqa: ARG002
        """See `SequenceDynamics.draw`."""
        tokens, targets = self.task.draw(generator, 1)
        return tokens[:, 0], targets[:, 0], slice(-COPIED, None)

    def oracle(self) -> Policy:
        """Notes the symbols, counts the steps since the marker, and writes the symbol of that number."""
        return Remembering(
            note=_noted_symbols, rule=lambda _seen, held, _first: self.answers.certain(_symbol_now(held))
        )

    def memoryless(self) -> Policy:
        """Holds each of the eight symbols for equally likely."""
        chances = np.full(SYMBOLS + 1, 1 / SYMBOLS)
        chances[BLANK] = 0
        return Reactive(lambda seen: self.answers.expecting(np.tile(chances, (len(seen), 1))))


class AddingSequences(SequenceDynamics):
    """Adding: the sum of two marked numbers must be told at the end.

    Sequences are drawn as by the task `Adding`: `length` numbers uniform in [0, 1), of which one in each half is
    marked. The last step is scored.

    Actions: Box(1) from -1 to 1, the sum minus its mean, which is 1; `target` in `info` is on this scale too.
    Observations: Box(2), the number and whether it is marked.
    Rewards: at the last step minus the squared error.
    Episodes end (terminated) after `length` steps, with `mean_squared_error` in `info`.

    Returns:
        best: 0.
        random: -1/2, minus the variances of a uniform number from -1 to 1, 1/3, and of the sum, 1/6.
        memoryless: -1/6 + 1/(12 h), h the steps of the second half: with the chance 1/h the last number is marked
            itself, so that only the other's variance, 1/12, is left of the sum's, 1/6.

    Args:
        length: T, at least 2.
        action_mode: "value".

    Source: Hochreiter & Schmidhuber (1997); Ke et al. (2018).
    """

    purpose = "memory: two marked numbers among many, summed at the end"
    tokens = False
    loss_name = "mean_squared_error"
    scored_steps = 1

    def __init__(self, length: int = 200, action_mode: str = "value") -> None:
        self.task = Adding(whole("Adding", "length", length, 2))
        one_of("Adding", "action_mode", action_mode, ["value"])
        super().__init__(2, Value(SUM_VARIANCE), self.longest)

    @property
    def longest(self) -> int:
        """See `SequenceDynamics.longest`."""
        return self.task.length

    @property
    def memoryless_reward(self) -> float:
        """See the class."""
        return -self.task.memoryless["squared_error"]

    def draw(self, copy: int, generator: np.random.Generator) -> tuple[Array, Array, slice]:  # noqa: ARG002
        """See `SequenceDynamics.draw`."""
        inputs, sums = self.task.draw(generator, 1)
        return inputs[:, 0], _centred(sums[:, 0]), LAST

    def taken(self, batch: Batch, copy: int) -> tuple[Array, Array, Array]:
        """See `SequenceDynamics.taken`."""
        inputs, sums, scored = super().taken(batch, copy)
        return inputs, _centred(sums), scored

    def oracle(self) -> Policy:
        """Adds up what is marked."""
        return Remembering(
            note=lambda seen, held, first: np.where(first, 0, held) + seen[:, 0].astype(np.float64) * seen[:, 1],
            rule=lambda _seen, held, _first: self.answers.certain(held - SUM_MEAN),
        )

    def memoryless(self) -> Policy:
        """Says the mean, or half more than the present number where that is marked."""
        return Reactive(
            lambda seen: self.answers.certain(np.where(seen[:, 1] == 1, seen[:, 0] + SUM_MEAN / 2, SUM_MEAN) - SUM_MEAN)
        )


class RecallSequences(SequenceDynamics):
    """Delayed recall: one symbol must be named after a stretch of noise.

    Sequences are drawn as by the task `Recall`: a symbol, `length` tokens of noise, a query. The last step is scored,
    whose target is the symbol.

    Actions: `action_mode` "class": Discrete(symbols); "log_probs": Box(symbols), a number for each symbol.
    Observations: Box(symbols + distractors + 1), one-hot over symbols, noise and query.
    Rewards: at the last step, "class": 1 for the right symbol; "log_probs": the log-probability of the right one.
    Episodes end (terminated) after `length` + 2 steps, with `cross_entropy` ("log_probs") and `accuracy` in `info`.

    Returns:
        best: 1, or 0 as log-probability.
        random: 1/symbols. As log-probability of uniform numbers: `LogProbs.random`.
        memoryless: 1/symbols, or -ln symbols: the query tells nothing.

    Args:
        length: the delay.
        symbols: how many there are, 2 to 1000.
        distractors: different tokens of noise, 1 to 1000; None for as many as symbols.
        action_mode: "class" or "log_probs".
    """

    purpose = "memory: one symbol, named after a stretch of noise"
    scored_steps = 1

    def __init__(
        self, length: int = 100, symbols: int = 10, distractors: int | None = None, action_mode: str = "class"
    ) -> None:
        noise = None if distractors is None else whole("DelayedRecall", "distractors", distractors, 1, MOST_SYMBOLS)
        kinds = whole("DelayedRecall", "symbols", symbols, 2, MOST_SYMBOLS)
        self.task = Recall(whole("DelayedRecall", "length", length), kinds, noise)
        answers = class_answers("DelayedRecall", action_mode, kinds)
        super().__init__(self.task.input_size, answers, self.longest)

    @property
    def longest(self) -> int:
        """See `SequenceDynamics.longest`."""
        return self.task.length + 2

    @property
    def memoryless_reward(self) -> float:
        """See the class."""
        return -math.log(self.task.symbols) if self.answers.has_loss else 1 / self.task.symbols

    def draw(self, copy: int, generator: np.random.Generator) -> tuple[Array, Array, slice]:  # noqa: ARG002
        """See `SequenceDynamics.draw`."""
        tokens, targets = self.task.draw(generator, 1)
        return tokens[:, 0], targets[:, 0], LAST

    def oracle(self) -> Policy:
        """Notes the first token and names it all the time."""
        return Remembering(
            note=lambda seen, held, first: np.where(
                first, seen[:, : self.task.symbols].argmax(axis=1), held.astype(np.int64)
            ),
            rule=lambda _seen, held, _first: self.answers.certain(held),
        )

    def memoryless(self) -> Policy:
        """Holds all symbols for equally likely."""
        kinds = self.task.symbols
        return Reactive(lambda seen: self.answers.expecting(np.full((len(seen), kinds), 1 / kinds)))


def _centred(sums: Array) -> Array:
    """The sums less their mean, in float64; the zeros of steps that are not scored stay."""
    centred = sums.astype(np.float64)
    centred[-1] -= SUM_MEAN
    return centred


def _noted_symbols(seen: Array, held: Array, first: Bools) -> Array:
    """The ten symbols, the number of steps seen, and the number since the marker, the marker's own step included."""
    held = np.where(first[:, None], 0, held if held.ndim else np.zeros((len(seen), COPIED + 2), np.int64))
    token, steps = seen.argmax(axis=1), held[:, COPIED]
    reading = np.flatnonzero(steps < COPIED)
    held[reading, steps[reading]] = token[reading]
    held[:, COPIED + 1] += (held[:, COPIED + 1] > 0) | (token == MARKER)
    held[:, COPIED] += 1
    return held


def _symbol_now(held: Array) -> Array:
    """The symbol to write, or blank before the marker's next step."""
    since = held[:, COPIED + 1]
    place = (since - 2).clip(0, COPIED - 1)
    return np.where(since >= 2, held[np.arange(len(held)), place], BLANK)


class CopyingEnv(SequenceEnv):
    """One `CopyingSequences`."""

    dynamics_class = CopyingSequences


class CopyingVectorEnv(SequenceVectorEnv):
    """Many `CopyingSequences`."""

    dynamics_class = CopyingSequences


class AddingEnv(SequenceEnv):
    """One `AddingSequences`."""

    dynamics_class = AddingSequences


class AddingVectorEnv(SequenceVectorEnv):
    """Many `AddingSequences`."""

    dynamics_class = AddingSequences


class RecallEnv(SequenceEnv):
    """One `RecallSequences`."""

    dynamics_class = RecallSequences


class RecallVectorEnv(SequenceVectorEnv):
    """Many `RecallSequences`."""

    dynamics_class = RecallSequences

"""Texts read character by character as an environment.

Dimensions: n copies, V characters of the vocabulary.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from sab_agents.envs.checks import whole
from sab_agents.envs.dynamics import Array, Bools, Floats, Ints, Returns
from sab_agents.envs.policies import Policy, Reactive
from sab_agents.envs.supervised.characters import Characters
from sab_agents.envs.supervised.checks import checked_folder, checked_split
from sab_agents.envs.supervised.sequences import SequenceDynamics, SequenceEnv, SequenceVectorEnv, class_answers
from sab_agents.envs.supervised.tables import Table
from sab_agents.envs.supervised.task import Batch, Split

ENDLESS_PART = 1000  # characters of an endless stream that are held at a time
COUNTED = 1_000_000  # characters that are counted at a time
CONTEXT = 60  # characters in a text view


class CharacterStream(SequenceDynamics):
    """Characters: the next character of a text must be told at every step.

    The first episode begins at a place of the text that is drawn, every character being equally likely; each further
    one goes on where the last one was left, and a new seed draws a new place. After the text's last character comes its
    first. Every step is scored.

    Actions: `action_mode` "class": Discrete(V), the next character's code; "log_probs": Box(V), a number for each.
    Observations: Box(V), the present character one-hot.
    Rewards: "class": 1 for the right character; "log_probs": the log-probability of the right one, in nats.
    Episodes end (truncated, for the text goes on) after `episode_length` steps, with `bits_per_character` ("log_probs")
    and `accuracy` in `info`. The last observation is that with which the next episode begins.

    Returns:
        best: unknown, as nobody knows how well a text can be predicted.
        random: `episode_length` / V. As log-probabilities of uniform numbers: `LogProbs.random` for each step.
        memoryless: of who knows how often each character of this split follows each: for each step, the chance of the
            most frequent, or the negative conditional entropy. Computed from the text.
        None for an endless stream.

    Args:
        corpus: "pydoc" (built in), "ptb", "text8", or the path of a text file, as in the task `Characters`.
        episode_length: characters in an episode; None for one that never ends.
        split: "train", "validation" or "test".
        data_dir: as in the task `Characters`.
        action_mode: "class" or "log_probs".

    Source: Mikolov et al. (2012); Ke et al. (2018).
    """

    purpose = "memory: the next character of a text"
    length_argument = "episode_length"
    loss_name = "bits_per_character"
    loss_unit = math.log(2)

    def __init__(
        self,
        corpus: str | os.PathLike[str] = "pydoc",
        episode_length: int | None = 100,
        split: Split = "train",
        data_dir: str | os.PathLike[str] | None = None,
        action_mode: str = "class",
    ) -> None:
        if not isinstance(corpus, (str, os.PathLike)):
            raise TypeError(f"Characters: corpus must be a name or the path of a text file, but is {corpus!r}.")
        self.episode_length = None if episode_length is None else whole("Characters", "episode_length", episode_length)
        self._split = checked_split("Characters", split)
        class_answers("Characters", action_mode, 2)  # refuses a wrong mode before a text is read
        text = Characters(corpus=corpus, data_dir=checked_folder("Characters", data_dir)).text
        self._vocabulary, self._text = text.vocabulary, text.codes[self._split]
        V = len(self._vocabulary)
        super().__init__(V, class_answers("Characters", action_mode, V), self.episode_length)
        self.scored_steps = self.longest
        self.resetting: Bools | None = None

    @property
    def longest(self) -> int:
        """See `SequenceDynamics.longest`; of an endless stream, what is held at a time."""
        return ENDLESS_PART if self.episode_length is None else self.episode_length

    @property
    def returns(self) -> Returns:
        """See the class."""
        if self.episode_length is None:
            return Returns(None, None, None)
        known = super().returns
        return Returns(None, known.random, known.memoryless)

    @property
    def memoryless_reward(self) -> float:
        """See the class."""
        return self._table.log_probability if self.answers.has_loss else self._table.accuracy

    def allocate(self, n: int) -> None:
        """See `Dynamics.allocate`."""
        super().allocate(n)
        self._start = np.zeros(n, np.int64)
        self._drawn_by: list[np.random.Generator | None] = [None] * n

    def begin(self, copies: Ints, generators: Sequence[np.random.Generator]) -> None:
        """See `Dynamics.begin`; draws the place in the text if the generator is a new one, else goes on."""
        for copy, generator in zip(copies.tolist(), generators, strict=True):
            if self._given is None and self._drawn_by[copy] is generator:
                self._start[copy] += self._taken_steps(copy)
            elif self._given is None:
                self._start[copy] = generator.integers(len(self._text))
                self._drawn_by[copy] = generator
            else:  # what is given is not of this text: the next episode draws a place
                self._drawn_by[copy] = None
        super().begin(copies, generators)

    def draw(self, copy: int, generator: np.random.Generator) -> tuple[Array, Array, slice]:  # noqa: ARG002
        """See `SequenceDynamics.draw`; the place was drawn in `begin`."""
        window = self._window(self._start[copy])
        return window, window[1:], slice(None)

    def taken(self, batch: Batch, copy: int) -> tuple[Array, Array, Array]:
        """See `SequenceDynamics.taken`."""
        shown, targets, scored = super().taken(batch, copy)
        return np.append(shown, targets[-1]), targets, scored

    def advance(self, actions: Array) -> tuple[Floats, Bools, Bools]:
        """See `Dynamics.advance`."""
        rewards, ended, never = super().advance(actions)
        if self.episode_length is not None:
            return rewards, never, ended
        for copy in np.flatnonzero(ended).tolist():
            self._hold_the_next_part(copy)
        return rewards, never, never.copy()

    def memoryless(self) -> Policy:
        """Answers from the present character."""
        return Reactive(lambda seen: self.answers.expecting(self._table(seen.argmax(axis=1))))

    def text(self, copy: int) -> str:
        """See `Dynamics.text`: what has been read of late, and what comes next."""
        codes = self.inputs_so_far(copy)[-CONTEXT:].argmax(axis=1)
        read = "".join(self._vocabulary[code] for code in codes)
        target = self._vocabulary[int(self._targets[self._place[copy]])]
        asked = f"asked for {target!r}" if self._scored[self._place[copy]] else "not scored"
        return f"step {self.steps[copy]}: {read!r} ({asked})"

    def _taken_steps(self, copy: int) -> int:
        """Steps of the episode that a copy leaves; that which a vectorised form takes while it resets is none."""
        extra = self.resetting is not None and self.resetting[copy]
        return int(self.steps[copy]) - int(extra)

    def _hold_the_next_part(self, copy: int) -> None:
        self._start[copy] += self.longest
        window, first = self._window(self._start[copy]), copy * self._width
        self._shown[first : first + len(window)] = window
        self._targets[first : first + len(window) - 1] = window[1:]
        self._place[copy] = first
        self.steps[copy] = 0

    def _window(self, start: int) -> Ints:
        return self._text[np.arange(start, start + self.longest + 1) % len(self._text)].astype(np.int64)

    @cached_property
    def _table(self) -> Table:
        V, counts = len(self._vocabulary), np.zeros(len(self._vocabulary) ** 2, np.int64)
        for first in range(0, len(self._text), COUNTED):
            part = self._text.take(np.arange(first, min(first + COUNTED, len(self._text)) + 1), mode="wrap")
            counts += np.bincount(part[:-1].astype(np.int64) * V + part[1:], minlength=V * V)
        return Table(np.arange(V), counts.reshape(V, V))


class CharactersEnv(SequenceEnv):
    """One `CharacterStream`."""

    dynamics_class = CharacterStream


class CharactersVectorEnv(SequenceVectorEnv):
    """Many `CharacterStream`."""

    dynamics: CharacterStream
    dynamics_class = CharacterStream

    def step(self, actions: Array) -> tuple[Array, Floats, Bools, Bools, dict[str, Any]]:
        """Takes a step; see `DynamicsVectorEnv.step`."""
        self.dynamics.resetting = self._ended
        try:
            return super().step(actions)
        finally:
            self.dynamics.resetting = None

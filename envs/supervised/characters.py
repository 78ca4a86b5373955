"""The characters task: the next character of a text, predicted from all previous ones.

Dimensions: T steps, B sequences, n copies or characters of a split, V characters of the vocabulary.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from sab_agents.checks import at_least, int_between, nearest, one_of
from sab_agents.envs.arrays import Array, Bools, Floats, Ints
from sab_agents.envs.datasets.files import data_folder
from sab_agents.envs.datasets.text import LOADERS, Codes, Text, load_text
from sab_agents.envs.dynamics import MAX_STEPS, Returns
from sab_agents.envs.policies import Policy, Reactive
from sab_agents.envs.supervised.action_modes import class_action_mode
from sab_agents.envs.supervised.sequences import ClassTable, SequenceDynamics, SequenceEnv, SequenceVectorEnv
from sab_agents.envs.supervised.task import (
    SPLITS,
    Batch,
    SequenceTask,
    Split,
    check_evaluation,
    check_training,
    only_steps,
)

ENDLESS_WINDOW = 1000  # characters of an endless stream that are stored at a time
COUNTED = 1_000_000  # characters whose pairs are counted at a time
SHOWN_CHARACTERS = 60  # in a text rendering


@dataclass(frozen=True)
class Characters(SequenceTask):
    """A text is read in windows of `length` characters; the target at every step is the next character.

    Inputs: (length, B, V), one-hot. Targets: the code of the next character. All steps are trained and scored, in bits
    per character.

    Training: the training split of n characters is divided among the B rows, and row r reads the stream that starts at
    r * (n // B). The batch of update `index` is the window after that of update `index` - 1, and the learner carries
    its state over. `episode_start` is True only at the first step of a stream, where `index` is a multiple of the
    (n // B - 1) // length windows of a stream; all rows then start over. The seed has no effect.

    Evaluation: the rows divide the split among them, and each reads its part once, window by window, carrying its state
    over. Every character except the first is predicted exactly once, if `sequences` (windows times rows) allows it. The
    last window is as short as needed, and a row with one character less than the others ends in a step that is neither
    trained nor scored.

    Source of the Penn Treebank and text8 settings: Mikolov et al. (2012), Ke et al. (2018).

    Attributes:
        length: T, number of steps of a window, at least 1.
        corpus: "pydoc", Python's help texts, which need no files and depend on the version of Python; "ptb", the Penn
            Treebank; "text8"; or the path of a UTF-8 text file, split into the first 90 %, the next 5 % and the last
            5 %.
        data_dir: folder with the files of "ptb" or "text8". None reads the environment variable SAB_DATA_DIR; if that
            is not set either, the files are downloaded.
        carry: whether a window continues the previous one. If False, each window is a separate sequence, as in Ke et
            al., whose first characters are predicted without context, in training and in evaluation.
        text: codes and vocabulary of the text; its `description` says what was read and how it was split.

    Raises:
        TypeError: the length is not an int, or the corpus or the folder is not a path.
        ValueError: the length is below 1, there is no such corpus, or a file is damaged.
        OSError: a file is missing and cannot be downloaded.
    """

    length: int = 100
    corpus: str | os.PathLike[str] = "pydoc"
    data_dir: str | os.PathLike[str] | None = None
    carry: bool = True
    text: Text = field(init=False, repr=False, compare=False)
    input_size: int = field(init=False, repr=False, compare=False)
    output_size: int = field(init=False, repr=False, compare=False)

    name = "characters"
    loss = "cross_entropy"
    metrics = ("bits_per_character",)

    def __post_init__(self) -> None:
        at_least("Characters", "length", self.length, 1)
        if not isinstance(self.corpus, (str, os.PathLike)):
            raise TypeError(
                f"Characters: corpus must be one of {', '.join(LOADERS)}, or the path of a text file, but is "
                f"{self.corpus!r}. Pass a str or a path."
            )
        corpus = os.fspath(self.corpus)
        if corpus not in LOADERS and not Path(corpus).is_file():
            near = nearest(corpus, LOADERS)
            raise ValueError(
                f"Characters: corpus must be one of {', '.join(LOADERS)}, or the path of a text file, but is "
                f"{corpus!r}, and there is no such file." + (f" Did you mean '{near}'?" if near else "")
            )
        object.__setattr__(self, "text", load_text(corpus, data_folder(self.data_dir)))
        object.__setattr__(self, "input_size", len(self.text.vocabulary))
        object.__setattr__(self, "output_size", len(self.text.vocabulary))

    @cached_property
    def memoryless(self) -> Mapping[str, float]:
        """Score on the validation split of predicting from the current character alone, by pairs of the training split.

        One is added to the count of each pair, so that no pair has probability 0.
        """
        V = self.output_size
        train, held_out = self.text.codes["train"], self.text.codes["validation"]
        counts = 1 + np.bincount(_pairs(train, V), minlength=V * V).reshape(V, V)
        bits = -np.log2(counts / counts.sum(axis=1, keepdims=True))
        return {"bits_per_character": float(bits.ravel()[_pairs(held_out, V)].mean())}

    def train_batch(self, index: int, batch_size: int, seed: int) -> Batch:
        """See `SequenceTask.train_batch`.

        Raises:
            ValueError: the training split is too short for one window in each row.
        """
        check_training("Characters", index, batch_size, seed)
        codes, T = self.text.codes["train"], self.length
        stream_length = len(codes) // batch_size
        windows = (stream_length - 1) // T
        if windows < 1:
            raise ValueError(
                f"Characters.train_batch: batch_size times (length + 1) must be at most the {len(codes):,} characters "
                f"of the training split, but is {batch_size * (T + 1):,}. Use fewer rows or shorter windows."
            )
        window = index % windows
        starts = stream_length * np.arange(batch_size) + T * window
        return self._window(codes, starts, T, begins=window == 0 or not self.carry)

    def evaluation_batches(self, split: Split, batch_size: int, sequences: int) -> Iterator[Batch]:
        """See `SequenceTask.evaluation_batches`. A sequence is one window of one row."""
        check_evaluation("Characters", split, batch_size, sequences)
        codes = self.text.codes[split]
        rows = min(batch_size, sequences, len(codes) - 1)
        return self._read_once(codes, rows, max_windows=sequences // rows)

    def with_length(self, length: int) -> Self:
        """See `SequenceTask.with_length`."""
        return replace(self, length=length)

    def _read_once(self, codes: Codes, rows: int, max_windows: int) -> Iterator[Batch]:
        """Yields the windows of `rows` streams that together predict every character except the first."""
        predicted = len(codes) - 1
        lengths = predicted // rows + (np.arange(rows) < predicted % rows)  # the first rows take the remainder
        firsts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        for start in range(0, int(lengths[0]), self.length)[:max_windows]:
            T = min(self.length, int(lengths[0]) - start)
            yield self._window(codes, firsts + start, T, begins=start == 0 or not self.carry, ends=lengths - start)

    def _window(self, codes: Codes, starts: Ints, T: int, *, begins: bool, ends: Ints | None = None) -> Batch:
        """Returns the window of T steps from `starts` (B,); steps from a row's `ends` (B,) on are not scored."""
        B = len(starts)
        steps = np.arange(T + 1)[:, None]
        window = codes.take(starts + steps, mode="clip").astype(np.int64)
        scored = only_steps(slice(None), T, B) if ends is None else steps[:-1] < ends
        return Batch(
            inputs=np.eye(self.input_size, dtype=np.float32)[window[:-1]],
            targets=window[1:],
            trained=scored,
            scored=scored.copy(),
            episode_start=only_steps(slice(0, 1 if begins else 0), T, B),
        )


class CharacterStream(SequenceDynamics):
    """Characters: the next character of a text must be predicted at every step.

    The first episode begins at a uniformly random character of the text. Each further episode continues where the
    previous one stopped; a new seed draws a new start. The last character of the text is followed by the first. All
    steps are scored.

    Actions: `action_mode` "class": Discrete(V), the code of the next character; "log_probs": Box(V), one logit each.
    Observations: Box(V), the current character one-hot.
    Rewards: "class": 1 if the character is correct; "log_probs": the log-probability of the target, in nats.
    Episodes end (truncated, because the text continues) after `episode_length` steps, with `bits_per_character`
    ("log_probs") and `accuracy` in `info`. The last observation is the first one of the next episode.

    Returns:
        best: None, because the entropy of the text is unknown.
        random: `episode_length` / V. As log-probabilities of uniform logits: see `LogProbActions`.
        memoryless: return of knowing how often each character of this split follows each other one: per step, the
            probability of the most frequent one, or the negative conditional entropy. Computed from the text.
        All are None for an endless stream.

    Args:
        corpus: "pydoc" (built in), "ptb", "text8", or the path of a text file, as in the task `Characters`.
        episode_length: number of characters of an episode; None for an endless stream.
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
        if episode_length is not None:
            episode_length = int_between("Characters", "episode_length", episode_length, 1, MAX_STEPS)
        self.episode_length = episode_length
        self._split = one_of("Characters", "split", split, SPLITS)
        class_action_mode("Characters", action_mode, 2)  # raises for an unknown mode before a text is read
        text = Characters(corpus=corpus, data_dir=data_dir).text
        self._vocabulary, self._text = text.vocabulary, text.codes[self._split]
        V = len(self._vocabulary)
        super().__init__(V, class_action_mode("Characters", action_mode, V), episode_length)
        self.scored_steps = self.longest
        self.resetting: Bools | None = None

    @property
    def longest(self) -> int:
        """See `SequenceDynamics.longest`. For an endless stream, the number of steps that are stored at a time."""
        return ENDLESS_WINDOW if self.episode_length is None else self.episode_length

    @property
    def returns(self) -> Returns:
        """See the class docstring."""
        if self.episode_length is None:
            return Returns(None, None, None)
        return replace(super().returns, best=None)

    @property
    def memoryless_reward(self) -> float:
        """See `SequenceDynamics.memoryless_reward`."""
        return self._table.expected_reward(self.mode)

    def allocate(self, n: int) -> None:
        """See `Dynamics.allocate`."""
        super().allocate(n)
        self._start = np.zeros(n, np.int64)
        self._generator_of_start: list[np.random.Generator | None] = [None] * n

    def begin(self, copies: Ints, generators: Sequence[np.random.Generator]) -> None:
        """See `Dynamics.begin`. Draws a start in the text if the generator is a new one, else continues the text."""
        for copy, generator in zip(copies.tolist(), generators, strict=True):
            if self._presented is not None:  # not from this text: the next episode draws a start
                self._generator_of_start[copy] = None
            elif self._generator_of_start[copy] is generator:
                self._start[copy] += self._steps_taken(copy)
            else:
                self._start[copy] = generator.integers(len(self._text))
                self._generator_of_start[copy] = generator
        super().begin(copies, generators)

    def draw(self, copy: int, generator: np.random.Generator) -> tuple[Array, Array, slice]:  # noqa: ARG002
        """See `SequenceDynamics.draw`. The start was drawn in `begin`."""
        window = self._window(self._start[copy])
        return window, window[1:], slice(None)

    def sequence_of(self, batch: Batch, copy: int) -> tuple[Array, Array, Array]:
        """See `SequenceDynamics.sequence_of`."""
        inputs, targets, scored = super().sequence_of(batch, copy)
        return np.append(inputs, targets[-1]), targets, scored

    def advance(self, actions: Array) -> tuple[Floats, Bools, Bools]:
        """See `Dynamics.advance`."""
        rewards, ended, never = super().advance(actions)
        if self.episode_length is not None:
            return rewards, never, ended
        for copy in np.flatnonzero(ended).tolist():
            self._store_next_window(copy)
        return rewards, never, never.copy()

    def memoryless(self) -> Policy:
        """Returns the policy that predicts from the current character."""
        return Reactive(lambda observations: self.mode.best_for_probabilities(self._table(observations.argmax(axis=1))))

    def text(self, copy: int) -> str:
        """See `Dynamics.text`: the last characters and the next one."""
        codes = self.inputs_so_far(copy)[-SHOWN_CHARACTERS:].argmax(axis=1)
        read = "".join(self._vocabulary[code] for code in codes)
        place = self._place[copy]
        target = self._vocabulary[int(self._targets[place])]
        return f"step {self.steps[copy]}: {read!r} ({f'asked for {target!r}' if self._scored[place] else 'not scored'})"

    def _steps_taken(self, copy: int) -> int:
        """Returns the steps of the current episode, without the one that a vector environment takes while resetting."""
        extra = self.resetting is not None and self.resetting[copy]
        return int(self.steps[copy]) - int(extra)

    def _store_next_window(self, copy: int) -> None:
        self._start[copy] += self.longest
        window, first = self._window(self._start[copy]), copy * self._width
        self._inputs[first : first + len(window)] = window
        self._targets[first : first + len(window) - 1] = window[1:]
        self._place[copy] = first
        self.steps[copy] = 0

    def _window(self, start: int) -> Ints:
        return self._text[np.arange(start, start + self.longest + 1) % len(self._text)].astype(np.int64)

    @cached_property
    def _table(self) -> ClassTable:
        V = len(self._vocabulary)
        counts = np.zeros(V * V, np.int64)
        for first in range(0, len(self._text), COUNTED):
            places = np.arange(first, min(first + COUNTED, len(self._text)) + 1)
            counts += np.bincount(_pairs(self._text.take(places, mode="wrap"), V), minlength=V * V)
        return ClassTable(np.arange(V), counts.reshape(V, V))


def _pairs(codes: Codes, V: int) -> Ints:
    """Returns the index of each pair of neighbouring characters, (n - 1,) in 0 … V * V - 1."""
    return codes[:-1].astype(np.int64) * V + codes[1:]


class CharactersEnv(SequenceEnv):
    """One copy of `CharacterStream`."""

    dynamics_class = CharacterStream


class CharactersVectorEnv(SequenceVectorEnv):
    """n copies of `CharacterStream`."""

    dynamics: CharacterStream
    dynamics_class = CharacterStream

    def step(self, actions: Array) -> tuple[Array, Floats, Bools, Bools, dict[str, Any]]:
        """Takes one step in every copy; see `DynamicsVectorEnv.step`."""
        self.dynamics.resetting = self._ended
        try:
            return super().step(actions)
        finally:
            self.dynamics.resetting = None

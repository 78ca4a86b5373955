"""The characters task: the next character of a text, predicted from all that came before."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from sab_agents.envs.datasets.files import data_folder
from sab_agents.envs.datasets.text import LOADERS, Codes, Text, load_text
from sab_agents.envs.supervised.checks import check_evaluation, check_training, check_whole, nearest
from sab_agents.envs.supervised.generated import only_steps
from sab_agents.envs.supervised.task import Batch, Ints, SequenceTask, Split


@dataclass(frozen=True)
class Characters(SequenceTask):
    """Reads a text in windows of `length` characters, and must give the next character at every step.

    Inputs: (length, B, characters of the vocabulary), one-hot. Targets: the next character's code. Every step is
    trained and scored, in bits per character.

    Training: with n characters in the training piece, row r reads the stream that starts at r * (n // B). The batch of
    update `index` is the window after that of update `index` - 1, and the learner carries its state: `episode_start`
    is True only at the first step of a row's stream, that is where `index` is a multiple of the (n // B - 1) // length
    windows in a stream, after which all rows begin anew. The seed changes nothing.

    Evaluation: the rows divide the piece among them, and each reads its part once, window by window, carrying its
    state. Every character but the piece's first is predicted exactly once, if `sequences` (windows times rows) allows;
    the last window is as short as needed, and a row with one character less than the others ends in a step that is
    neither trained nor scored.

    Source of the Penn Treebank and text8 settings: Mikolov et al. (2012), Ke et al. (2018).

    Attributes:
        length: T, steps in a window, at least 1.
        corpus: "pydoc", Python's own help texts, which need no files and vary with Python's version; "ptb", the Penn
            Treebank; "text8"; or the path of a text file in UTF-8, split in first 90 %, next 5 % and last 5 %.
        data_dir: the folder with the files of "ptb" or "text8"; None for the variable SAB_DATA_DIR, and where that is
            not set either, for a download.
        carry: whether a window goes on from the one before; False makes each a sequence of its own, as Ke et al. do,
            whose first characters are predicted without a past, in training and evaluation alike.
        text: the characters' codes and vocabulary; its `description` says what was read and how it was split.

    Raises:
        TypeError: the length is no int.
        ValueError: the length is below 1, there is no such corpus, or a file is damaged.
        OSError: a file is missing and cannot be fetched.
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
        check_whole("Characters", "length", self.length, 1)
        corpus = os.fspath(self.corpus)
        if corpus not in LOADERS and not Path(corpus).is_file():
            raise ValueError(
                f"Characters: corpus must be one of {', '.join(LOADERS)}, or the path of a text file, "
                f"but is {corpus!r}, and there is no such file{nearest(corpus, LOADERS)}."
            )
        object.__setattr__(self, "text", load_text(corpus, data_folder(self.data_dir)))
        object.__setattr__(self, "input_size", len(self.text.vocabulary))
        object.__setattr__(self, "output_size", len(self.text.vocabulary))

    @cached_property
    def memoryless(self) -> Mapping[str, float]:
        """Predicting the validation piece from the present character alone, by the training piece's pairs.

        The counts of each pair are raised by one, so that no pair is held to be impossible.
        """
        V = self.output_size
        train, held_out = self.text.codes["train"], self.text.codes["validation"]
        counts = 1 + np.bincount(_pairs(train, V), minlength=V * V).reshape(V, V)
        bits = -np.log2(counts / counts.sum(axis=1, keepdims=True))
        return {"bits_per_character": float(bits.ravel()[_pairs(held_out, V)].mean())}

    def train_batch(self, index: int, batch_size: int, seed: int) -> Batch:
        """See `SequenceTask.train_batch`.

        Raises:
            ValueError: the training piece is too short for so many rows of a window.
        """
        check_training("Characters.train_batch", index, batch_size, seed)
        codes, T = self.text.codes["train"], self.length
        share = len(codes) // batch_size
        windows = (share - 1) // T
        if windows < 1:
            raise ValueError(
                f"Characters.train_batch: batch_size times (length + 1) must be at most the {len(codes):,} characters "
                f"of the training piece, but is {batch_size * (T + 1):,}. Use fewer rows, or shorter windows."
            )
        window = index % windows
        starts = share * np.arange(batch_size) + T * window
        return self._window(codes, starts, T, begins=window == 0 or not self.carry)

    def evaluation_batches(self, split: Split, batch_size: int, sequences: int) -> Iterator[Batch]:
        """See `SequenceTask.evaluation_batches`; a sequence is one row's window."""
        check_evaluation("Characters.evaluation_batches", split, batch_size, sequences)
        codes = self.text.codes[split]
        rows = min(batch_size, sequences, len(codes) - 1)
        return self._read_once(codes, rows, most_windows=sequences // rows)

    def with_length(self, length: int) -> Self:
        """See `SequenceTask.with_length`."""
        return replace(self, length=length)

    def _read_once(self, codes: Codes, rows: int, most_windows: int) -> Iterator[Batch]:
        """Yields the windows of `rows` streams that together predict every character but the first."""
        predicted = len(codes) - 1
        shares = predicted // rows + (np.arange(rows) < predicted % rows)  # the first rows take the remainder
        firsts = np.concatenate([[0], np.cumsum(shares)[:-1]])
        for start in range(0, int(shares[0]), self.length)[:most_windows]:
            T = min(self.length, int(shares[0]) - start)
            yield self._window(codes, firsts + start, T, begins=start == 0 or not self.carry, ends=shares - start)

    def _window(self, codes: Codes, starts: Ints, T: int, *, begins: bool, ends: Ints | None = None) -> Batch:
        """Returns the window of T steps from `starts` (B,); steps from a row's `ends` (B,) on are not asked for."""
        B = len(starts)
        steps = np.arange(T + 1)[:, None]
        window = codes.take(starts + steps, mode="clip").astype(np.int64)
        asked = only_steps(slice(None), T, B) if ends is None else steps[:-1] < ends
        return Batch(
            inputs=np.eye(self.input_size, dtype=np.float32)[window[:-1]],
            targets=window[1:],
            trained=asked,
            scored=asked.copy(),
            episode_start=only_steps(slice(0, 1 if begins else 0), T, B),
        )


def _pairs(codes: Codes, V: int) -> Ints:
    """Returns the number of each pair of neighbours, (n - 1,) in 0 … V * V - 1."""
    return codes[:-1].astype(np.int64) * V + codes[1:]

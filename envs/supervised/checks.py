"""Checks of the tasks' arguments, whose messages say the rule, the value received and what to do."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from typing import get_args

from sab_agents.envs.supervised.task import Split

SPLITS: tuple[str, ...] = get_args(Split)


def check_whole(owner: str, setting: str, value: object, minimum: int) -> None:
    """Checks that a setting is an int of at least `minimum`; a bool is no int.

    Raises:
        TypeError: the value is no int.
        ValueError: the value is below the minimum.
    """
    rule = f"{owner}: {setting} must be an int of at least {minimum}, but is"
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{rule} {value!r} ({type(value).__name__}).")
    if value < minimum:
        raise ValueError(f"{rule} {value}.")


def check_training(owner: str, index: int, batch_size: int, seed: int) -> None:
    """Checks the arguments of `train_batch`.

    Raises:
        TypeError: one of them is no int.
        ValueError: one of them is out of range.
    """
    check_whole(owner, "index", index, 0)
    check_whole(owner, "batch_size", batch_size, 1)
    check_whole(owner, "seed", seed, 0)


def check_evaluation(owner: str, split: str, batch_size: int, sequences: int) -> None:
    """Checks the arguments of `evaluation_batches`.

    Raises:
        TypeError: a size is no int.
        ValueError: a size is below 1, or there is no such split.
    """
    checked_split(owner, split)
    check_whole(owner, "batch_size", batch_size, 1)
    check_whole(owner, "sequences", sequences, 1)


def nearest(word: object, known: Iterable[str]) -> str:
    """Returns " (did you mean 'ptb'?)" for the known word that is spelt nearly like `word`, or "" where none is."""
    near = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


def checked_split(owner: str, split: object) -> Split:
    """Returns the split of that name.

    Raises:
        ValueError: there is none.
    """
    if not isinstance(split, str) or split not in SPLITS:
        raise ValueError(
            f"{owner}: split must be one of {', '.join(SPLITS)}, but is {split!r}{nearest(split, SPLITS)}."
        )
    return split  # type: ignore[return-value]


def checked_folder(owner: str, data_dir: object) -> str | os.PathLike[str] | None:
    """Returns a path or None.

    Raises:
        TypeError: it is neither.
    """
    if data_dir is None or isinstance(data_dir, (str, os.PathLike)):
        return data_dir
    raise TypeError(f"{owner}: data_dir must be the path of a folder, but is {data_dir!r}.")

"""Random streams and batches of the tasks that draw their sequences: training and held-out streams never meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from sab_agents.envs.supervised.checks import SPLITS
from sab_agents.envs.supervised.task import Batch, Bools, Split

Draw = Callable[[np.random.Generator, int], Batch]


def training_generator(index: int, seed: int) -> np.random.Generator:
    """Returns the random numbers of training update `index`, a pure function of the two arguments."""
    return np.random.default_rng([seed, index])


def held_out_batches(draw: Draw, split: Split, batch_size: int, sequences: int) -> Iterator[Batch]:
    """Yields exactly `sequences` held-out sequences in batches of `batch_size`; the last batch may be smaller.

    The sequences depend on the split and on `batch_size`, on nothing else. The spawn key keeps them apart from every
    training stream: numpy hashes [a, b] and [a, b, 0] to the same stream, so a longer list of seeds would not do.

    Args:
        draw: makes a batch of the given size from a generator.
        split: which of the held-out streams.
        batch_size: B.
        sequences: how many in all.
    """
    for number, first in enumerate(range(0, sequences, batch_size)):
        stream = np.random.SeedSequence([SPLITS.index(split), number], spawn_key=(0,))
        yield draw(np.random.default_rng(stream), min(batch_size, sequences - first))


def only_steps(steps: slice, T: int, B: int) -> Bools:
    """Returns a (T, B) mask that is True on the given steps of every sequence."""
    mask = np.zeros((T, B), dtype=np.bool_)
    mask[steps] = True
    return mask

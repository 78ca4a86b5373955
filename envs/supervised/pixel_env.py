"""Images read pixel by pixel as environments.

Dimensions: n copies, P pixels.
"""

from __future__ import annotations

import math
import os
from functools import cached_property

import numpy as np

from sab_agents.envs.checks import one_of
from sab_agents.envs.datasets.files import data_folder
from sab_agents.envs.dynamics import Array, Bools, Image, Ints
from sab_agents.envs.policies import Policy, Reactive, Remembering
from sab_agents.envs.supervised.checks import checked_folder, checked_split
from sab_agents.envs.supervised.pixels import CLASSES, LEVELS, Pixels
from sab_agents.envs.supervised.sequences import (
    SequenceDynamics,
    SequenceEnv,
    SequenceVectorEnv,
    class_answers,
    picture_of_numbers,
)
from sab_agents.envs.supervised.tables import Table
from sab_agents.envs.supervised.task import Split

LAST = slice(-1, None)
SIZES = {"digits": (64, 1), "mnist": (784, 1), "cifar10": (1024, 3)}  # P, channels


class PixelSequences(SequenceDynamics):
    """Pixels: the class of an image that is read one pixel at a time must be told at the last.

    An episode is an image of the split, each equally likely; it is presented as by the task `Pixels`. The last step is
    scored, whose target is the class.

    Actions: `action_mode` "class": Discrete(10); "log_probs": Box(10), a number for each class.
    Observations: Box(channels), the pixel.
    Rewards: at the last step, "class": 1 for the right class; "log_probs": the log-probability of the right one.
    Episodes end (terminated) after the last pixel, with `cross_entropy` ("log_probs") and `accuracy` in `info`.

    Returns:
        best: 1, or 0 as log-probability, by who knows every image of the split.
        random: 1/10. As log-probability of uniform numbers: `LogProbs.random`.
        memoryless: of who tells eight levels of brightness of each channel apart, and knows how often each class goes
            with each level of the last pixel in this split: the most frequent class, or the negative conditional
            entropy. Computed from the images. (Full colours would nearly name each image of a small set.)

    Args:
        dataset: "digits", "mnist" or "cifar10".
        permuted: whether the pixels come in the fixed shuffled order of the task `Pixels`.
        split: "train", "validation" or "test".
        data_dir: as in the task `Pixels`.
        action_mode: "class" or "log_probs".

    Source: Le, Jaitly & Hinton (2015); Ke et al. (2018).
    """

    purpose = "memory: the class of an image, read pixel by pixel"
    length_argument = ""
    tokens = False
    scored_steps = 1

    def __init__(
        self,
        dataset: str = "digits",
        permuted: bool = False,
        split: Split = "train",
        data_dir: str | os.PathLike[str] | None = None,
        action_mode: str = "class",
    ) -> None:
        self._dataset = one_of("Pixels", "dataset", dataset, SIZES)
        if not isinstance(permuted, bool):
            raise TypeError(f"Pixels: permuted must be True or False, but is {permuted!r}.")
        self._permuted = permuted
        self._split = checked_split("Pixels", split)
        self._data_dir = checked_folder("Pixels", data_dir)
        P, channels = SIZES[dataset]
        super().__init__(channels, class_answers("Pixels", action_mode, CLASSES), P)

    @property
    def at_hand(self) -> bool:
        """See `SequenceDynamics.at_hand`."""
        return self._dataset == "digits" or data_folder(self._data_dir) is not None

    @cached_property
    def task(self) -> Pixels:
        """The task, with the images, which are read when they are needed first."""
        return Pixels(self._dataset, self._permuted, self._data_dir)

    @property
    def longest(self) -> int:
        """See `SequenceDynamics.longest`."""
        return len(self.task.order)

    def allocate(self, n: int) -> None:
        """See `Dynamics.allocate`."""
        self.horizon = self.longest
        super().allocate(n)

    @property
    def memoryless_reward(self) -> float:
        """See the class."""
        return self._table.log_probability if self.answers.has_loss else self._table.accuracy

    def draw(self, copy: int, generator: np.random.Generator) -> tuple[Array, Array, slice]:  # noqa: ARG002
        """See `SequenceDynamics.draw`; draws the number of an image."""
        batch = self.task.images_as_batch(self._split, generator.integers(self._images, size=1))
        return batch.inputs[:, 0], batch.targets[:, 0], LAST

    def oracle(self) -> Policy:
        """Notes the pixels, and at the last looks for the image that has them."""
        task, images = self.task, self.task.images.splits[self._split]
        labels = {row.tobytes(): label for row, label in zip(images.pixels[:, task.order], images.labels, strict=True)}
        P, brightest = self.longest, task.images.brightest

        def note(seen: Array, held: Array, first: Bools) -> Array:
            n, channels = seen.shape
            held = np.where(first[:, None], 0, held if held.ndim else np.zeros((n, 1 + P * channels), np.int64))
            place = 1 + (held[:, :1] % P) * channels + np.arange(channels)
            np.put_along_axis(held, place, np.rint(seen * brightest).astype(np.int64), axis=1)
            held[:, 0] += 1
            return held

        def rule(_seen: Array, held: Array, _first: Bools) -> Array:
            known = [labels.get(row[1:].astype(np.uint8).tobytes(), 0) if row[0] == P else 0 for row in held]
            return self.answers.certain(np.array(known))

        return Remembering(note, rule)

    def memoryless(self) -> Policy:
        """Answers from the present pixel as if it were the last."""
        brightest = self.task.images.brightest
        return Reactive(
            lambda seen: self.answers.expecting(self._table(self._level(np.rint(seen * brightest).astype(np.int64))))
        )

    def picture(self, copy: int) -> Image:
        """See `Dynamics.picture`: what of the image has been read, in its place."""
        seen = self.inputs_so_far(copy)[: self.longest]
        values = np.zeros((self.longest, seen.shape[1]))
        values[self.task.order[: len(seen)]] = seen
        side = math.isqrt(self.longest)
        if side * side != self.longest:
            return super().picture(copy)
        return picture_of_numbers(values.mean(axis=1).reshape(side, side), self.steps[copy] / self.longest)

    @property
    def _images(self) -> int:
        return len(self.task.images.splits[self._split].labels)

    def _level(self, pixels: Array) -> Ints:
        """The brightness of pixels (N, channels) as one number each, as in `Pixels.memoryless`."""
        levels = pixels.astype(np.int64) * LEVELS // (self.task.images.brightest + 1)
        return np.asarray(levels @ LEVELS ** np.arange(levels.shape[1]))

    @cached_property
    def _table(self) -> Table:
        images = self.task.images.splits[self._split]
        keys, which = np.unique(self._level(images.pixels[:, self.task.order[-1]]), return_inverse=True)
        counts = np.bincount(which * CLASSES + images.labels, minlength=len(keys) * CLASSES)
        return Table(keys, counts.reshape(-1, CLASSES))


class PixelsEnv(SequenceEnv):
    """One `PixelSequences`."""

    dynamics_class = PixelSequences


class PixelsVectorEnv(SequenceVectorEnv):
    """Many `PixelSequences`."""

    dynamics_class = PixelSequences

"""The pixels task: the class of an image that is read pixel by pixel.

Dimensions: T steps, B sequences, N images, P pixels of an image.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Self

import numpy as np

from sab_agents.checks import one_of
from sab_agents.envs.arrays import Array, Bools, Image, Ints
from sab_agents.envs.datasets.files import data_folder
from sab_agents.envs.datasets.images import IMAGE_SETS, Images, Labelled, load_images
from sab_agents.envs.drawing import picture_of_values
from sab_agents.envs.policies import Policy, Reactive, Remembering
from sab_agents.envs.supervised.action_modes import class_action_mode
from sab_agents.envs.supervised.sequences import (
    LAST_STEP,
    ClassTable,
    SequenceDynamics,
    SequenceEnv,
    SequenceVectorEnv,
)
from sab_agents.envs.supervised.task import (
    SPLITS,
    Batch,
    SequenceTask,
    Split,
    check_evaluation,
    check_training,
    only_steps,
)

CLASSES = 10
PERMUTATION_SEED = 92916  # arbitrary, but another seed makes another task
LEVELS = 8  # of brightness per channel that the memoryless scores distinguish
SIZES = {"digits": (64, 1), "mnist": (784, 1), "cifar10": (1024, 3)}  # P, channels


@dataclass(frozen=True)
class Pixels(SequenceTask):
    """An image is read one pixel per step; the target at the last step is its class.

    Inputs: (P, B, channels) in [0, 1], row by row from the top left. Targets: the class at the last step, 0 before.
    Only the last step is trained and scored.

    Training: an epoch is a permutation of the training images that depends on the seed and on the number of the epoch;
    images that remain after the last whole batch are left out of the epoch. Evaluation: the first `sequences` images
    of the split, in the order of the files.

    Source: Le, Jaitly & Hinton (2015); Ke et al. (2018).

    Attributes:
        dataset: "digits" (8 by 8, from scikit-learn), "mnist" (28 by 28) or "cifar10" (32 by 32, three channels).
        permuted: whether the pixels of every image come in one fixed random order, that of
            `numpy.random.default_rng(92916).permutation(P)`.
        data_dir: folder with the files of "mnist" or "cifar10". None reads the environment variable SAB_DATA_DIR; if
            that is not set either, the files are downloaded.
        images: the images, in their original pixel order.

    Raises:
        TypeError: `permuted` is not a bool, or the folder is not a path.
        ValueError: there is no such data set, or a file is damaged.
        OSError: a file is missing and cannot be downloaded.
        ImportError: the data set is "digits" and scikit-learn is not installed.
    """

    dataset: str = "digits"
    permuted: bool = False
    data_dir: str | os.PathLike[str] | None = None
    images: Images = field(init=False, repr=False, compare=False)
    input_size: int = field(init=False, repr=False, compare=False)

    name = "pixels"
    output_size = CLASSES
    loss = "cross_entropy"
    metrics = ("accuracy", "cross_entropy")
    length = None

    def __post_init__(self) -> None:
        _check_settings(self.dataset, self.permuted)
        object.__setattr__(self, "images", load_images(self.dataset, data_folder(self.data_dir)))
        object.__setattr__(self, "input_size", self.images.splits["train"].pixels.shape[2])

    @cached_property
    def order(self) -> Ints:
        """The place in the image of each step's pixel, (P,)."""
        P = self.images.splits["train"].pixels.shape[1]
        return np.random.default_rng(PERMUTATION_SEED).permutation(P) if self.permuted else np.arange(P)

    @cached_property
    def memoryless(self) -> Mapping[str, float]:
        """Scores on the test split of predicting from the last pixel alone, by counts over the training split.

        Each channel is counted at eight levels of brightness, and one is added to every count.
        """
        train, test = self.images.splits["train"], self.images.splits["test"]
        counts = np.ones((LEVELS**self.input_size, CLASSES))
        np.add.at(counts, (self._last_level(train), train.labels), 1)
        probabilities = (counts / counts.sum(axis=1, keepdims=True))[self._last_level(test)]
        label_probabilities = probabilities[np.arange(len(test.labels)), test.labels]
        return {
            "accuracy": float((probabilities.argmax(axis=1) == test.labels).mean()),
            "cross_entropy": float(-np.log(label_probabilities).mean()),
        }

    def train_batch(self, index: int, batch_size: int, seed: int) -> Batch:
        """See `SequenceTask.train_batch`.

        Raises:
            ValueError: the batch is larger than the training split.
        """
        check_training("Pixels", index, batch_size, seed)
        n = len(self.images.splits["train"].labels)
        if batch_size > n:
            raise ValueError(
                f"Pixels.train_batch: batch_size must be at most the {n} images, but is {batch_size}. "
                "Use a smaller batch."
            )
        epoch, place = divmod(index, n // batch_size)
        return self.batch_of("train", _permutation(n, seed, epoch)[place * batch_size : (place + 1) * batch_size])

    def evaluation_batches(self, split: Split, batch_size: int, sequences: int) -> Iterator[Batch]:
        """See `SequenceTask.evaluation_batches`."""
        check_evaluation("Pixels", split, batch_size, sequences)
        indices = np.arange(min(sequences, len(self.images.splits[split].labels)))
        return (self.batch_of(split, indices[i : i + batch_size]) for i in range(0, len(indices), batch_size))

    def batch_of(self, split: Split, indices: Ints) -> Batch:
        """Returns the images of a split with these indices, (B,), as a batch."""
        images = self.images.splits[split]
        T, B = len(self.order), len(indices)
        pixels = images.pixels[indices].transpose(1, 0, 2)[self.order]
        targets = np.zeros((T, B), dtype=np.int64)
        targets[-1] = images.labels[indices]
        last = only_steps(LAST_STEP, T, B)
        return Batch(
            inputs=pixels.astype(np.float32) / np.float32(self.images.brightest),
            targets=targets,
            trained=last,
            scored=last.copy(),
            episode_start=only_steps(slice(0, 1), T, B),
        )

    def with_length(self, length: int) -> Self:
        """Raises, because the length of an image is fixed.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"Pixels: the length is fixed at the {len(self.order)} pixels of {self.dataset}, but {length} was "
            "requested. Leave the length out."
        )

    def level_of(self, pixels: Array) -> Ints:
        """Returns the brightness levels of pixels (N, channels) as one integer each, in 0 … LEVELS ** channels - 1."""
        levels = pixels.astype(np.int64) * LEVELS // (self.images.brightest + 1)
        return np.asarray(levels @ LEVELS ** np.arange(levels.shape[1]))

    def _last_level(self, images: Labelled) -> Ints:
        return self.level_of(images.pixels[:, self.order[-1]])


class PixelSequences(SequenceDynamics):
    """Pixels: the class of an image that is read one pixel per step must be predicted at the last step.

    An episode is a uniformly random image of the split, presented as by the task `Pixels`. The last step, whose target
    is the class, is scored.

    Actions: `action_mode` "class": Discrete(10); "log_probs": Box(10), one logit per class.
    Observations: Box(channels), the pixel.
    Rewards: at the last step, "class": 1 if the class is correct; "log_probs": the log-probability of the target.
    Episodes end (terminated) after the last pixel, with `cross_entropy` ("log_probs") and `accuracy` in `info`.

    Returns:
        best: 1, or 0 as log-probability, by knowing every image of the split.
        random: 1/10. As log-probability of uniform logits: see `LogProbActions`.
        memoryless: return of knowing how often each class occurs with each level of the last pixel in this split, at
            eight levels of brightness per channel: the probability of the most frequent class, or the negative
            conditional entropy. Computed from the images. (Exact colours would almost identify each image of a small
            split.)

    Args:
        dataset: "digits", "mnist" or "cifar10".
        permuted: whether the pixels come in the fixed random order of the task `Pixels`.
        split: "train", "validation" or "test".
        data_dir: as in the task `Pixels`.
        action_mode: "class" or "log_probs".

    Source: Le, Jaitly & Hinton (2015); Ke et al. (2018).
    """

    purpose = "memory: the class of an image, read pixel by pixel"
    length_argument = ""
    one_hot = False
    scored_steps = 1

    def __init__(
        self,
        dataset: str = "digits",
        permuted: bool = False,
        split: Split = "train",
        data_dir: str | os.PathLike[str] | None = None,
        action_mode: str = "class",
    ) -> None:
        _check_settings(dataset, permuted)
        self._dataset, self._permuted, self._data_dir = dataset, permuted, data_dir
        self._split = one_of("Pixels", "split", split, SPLITS)
        P, channels = SIZES[dataset]
        super().__init__(channels, class_action_mode("Pixels", action_mode, CLASSES), P)

    @property
    def at_hand(self) -> bool:
        """See `SequenceDynamics.at_hand`."""
        return self._dataset == "digits" or data_folder(self._data_dir) is not None

    @cached_property
    def task(self) -> Pixels:
        """The task with the images, which are read at the first use."""
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
        """See `SequenceDynamics.memoryless_reward`."""
        return self._table.expected_reward(self.mode)

    def draw(self, copy: int, generator: np.random.Generator) -> tuple[Array, Array, slice]:  # noqa: ARG002
        """See `SequenceDynamics.draw`. Draws the index of an image."""
        batch = self.task.batch_of(self._split, generator.integers(len(self._images.labels), size=1))
        return batch.inputs[:, 0], batch.targets[:, 0], LAST_STEP

    def oracle(self) -> Policy:
        """Returns the policy that remembers the pixels and looks up the image that has them at the last step."""
        task, images = self.task, self._images
        labels = {row.tobytes(): label for row, label in zip(images.pixels[:, task.order], images.labels, strict=True)}
        P, brightest = self.longest, task.images.brightest

        def update(observations: Array, memory: Array, start: Bools) -> Array:
            """Returns (n, 1 + P * channels): the number of steps, and the pixels."""
            n, channels = observations.shape
            memory = np.where(start[:, None], 0, memory if memory.ndim else np.zeros((n, 1 + P * channels), np.int64))
            place = 1 + (memory[:, :1] % P) * channels + np.arange(channels)
            np.put_along_axis(memory, place, np.rint(observations * brightest).astype(np.int64), axis=1)
            memory[:, 0] += 1
            return memory

        def rule(_observations: Array, memory: Array, _start: Bools) -> Array:
            classes = [labels.get(row[1:].astype(np.uint8).tobytes(), 0) if row[0] == P else 0 for row in memory]
            return self.mode.best_for_targets(np.array(classes))

        return Remembering(update, rule)

    def memoryless(self) -> Policy:
        """Returns the policy that predicts from the current pixel as if it were the last one."""
        brightest = self.task.images.brightest

        def rule(observations: Array) -> Array:
            levels = self.task.level_of(np.rint(observations * brightest).astype(np.int64))
            return self.mode.best_for_probabilities(self._table(levels))

        return Reactive(rule)

    def picture(self, copy: int) -> Image:
        """See `Dynamics.picture`: the part of the image that has been read."""
        side = math.isqrt(self.longest)
        if side * side != self.longest:
            return super().picture(copy)
        pixels = self.inputs_so_far(copy)[: self.longest]
        image = np.zeros((self.longest, pixels.shape[1]))
        image[self.task.order[: len(pixels)]] = pixels
        return picture_of_values(image.mean(axis=1).reshape(side, side), self.steps[copy] / self.longest)

    @property
    def _images(self) -> Labelled:
        return self.task.images.splits[self._split]

    @cached_property
    def _table(self) -> ClassTable:
        images = self._images
        levels = self.task.level_of(images.pixels[:, self.task.order[-1]])
        keys, key_of_image = np.unique(levels, return_inverse=True)
        counts = np.bincount(key_of_image * CLASSES + images.labels, minlength=len(keys) * CLASSES)
        return ClassTable(keys, counts.reshape(-1, CLASSES))


@lru_cache(maxsize=2)
def _permutation(n: int, seed: int, epoch: int) -> Ints:
    order = np.random.default_rng([seed, epoch]).permutation(n)
    order.flags.writeable = False  # all batches of the epoch share it
    return order


def _check_settings(dataset: object, permuted: object) -> None:
    one_of("Pixels", "dataset", dataset, IMAGE_SETS)
    if not isinstance(permuted, bool):
        raise TypeError(f"Pixels: permuted must be True or False, but is {permuted!r}. Pass a bool.")


class PixelsEnv(SequenceEnv):
    """One copy of `PixelSequences`."""

    dynamics_class = PixelSequences


class PixelsVectorEnv(SequenceVectorEnv):
    """n copies of `PixelSequences`."""

    dynamics_class = PixelSequences

"""The pixels task: the class of an image that is read pixel by pixel."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Self

import numpy as np

from sab_agents.envs.datasets.files import data_folder
from sab_agents.envs.datasets.images import IMAGE_SETS, Images, Labelled, load_images
from sab_agents.envs.supervised.checks import check_evaluation, check_training, nearest
from sab_agents.envs.supervised.generated import only_steps
from sab_agents.envs.supervised.task import Batch, Ints, SequenceTask, Split

CLASSES = 10
PERMUTATION_SEED = 92916  # any number would do; changing it makes another task
LEVELS = 8  # of a channel's brightness, where the memoryless score counts pixels


@dataclass(frozen=True)
class Pixels(SequenceTask):
    """Reads an image one pixel per step, and must name its class at the last.

    Inputs: (pixels, B, channels) in [0, 1], row by row from the top left. Targets: the class at the last step, 0
    before; only the last step is trained and scored.

    Training: an epoch is a shuffle of the training images that depends on the seed and the epoch's number; images left
    over after the last whole batch are left out of the epoch. Evaluation: the split's first `sequences` images, in
    the files' order.

    Source: Le, Jaitly & Hinton (2015); Ke et al. (2018).

    Attributes:
        dataset: "digits" (8 by 8, scikit-learn's), "mnist" (28 by 28) or "cifar10" (32 by 32, three channels).
        permuted: whether the pixels of every image come in one and the same shuffled order, that of
            `numpy.random.default_rng(92916).permutation(pixels)`.
        data_dir: the folder with the files of "mnist" or "cifar10"; None for the variable SAB_DATA_DIR, and where that
            is not set either, for a download.
        images: the images, in their unpermuted order.

    Raises:
        TypeError: `permuted` is no bool.
        ValueError: there is no such data set, or a file is damaged.
        OSError: a file is missing and cannot be fetched.
        ImportError: digits need scikit-learn, which is not installed.
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
        if self.dataset not in IMAGE_SETS:
            known = ", ".join(IMAGE_SETS)
            raise ValueError(
                f"Pixels: dataset must be one of {known}, but is {self.dataset!r}{nearest(self.dataset, IMAGE_SETS)}."
            )
        if not isinstance(self.permuted, bool):
            raise TypeError(f"Pixels: permuted must be True or False, but is {self.permuted!r}.")
        object.__setattr__(self, "images", load_images(self.dataset, data_folder(self.data_dir)))
        object.__setattr__(self, "input_size", self.images.splits["train"].pixels.shape[2])

    @cached_property
    def order(self) -> Ints:
        """The place in the image of each step's pixel, (pixels,)."""
        pixels = self.images.splits["train"].pixels.shape[1]
        return np.random.default_rng(PERMUTATION_SEED).permutation(pixels) if self.permuted else np.arange(pixels)

    @cached_property
    def memoryless(self) -> Mapping[str, float]:
        """Predicting the test images' classes from the last step's pixel alone, as counted on the training images.

        Each channel is counted at eight levels of brightness, and every count is raised by one.
        """
        train, test = self.images.splits["train"], self.images.splits["test"]
        counts = np.ones((LEVELS**self.input_size, CLASSES))
        np.add.at(counts, (self._last_level(train), train.labels), 1)
        probabilities = (counts / counts.sum(axis=1, keepdims=True))[self._last_level(test)]
        of_label = probabilities[np.arange(len(test.labels)), test.labels]
        return {
            "accuracy": float((probabilities.argmax(axis=1) == test.labels).mean()),
            "cross_entropy": float(-np.log(of_label).mean()),
        }

    def train_batch(self, index: int, batch_size: int, seed: int) -> Batch:
        """See `SequenceTask.train_batch`.

        Raises:
            ValueError: the batch is larger than the training images are many.
        """
        check_training("Pixels.train_batch", index, batch_size, seed)
        train = self.images.splits["train"]
        n = len(train.labels)
        if batch_size > n:
            raise ValueError(f"Pixels.train_batch: batch_size must be at most the {n} images, but is {batch_size}.")
        epoch, place = divmod(index, n // batch_size)
        return self._batch(train, _shuffle(n, seed, epoch)[place * batch_size : (place + 1) * batch_size])

    def evaluation_batches(self, split: Split, batch_size: int, sequences: int) -> Iterator[Batch]:
        """See `SequenceTask.evaluation_batches`."""
        check_evaluation("Pixels.evaluation_batches", split, batch_size, sequences)
        images = self.images.splits[split]
        chosen = np.arange(min(sequences, len(images.labels)))
        return (self._batch(images, chosen[i : i + batch_size]) for i in range(0, len(chosen), batch_size))

    def images_as_batch(self, split: Split, chosen: Ints) -> Batch:
        """The images of these numbers in a split, as a batch."""
        return self._batch(self.images.splits[split], chosen)

    def with_length(self, length: int) -> Self:
        """Refuses, since the images have the length they have.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"Pixels: the length is fixed at the {len(self.order)} pixels of {self.dataset}, not {length}."
        )

    def _batch(self, images: Labelled, chosen: Ints) -> Batch:
        T, B = len(self.order), len(chosen)
        pixels = images.pixels[chosen].transpose(1, 0, 2)[self.order]
        targets = np.zeros((T, B), dtype=np.int64)
        targets[-1] = images.labels[chosen]
        last = only_steps(slice(-1, None), T, B)
        return Batch(
            inputs=pixels.astype(np.float32) / np.float32(self.images.brightest),
            targets=targets,
            trained=last,
            scored=last.copy(),
            episode_start=only_steps(slice(0, 1), T, B),
        )

    def _last_level(self, images: Labelled) -> Ints:
        """Returns the brightness of each image's last pixel as one number, (N,) in 0 … LEVELS ** channels - 1."""
        levels = images.pixels[:, self.order[-1]].astype(np.int64) * LEVELS // (self.images.brightest + 1)
        return levels @ LEVELS ** np.arange(self.input_size)


@lru_cache(maxsize=2)
def _shuffle(n: int, seed: int, epoch: int) -> Ints:
    order = np.random.default_rng([seed, epoch]).permutation(n)
    order.flags.writeable = False  # it is shared by all batches of the epoch
    return order

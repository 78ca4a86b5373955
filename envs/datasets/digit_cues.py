"""Images of digits as cues: drawn from one split of a data set, every class equally often.

Dimensions: n images, P pixels.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import numpy as np

from sab_agents.checks import one_of
from sab_agents.envs.arrays import Floats32, Ints
from sab_agents.envs.datasets.files import data_folder
from sab_agents.envs.datasets.images import load_images

CLASSES = 10
SIDES = {"digits": 8, "mnist": 28}
"""The data sets, and the side of their images in pixels."""
SPLITS = ("train", "validation", "test")


class DigitCues:
    """The digits of one split; no image is in two splits.

    Args:
        dataset: "digits" (8 by 8, from scikit-learn) or "mnist" (28 by 28).
        split: "train", "validation" or "test".
        data_dir: folder with the files of "mnist". None reads the environment variable SAB_DATA_DIR; if that is not
            set either, the files are downloaded.

    Attributes:
        pixels: (N, P) all images, from 0 to 1, sorted by class.
        labels: (N,) their classes.

    Raises:
        ValueError: there is no such data set or split, or a file is damaged.
        OSError: a file is missing and cannot be downloaded.
        ImportError: the data set is "digits" and scikit-learn is not installed.
    """

    def __init__(self, dataset: str, split: str, data_dir: str | os.PathLike[str] | None = None) -> None:
        check_digits("DigitCues", dataset, split)
        self.pixels, self.labels = _sorted_digits(dataset, split, data_folder(data_dir))
        self._counts = np.bincount(self.labels, minlength=CLASSES)
        self._first = self._counts.cumsum() - self._counts

    def draw(self, generator: np.random.Generator, n: int) -> tuple[Floats32, Ints]:
        """Draws n images (n, P) and their classes (n,): a uniform class, and a uniform image of it."""
        places = self.draw_places(generator, n)
        return self.pixels[places], self.labels[places]

    def draw_places(self, generator: np.random.Generator, n: int) -> Ints:
        """Draws n images as `draw` does, and returns their places in `pixels` and `labels`."""
        classes = generator.integers(0, CLASSES, n)
        places: Ints = self._first[classes] + (generator.random(n) * self._counts[classes]).astype(np.int64)
        return places


def check_digits(owner: str, dataset: object, split: object) -> None:
    """Raises ValueError, on behalf of the class `owner`, unless there are such a data set and such a split."""
    one_of(owner, "dataset", dataset, SIDES)
    one_of(owner, "split", split, SPLITS)


@lru_cache(maxsize=4)
def _sorted_digits(dataset: str, split: str, folder: Path | None) -> tuple[Floats32, Ints]:
    """Returns the images of a split as float32 and their classes, sorted by class; all who ask share them."""
    images = load_images(dataset, folder)
    digits = images.splits[split]
    shape, side = digits.pixels.shape, SIDES[dataset]
    if shape[1] != side**2:
        raise ValueError(
            f"{dataset}: images must be {side} by {side} pixels, but have {shape[1]}. Use the published files."
        )
    order = np.argsort(digits.labels, kind="stable")
    pixels = digits.pixels[order, :, 0].astype(np.float32) / np.float32(images.brightest)
    labels = digits.labels[order]
    for array in (pixels, labels):
        array.flags.writeable = False
    return pixels, labels

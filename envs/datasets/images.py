"""Labelled images, read as rows of pixels: digits, MNIST and CIFAR-10.

Dimensions: N images, P pixels in reading order, C channels.
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import IO

import numpy as np

from sab_agents.envs.arrays import Image, Ints
from sab_agents.envs.datasets.files import Published, check_sha256, download, find

MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
CIFAR10 = Published(
    "cifar-10-binary.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)
CIFAR10_SHA256 = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
CIFAR10_PIXELS, CIFAR10_CHANNELS = 1024, 3
CIFAR10_RECORD = 1 + CIFAR10_PIXELS * CIFAR10_CHANNELS  # bytes: label, red, green, blue

DIGITS_SPLIT_SEED = 0
MAX_VALIDATION = 5000


@dataclass(frozen=True)
class Labelled:
    """Labelled images of one split.

    Attributes:
        pixels: (N, P, C) uint8.
        labels: (N,) int64 in 0 … 9.
    """

    pixels: Image
    labels: Ints


@dataclass(frozen=True)
class Images:
    """A data set of images in ten classes.

    Attributes:
        brightest: pixel value that corresponds to 1.
        splits: the images of "train", "validation" and "test".
    """

    brightest: int
    splits: Mapping[str, Labelled]


@lru_cache(maxsize=2)
def load_images(dataset: str, folder: Path | None) -> Images:
    """Returns the data set of this name in `IMAGE_SETS`, read from `folder` or downloaded; cached within a process.

    Raises:
        ImportError: the data set is "digits" and scikit-learn is not installed.
        OSError: a file is missing and cannot be downloaded.
        ValueError: a file is damaged.
    """
    return IMAGE_SETS[dataset](folder)


def digits_images(_folder: Path | None = None) -> Images:
    """Returns the 1,797 digits of scikit-learn, 8 by 8 pixels from 0 to 16.

    They are shuffled by `default_rng(0).permutation`. The first 70 % are the training split, the next 10 % the
    validation split, the last 20 % the test split.
    """
    try:
        from sklearn.datasets import load_digits  # noqa: PLC0415  # an optional dependency
    except ImportError as error:
        raise ImportError(
            "Pixels: the digits need scikit-learn, which is not installed. Run pip install sab-agents[digits]."
        ) from error
    digits = load_digits()
    n = len(digits.target)
    order = np.random.default_rng(DIGITS_SPLIT_SEED).permutation(n)
    pixels = digits.data.astype(np.uint8)[order, :, None]
    labels = digits.target.astype(np.int64)[order]
    first, second = n * 70 // 100, n * 80 // 100
    parts = {"train": slice(first), "validation": slice(first, second), "test": slice(second, n)}
    return Images(16, {split: Labelled(pixels[part], labels[part]) for split, part in parts.items()})


def mnist_images(folder: Path | None = None) -> Images:
    """Returns MNIST (LeCun et al., 1998), read from its four IDX files, plain or gzipped."""
    train = _labelled(_mnist_array("train-images-idx3-ubyte", folder), _mnist_array("train-labels-idx1-ubyte", folder))
    test = _labelled(_mnist_array("t10k-images-idx3-ubyte", folder), _mnist_array("t10k-labels-idx1-ubyte", folder))
    return _with_validation(train, test)


def _mnist_array(name: str, folder: Path | None) -> Image:
    published = Published(f"{name}.gz", f"{MNIST_URL}{name}.gz", MNIST_SHA256[name])
    if folder is None:
        return read_idx(download("mnist", published))
    path = find("mnist", (published.name, name), folder, published.url)[0]
    if path.name == published.name:
        check_sha256(path, published.sha256, published.url)
    return read_idx(path)


def read_idx(path: Path) -> Image:
    """Returns the bytes of an IDX file, plain or gzipped (".gz"), in the shape of its header.

    Raises:
        ValueError: the file is not an IDX file of bytes, or its length differs from the header's.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"'{path}' must be a gzip file, but is damaged: {error}. Download it again.") from error
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise ValueError(
            f"'{path}' must start with the IDX mark 00 00 08, but starts with {raw[:3].hex(' ')}. Download it again."
        )
    header = 4 + 4 * raw[3]
    shape = np.frombuffer(raw[4:header], ">u4").tolist() if len(raw) >= header else [0]
    if len(raw) != header + np.prod(shape, dtype=np.int64):
        raise ValueError(
            f"'{path}' must hold {shape} bytes after {header} of header, but is {len(raw):,} bytes long. "
            "Download it again."
        )
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def cifar10_images(folder: Path | None = None) -> Images:
    """Returns CIFAR-10 (Krizhevsky, 2009), read from its binary version.

    In a folder, the training images are those of all `data_batch_N.bin` that exist, and the test images those of
    `test_batch.bin`. If no file has an official name, all `data_batch*.bin` and `test_batch*.bin` are read instead.
    """
    if folder is None:
        with tarfile.open(download("cifar10", CIFAR10)) as archive:
            members = {Path(member.name).name: archive.extractfile(member) for member in archive if member.isfile()}
            arrays = [_cifar10_records(members[name], name) for name in CIFAR10_SHA256]
        return _with_validation(_concatenated(arrays[:-1]), arrays[-1])
    patterns = (("data_batch_[1-5].bin", "data_batch*.bin"), ("test_batch.bin", "test_batch*.bin"))
    train, test = ([read_cifar10(path) for path in find("cifar10", names, folder, CIFAR10.url)] for names in patterns)
    return _with_validation(_concatenated(train), _concatenated(test))


def read_cifar10(path: Path) -> Labelled:
    """Returns the images of one file of the binary version.

    Raises:
        ValueError: the file is not the published one of its name, or has incomplete records.
    """
    if path.name in CIFAR10_SHA256:
        check_sha256(path, CIFAR10_SHA256[path.name], CIFAR10.url)
    with path.open("rb") as file:
        return _cifar10_records(file, str(path))


def _cifar10_records(file: IO[bytes] | None, name: str) -> Labelled:
    raw = np.frombuffer(file.read() if file else b"", np.uint8)
    if not len(raw) or len(raw) % CIFAR10_RECORD or raw[::CIFAR10_RECORD].max() > 9:
        raise ValueError(
            f"'{name}' must consist of records of {CIFAR10_RECORD} bytes, each starting with a label from 0 to 9, "
            f"but is another file, of {len(raw):,} bytes. Download it again."
        )
    records = raw.reshape(-1, CIFAR10_RECORD)
    pixels = records[:, 1:].reshape(-1, CIFAR10_CHANNELS, CIFAR10_PIXELS).transpose(0, 2, 1)
    return Labelled(pixels, records[:, 0].astype(np.int64))


def _concatenated(parts: list[Labelled]) -> Labelled:
    return Labelled(np.concatenate([part.pixels for part in parts]), np.concatenate([part.labels for part in parts]))


def _labelled(images: Image, labels: Image) -> Labelled:
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels) or labels.max(initial=0) > 9:
        raise ValueError(
            f"mnist: there must be as many labels from 0 to 9 as images, but images have the shape {images.shape}, "
            f"labels the shape {labels.shape}. Download the four files again."
        )
    return Labelled(images.reshape(len(images), -1, 1), labels.astype(np.int64))


def _with_validation(train: Labelled, test: Labelled) -> Images:
    """Splits off the last tenth of the training images, at most 5,000, for validation."""
    n = len(train.labels)
    if n < 10:
        raise ValueError(
            f"There must be at least 10 training images, one in ten for validation, but there are {n}. Add more files."
        )
    first = n - min(MAX_VALIDATION, n // 10)
    splits = {
        "train": Labelled(train.pixels[:first], train.labels[:first]),
        "validation": Labelled(train.pixels[first:], train.labels[first:]),
        "test": test,
    }
    return Images(255, splits)


IMAGE_SETS = MappingProxyType({"digits": digits_images, "mnist": mnist_images, "cifar10": cifar10_images})

"""Fixtures for the tests of the tasks: a folder with the published data sets, if available."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sab_agents.envs.supervised import Batch

SHARED_DATA = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture
def published_data(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Returns a function that gives the folder of published files, or skips where one of them is not there."""
    monkeypatch.delenv("SAB_DATA_DIR", raising=False)

    def folder(needed: str) -> Path:
        if not (SHARED_DATA / needed).exists():
            pytest.skip(f"needs the published file {needed} in the folder shared/data beside the repository")
        return SHARED_DATA

    return folder


@pytest.fixture
def mnist_folder(tmp_path: Path) -> Path:
    """A folder with a small data set of random images in MNIST's plain files: 40 to train on, 12 to test on."""
    generator = np.random.default_rng(1)
    for stem, n in (("train", 40), ("t10k", 12)):
        images = generator.integers(0, 256, size=(n, 5, 4), dtype=np.uint8)
        labels = generator.integers(0, 10, size=n, dtype=np.uint8)
        (tmp_path / f"{stem}-images-idx3-ubyte").write_bytes(idx_bytes(images))
        (tmp_path / f"{stem}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    return tmp_path


def idx_bytes(array: np.typing.NDArray[np.uint8]) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.tobytes()


def same(left: Any, right: Any) -> bool:
    """Whether two results of environments are equal bit for bit, with the same types of arrays."""
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (tuple, list)) or (isinstance(left, np.ndarray) and left.dtype == object):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    if left is None or right is None:
        return left is right
    left, right = np.asarray(left), np.asarray(right)
    return left.dtype == right.dtype and np.array_equal(left, right, equal_nan=left.dtype.kind == "f")


def tokens_of(batch: Batch) -> list[list[int]]:
    """The token at each step of each row, after checking that inputs are one-hot."""
    assert set(np.unique(batch.inputs)) == {0.0, 1.0}
    assert (batch.inputs.sum(axis=2) == 1).all()
    tokens: list[list[int]] = batch.inputs.argmax(axis=2).T.tolist()
    return tokens

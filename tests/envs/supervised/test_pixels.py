"""The pixels task: batches of images, their splits, and the memoryless score."""

from __future__ import annotations

import gzip
import hashlib
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sab_agents.envs.datasets.images import load_images
from sab_agents.envs.supervised.pixels import Pixels
from sab_agents.envs.supervised.task import SPLITS, Batch


@pytest.fixture
def task(mnist_folder: Path) -> Pixels:
    """A task on 40 random images of 5 by 4 pixels to train on, the last 4 of them for validation, and 12 to test on."""
    return Pixels("mnist", data_dir=mnist_folder)


def images_of(batch: Batch) -> list[bytes]:
    return [batch.inputs[:, row].tobytes() for row in range(batch.inputs.shape[1])]


def test_a_batch_holds_one_pixel_per_step_and_asks_for_the_class_at_the_last(task: Pixels) -> None:
    (batch,) = task.evaluation_batches("train", 36, 36)
    assert batch.inputs.shape == (20, 36, 1)
    assert batch.inputs.dtype == np.float32
    train = task.images.splits["train"]
    for row in range(36):
        for step in range(20):
            assert batch.inputs[step, row, 0] == pytest.approx(train.pixels[row, step, 0] / 255, abs=1e-7)
        assert batch.targets[:, row].tolist() == [0] * 19 + [train.labels[row]]
    for mask in (batch.trained, batch.scored):
        assert mask[-1].all()
        assert not mask[:-1].any()
    assert batch.episode_start[0].all()
    assert not batch.episode_start[1:].any()


def test_the_files_images_are_read_row_by_row(task: Pixels, mnist_folder: Path) -> None:
    raw = (mnist_folder / "t10k-images-idx3-ubyte").read_bytes()[16:]
    assert task.images.splits["test"].pixels.tobytes() == raw
    labels = (mnist_folder / "t10k-labels-idx1-ubyte").read_bytes()[8:]
    assert bytes(task.images.splits["test"].labels.tolist()) == labels


def test_an_epoch_shows_every_image_once_and_the_next_in_another_order(task: Pixels) -> None:
    epochs = [[image for i in range(4) for image in images_of(task.train_batch(4 * e + i, 9, 0))] for e in range(2)]
    assert len(set(epochs[0])) == 36
    assert set(epochs[0]) == set(epochs[1])
    assert epochs[0] != epochs[1]


def test_images_left_over_after_whole_batches_wait_for_another_epoch(task: Pixels) -> None:
    for epoch in range(2):
        batches = [images_of(task.train_batch(3 * epoch + i, 10, seed=0)) for i in range(3)]
        assert [len(set(images)) for images in batches] == [10, 10, 10]
        assert len({image for images in batches for image in images}) == 30


def test_training_batches_depend_on_index_and_seed_alone(task: Pixels) -> None:
    first = images_of(task.train_batch(5, 9, seed=1))
    task.train_batch(70, 4, seed=3)
    task.train_batch(0, 4, seed=4)
    assert first == images_of(task.train_batch(5, 9, seed=1))
    assert first != images_of(task.train_batch(5, 9, seed=2))
    assert first != images_of(task.train_batch(6, 9, seed=1))


def test_a_batch_larger_than_the_data_set_is_an_error(task: Pixels) -> None:
    assert task.train_batch(3, 36, 0).inputs.shape[1] == 36
    with pytest.raises(ValueError, match="batch_size must be at most the 36 images, but is 37"):
        task.train_batch(0, 37, 0)


def test_evaluation_ends_with_the_split_or_at_the_limit(task: Pixels) -> None:
    assert [len(images_of(batch)) for batch in task.evaluation_batches("test", 5, 1000)] == [5, 5, 2]
    assert [len(images_of(batch)) for batch in task.evaluation_batches("test", 5, 7)] == [5, 2]
    assert [len(images_of(batch)) for batch in task.evaluation_batches("validation", 5, 7)] == [4]


def test_no_image_is_in_two_splits(task: Pixels) -> None:
    images = [
        image for split in SPLITS for batch in task.evaluation_batches(split, 50, 50) for image in images_of(batch)
    ]
    assert len(set(images)) == len(images) == 52


def test_permuted_images_have_the_same_pixels_in_one_other_order(task: Pixels, mnist_folder: Path) -> None:
    permuted = Pixels("mnist", permuted=True, data_dir=mnist_folder)
    assert sorted(permuted.order.tolist()) == list(range(20)) != permuted.order.tolist()
    assert np.array_equal(permuted.order, Pixels("mnist", permuted=True, data_dir=mnist_folder).order)
    plain, shuffled = task.train_batch(3, 8, 0), permuted.train_batch(3, 8, 0)
    for step, place in enumerate(permuted.order):
        assert np.array_equal(shuffled.inputs[step], plain.inputs[place])
    assert np.array_equal(plain.targets, shuffled.targets)


def test_the_length_is_fixed(task: Pixels) -> None:
    assert task.length is None
    with pytest.raises(ValueError, match="length is fixed at the 20 pixels of mnist, but 30 was requested"):
        task.with_length(30)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match=r"one of digits, mnist, cifar10, but is 'minst'\. Did you mean 'mnist'"):
        Pixels("minst")
    with pytest.raises(TypeError, match="permuted must be True or False, but is 1"):
        Pixels(permuted=1)  # type: ignore[arg-type]


def test_the_memoryless_score_is_that_of_the_last_pixels_brightness(task: Pixels) -> None:
    train, test = task.images.splits["train"], task.images.splits["test"]
    seen = Counter(
        (int(pixels[-1, 0]) // 32, int(label)) for pixels, label in zip(train.pixels, train.labels, strict=True)
    )
    right, nats = 0, 0.0
    for pixels, label in zip(test.pixels, test.labels, strict=True):
        counts = [seen[int(pixels[-1, 0]) // 32, c] + 1 for c in range(10)]
        right += counts.index(max(counts)) == label
        nats -= np.log(counts[label] / sum(counts))
    assert task.memoryless["accuracy"] == pytest.approx(right / 12)
    assert task.memoryless["cross_entropy"] == pytest.approx(nats / 12)


def test_the_digits_are_split_70_10_20_without_overlap() -> None:
    pytest.importorskip("sklearn")
    task = Pixels()
    sizes = [len(task.images.splits[split].labels) for split in SPLITS]
    assert sum(sizes) == 1797
    np.testing.assert_allclose(np.array(sizes) / 1797, [0.7, 0.1, 0.2], atol=1e-3)
    (batch,) = task.evaluation_batches("train", 2000, 2000)
    assert batch.inputs.shape == (64, sizes[0], 1)
    assert (batch.inputs.min(), batch.inputs.max()) == (0, 1)
    assert set(batch.targets[-1].tolist()) == set(range(10))
    assert task.memoryless["accuracy"] < 0.25


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    load_images.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install sab-agents\[digits\]"):
        Pixels("digits")


def test_mnist_has_its_published_size(published_data: Callable[[str], Path]) -> None:
    task = Pixels("mnist", data_dir=published_data("mnist/train-images-idx3-ubyte.gz"))
    splits = task.images.splits
    assert {split: splits[split].pixels.shape for split in SPLITS} == {
        "train": (55_000, 784, 1),
        "validation": (5_000, 784, 1),
        "test": (10_000, 784, 1),
    }
    folder = published_data("mnist/train-images-idx3-ubyte.gz") / "mnist"
    for stem, parts in (("train", ("train", "validation")), ("t10k", ("test",))):
        for kind, header, field in (("images-idx3", 16, "pixels"), ("labels-idx1", 8, "labels")):
            published = gzip.decompress((folder / f"{stem}-{kind}-ubyte.gz").read_bytes())[header:]
            read = b"".join(getattr(splits[split], field).astype(np.uint8).tobytes() for split in parts)
            assert hashlib.sha256(read).digest() == hashlib.sha256(published).digest()
    assert np.bincount(splits["test"].labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert task.memoryless["accuracy"] == pytest.approx(0.1135)  # the last pixel is always black: the commonest class


def test_the_permutation_of_mnist_is_one_and_the_same_everywhere(published_data: Callable[[str], Path]) -> None:
    order = Pixels("mnist", permuted=True, data_dir=published_data("mnist/train-images-idx3-ubyte.gz")).order
    assert np.array_equal(order, np.random.default_rng(92916).permutation(784))
    assert order[:8].tolist() == [283, 28, 288, 783, 276, 553, 203, 431]
    digest = hashlib.sha256(order.astype("<i8").tobytes()).hexdigest()
    assert digest == "754208fc8a42264a37bf0a6664be3604c8cd55fecb2607377186b77d1bff6fd8"


def test_cifar10_is_read_from_those_files_that_are_there(published_data: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "cifar10").mkdir()
    for name in ("data_batch_1.bin", "test_batch_first1017.bin"):
        (tmp_path / "cifar10" / name).symlink_to(published_data(f"cifar10/{name}") / "cifar10" / name)
    task = Pixels("cifar10", data_dir=tmp_path)
    splits = task.images.splits
    assert task.input_size == 3
    assert splits["train"].pixels.shape == (9_000, 1024, 3)
    assert splits["validation"].pixels.shape == (1_000, 1024, 3)
    assert len(splits["test"].labels) == 1_017
    assert splits["train"].labels[:5].tolist() == [6, 9, 9, 4, 1]  # frog, lorry, lorry, deer, car
    assert splits["train"].pixels[0, 0].tolist() == [59, 62, 63]  # red, green, blue of the frog's first pixel

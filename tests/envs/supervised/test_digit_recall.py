"""Recall of a digit: its frames, its splits, and its endless stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from sab_agents.envs.arrays import Floats32
from sab_agents.envs.datasets.digit_cues import DigitCues
from sab_agents.envs.supervised import DigitRecall
from sab_agents.envs.supervised.digit_recall import DigitStream
from sab_agents.envs.supervised.task import SPLITS, Split

pytest.importorskip("sklearn")
P = 64
CUE, QUESTION, DECOY = P, P + 1, P + 2


def images_of(split: Split) -> dict[bytes, int]:
    """The class of each image of a split by its pixels."""
    cues = DigitCues("digits", split)
    return {pixels.tobytes(): int(label) for pixels, label in zip(cues.pixels, cues.labels, strict=True)}


def test_no_image_is_in_two_splits() -> None:
    images = [images_of(split) for split in SPLITS]
    assert sum(map(len, images)) == len({image for each in images for image in each})
    assert len(images[0]) > 1200
    assert len(images[2]) > 340


def test_classes_are_drawn_equally_often_and_every_image_is() -> None:
    cues = DigitCues("digits", "test")
    pixels, classes = cues.draw(np.random.default_rng(0), 60_000)
    assert np.abs(np.bincount(classes, minlength=10) / 60_000 - 0.1).max() < 0.006
    known = images_of("test")
    assert {image.tobytes() for image in pixels} == set(known)
    assert all(known[image.tobytes()] == label for image, label in zip(pixels[:500], classes[:500], strict=True))


@pytest.mark.parametrize("split", SPLITS)
def test_a_sequence_shows_a_digit_of_its_split_then_other_frames_then_the_question(split: Split) -> None:
    (batch,) = DigitRecall(length=30).evaluation_batches(split, 40, 40)
    known = images_of(split)
    x = batch.inputs
    assert x.shape == (32, 40, P + 3)
    assert (x[0, :, P:] == [1, 0, 0]).all()
    assert (x[-1] == np.eye(P + 3)[QUESTION]).all()
    assert [known[row[:P].tobytes()] for row in x[0]] == batch.targets[-1].tolist()
    between = x[1:-1].reshape(-1, P + 3)
    assert not between[:, [CUE, QUESTION]].any()
    digits = np.array([row[:P].tobytes() in known for row in between])
    assert abs(digits.mean() - 0.5) < 0.06
    assert abs(between[:, DECOY].mean() - 0.5) < 0.06
    assert abs(between[~digits, :P].mean() - 0.5) < 0.02
    assert (batch.trained == batch.scored).all()
    assert batch.scored[-1].all()
    assert not batch.scored[:-1].any()


def test_training_draws_training_digits() -> None:
    known = images_of("train")
    batch = DigitRecall(length=2).train_batch(3, 50, 1)
    assert all(row[:P].tobytes() in known for row in batch.inputs[0])


def test_images_of_another_size_are_an_error(mnist_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"28 by 28"):
        DigitRecall(dataset="mnist", data_dir=mnist_folder).train_batch(0, 2, 0)


def test_published_mnist_is_the_cue(published_data: Any) -> None:
    folder = published_data("mnist")
    env = gym.make("SAB/DigitRecall-v0", length=3, dataset="mnist", split="test", data_dir=folder)
    observation, info = env.reset(seed=1)
    assert observation.shape == (787,)
    assert info["target"] == 0
    for _ in range(4):
        observation, *_, info = env.step(0)
    assert observation.nonzero()[0].tolist() == [785]
    assert info["scored"]


def test_the_environments_oracle_knows_the_digits_of_its_split() -> None:
    for split in SPLITS:
        env = gym.make_vec("SAB/DigitRecall-v0", num_envs=60, length=4, split=split)
        policy = env.unwrapped.dynamics.oracle()  # type: ignore[attr-defined]
        observations, _ = env.reset(seed=2)
        start = np.ones(60, np.bool_)
        for _ in range(6):
            observations, rewards, *_ = env.step(policy.act(observations, start))
            start[:] = False
        assert (rewards == 1).all()


def classes_shown(x: Floats32, known: dict[bytes, int]) -> list[int | None]:
    """Of each row the class of its cue, None without one; checks that there is one flag or none."""
    assert ((x[:, CUE] + x[:, QUESTION] + x[:, DECOY]) <= 1).all()
    assert not x[x[:, QUESTION] == 1, :P].any()
    return [known[row[:P].tobytes()] if row[CUE] else None for row in x]


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("says_starts", [True, False])
@pytest.mark.parametrize("asked", [None, "newest", "oldest"])
def test_the_stream_asks_for_a_digit_of_its_split(split: Any, says_starts: bool, asked: Any) -> None:
    stream = DigitStream(6, rows=20, split=split, says_starts=says_starts, jitter=0.4, asked=asked)
    known = images_of(split)
    cues: list[list[int]] = [[] for _ in range(20)]
    answers, starts = [], 0
    for _ in range(400):
        step = stream.step()
        starts += int(step.episode_start.sum())
        for row, shown in enumerate(classes_shown(step.x, known)):
            if shown is not None:
                cues[row].append(shown)
            if step.asked[row]:
                assert step.x[row, QUESTION]
                assert step.y[row] == cues[row][0 if asked == "oldest" else -1]
                answers.append(int(step.y[row]))
            if step.x[row, QUESTION]:
                cues[row] = []
    assert (starts > 0) == says_starts
    assert np.bincount(answers, minlength=10).min() > 0.05 * len(answers)
    assert stream.memoryless == 0.1


def test_noise_is_added_to_the_frames_in_between_alone() -> None:
    stream = DigitStream(5, rows=50, noise=2.0)
    known = images_of("train")
    between = []
    for _ in range(60):
        x = stream.step().x
        classes_shown(x, known)
        between.append(x[(x[:, CUE] == 0) & (x[:, QUESTION] == 0), :P])
    assert abs(np.concatenate(between).std() - 2) < 0.2


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"dataset": "minst"},
            ValueError,
            "dataset must be one of digits, mnist, but is 'minst'. Did you mean 'mnist'",
        ),
        ({"split": "tset"}, ValueError, "split must be one of train, validation, test, but is 'tset'"),
        ({"noise": -1.0}, ValueError, "noise must be at least 0 and finite, but is -1.0"),
        ({"delay": 0}, ValueError, "delay must be at least 1, but is 0"),
        ({"rows": 0}, ValueError, "rows must be at least 1, but is 0"),
    ],
)
def test_a_setting_out_of_range_is_an_error(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"DigitStream: {message}"):
        DigitStream(**{"delay": 5, **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length": 0}, "DigitRecall: length must be an int from 1 to 1000000, but is 0"),
        ({"dataset": "cifar10"}, "DigitRecall: dataset must be one of digits, mnist, but is 'cifar10'"),
        ({"split": "all"}, "DigitRecall: split must be one of train, validation, test, but is 'all'"),
        ({"data_dir": 3}, "data_dir must be the path of a folder, but is 3"),
    ],
)
def test_a_wrong_argument_of_the_environment_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        gym.make("SAB/DigitRecall-v0", **settings)


@pytest.mark.parametrize("split", ["train", "test"])
def test_of_a_pair_that_digit_counts_which_the_flag_names(split: Any) -> None:
    stream = DigitStream(6, rows=40, split=split, pairs=True)
    known = images_of(split)
    assert stream.input_size == 2 * P + 4
    due, sides, answers = [-1] * 40, [], 0
    for _ in range(100):
        step = stream.step()
        picture, flags = step.x[:, : 2 * P].reshape(-1, 8, 2, 8), step.x[:, 2 * P :]
        for row in range(40):
            halves = [known.get(picture[row, :, side].tobytes()) for side in (0, 1)]
            left, right, question, _ = flags[row]
            assert left + right + question <= 1
            if step.asked[row]:
                assert question
                assert step.y[row] == due[row]
                answers += 1
            if left or right:
                assert None not in halves
                due[row] = halves[int(right)] or 0
                sides.append(int(right))
            if question:
                assert not picture[row].any()
    assert answers > 500
    assert abs(np.mean(sides) - 0.5) < 0.1


def test_half_of_the_images_between_pairs_are_digits_drawn_apart() -> None:
    (batch,) = DigitRecall(length=30, pairs=True).evaluation_batches("test", 60, 60)
    assert batch.inputs.shape == (32, 60, 2 * P + 4)
    known = images_of("test")
    picture = batch.inputs[1:-1, :, : 2 * P].reshape(-1, 8, 2, 8)
    digits = np.array([[image[:, side].tobytes() in known for side in (0, 1)] for image in picture])
    assert np.abs(digits.mean(axis=0) - 0.5).max() < 0.06
    assert abs((digits[:, 0] & digits[:, 1]).mean() - 0.25) < 0.05
    assert not batch.inputs[1:-1, :, 2 * P : 2 * P + 3].any()
    assert abs(batch.inputs[1:-1, :, 2 * P + 3].mean() - 0.5) < 0.06


def test_the_environment_of_pairs_is_solved_by_its_oracle_and_shown() -> None:
    env = gym.make_vec("SAB/DigitRecall-v0", num_envs=60, length=4, split="test", pairs=True, render_mode="rgb_array")
    dynamics = env.unwrapped.dynamics  # type: ignore[attr-defined]
    policy = dynamics.oracle()
    observations, _ = env.reset(seed=2)
    cue = dynamics.text(0)
    assert "cue of the left" in cue or "cue of the right" in cue
    start = np.ones(60, np.bool_)
    for _ in range(6):
        observations, rewards, *_ = env.step(policy.act(observations, start))
        start[:] = False
    assert (rewards == 1).all()


def test_pairs_must_be_a_bool() -> None:
    for make in (lambda: DigitStream(5, pairs=1), lambda: DigitRecall(pairs="no")):  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"pairs must be a bool, but is .*Pass True or False"):
            make()

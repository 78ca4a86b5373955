"""The characters task, whose windows continue each other, and its environment, whose episodes do."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import TimeLimit

import sab_agents  # noqa: F401  # registers the ids
from sab_agents.envs.datasets.text import Text
from sab_agents.envs.supervised.characters import Characters
from sab_agents.envs.supervised.task import SPLITS, Split

ID = "SAB/Characters-v0"


@pytest.fixture
def task(tmp_path: Path) -> Characters:
    """A task on 1,000 random characters of six: 900 for training, 50 for validation, 50 for the test."""
    letters = np.random.default_rng(0).choice(list("abcd \n"), size=1000)
    path = tmp_path / "some text"
    path.write_text("".join(letters))
    return Characters(length=7, corpus=path)


def piece(text: Text, split: Split) -> str:
    return "".join(text.vocabulary[code] for code in text.codes[split])


def test_the_pieces_are_the_whole_file_in_its_order(task: Characters) -> None:
    assert "".join(piece(task.text, split) for split in SPLITS) == Path(task.corpus).read_text()
    assert [len(task.text.codes[split]) for split in SPLITS] == [900, 50, 50]
    assert "some text" in task.text.description


def test_the_vocabulary_is_the_sorted_characters(task: Characters) -> None:
    assert task.text.vocabulary == tuple(sorted("abcd \n"))
    assert task.input_size == task.output_size == 6


def test_a_character_of_the_held_out_text_alone_has_a_code(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("ab" * 50 + "ß", encoding="utf-8")
    task = Characters(length=3, corpus=tmp_path / "text")
    assert task.text.vocabulary == ("a", "b", "ß")
    assert math.isfinite(task.memoryless["bits_per_character"])


@pytest.mark.parametrize("batch_size", [1, 4, 9])
def test_the_windows_of_a_row_read_on_where_the_last_one_ended(task: Characters, batch_size: int) -> None:
    text = piece(task.text, "train")
    share = len(text) // batch_size
    windows = (share - 1) // 7
    batches = [task.train_batch(index, batch_size, seed=0) for index in range(windows)]
    read = np.concatenate([batch.inputs.argmax(axis=2) for batch in batches])
    asked = np.concatenate([batch.targets for batch in batches])
    for row in range(batch_size):
        start = row * share
        assert "".join(task.text.vocabulary[code] for code in read[:, row]) == text[start : start + 7 * windows]
        assert (
            "".join(task.text.vocabulary[code] for code in asked[:, row]) == text[start + 1 : start + 7 * windows + 1]
        )
    assert share - 7 * windows <= 7  # what is left over is less than a window and its last target


def test_the_state_is_carried_except_where_the_streams_start_over(task: Characters) -> None:
    windows = (900 // 4 - 1) // 7
    for index in range(2 * windows + 1):
        start = task.train_batch(index, 4, seed=0).episode_start
        assert start[0].all() == start.any() == (index % windows == 0)
    first, again = task.train_batch(0, 4, seed=0), task.train_batch(windows, 4, seed=0)
    assert np.array_equal(first.inputs, again.inputs)
    assert not np.array_equal(first.inputs, task.train_batch(1, 4, seed=0).inputs)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("batch_size", [1, 2, 3, 6, 48, 49, 50, 2000])
def test_evaluation_predicts_every_character_but_the_first_exactly_once(
    task: Characters, split: Split, batch_size: int
) -> None:
    text = piece(task.text, split)
    batches = list(task.evaluation_batches(split, batch_size, sequences=10**9))
    rows = batches[0].inputs.shape[1]
    read = np.concatenate([batch.inputs.argmax(axis=2) for batch in batches])
    asked = np.concatenate([batch.targets for batch in batches])
    scored = np.concatenate([batch.scored for batch in batches])
    predicted = []
    for row in range(rows):
        steps = [step for step in range(len(read)) if scored[step, row]]
        assert steps == list(range(len(steps)))
        assert all(read[step, row] == asked[step - 1, row] for step in steps[1:])
        predicted += [task.text.vocabulary[asked[step, row]] for step in steps]
    assert "".join(predicted) == text[1:]
    assert task.text.vocabulary[read[0, 0]] == text[0]


def test_evaluation_carries_its_state_from_the_first_window_on(task: Characters) -> None:
    starts = [batch.episode_start for batch in task.evaluation_batches("test", 3, 10**9)]
    assert starts[0][0].all()
    assert not starts[0][1:].any()
    assert len(starts) > 1
    assert not any(start.any() for start in starts[1:])


@pytest.mark.parametrize(("batch_size", "sequences", "windows", "rows"), [(3, 6, 2, 3), (3, 5, 1, 3), (3, 2, 1, 2)])
def test_evaluation_reads_at_most_so_many_windows(
    task: Characters, batch_size: int, sequences: int, windows: int, rows: int
) -> None:
    batches = list(task.evaluation_batches("test", batch_size, sequences))
    assert [batch.inputs.shape for batch in batches] == [(7, rows, 6)] * windows


def test_training_rows_that_are_too_short_for_a_window_are_an_error(task: Characters) -> None:
    assert task.train_batch(0, 112, seed=0).inputs.shape == (7, 112, 6)
    with pytest.raises(ValueError, match=r"times \(length \+ 1\) must be at most the 900 .*, but is 904"):
        task.train_batch(0, 113, seed=0)


def test_another_length_changes_the_window_alone(task: Characters) -> None:
    longer = task.with_length(20)
    assert longer.text.codes["train"].tolist() == task.text.codes["train"].tolist()
    assert longer.train_batch(0, 2, 0).inputs.shape == (20, 2, 6)
    with pytest.raises(ValueError, match="length must be at least 1, but is 0"):
        task.with_length(0)


def test_the_memoryless_score_is_that_of_counted_pairs(task: Characters) -> None:
    train, held_out = piece(task.text, "train"), piece(task.text, "validation")
    pairs = Counter(pairwise(train))
    firsts = Counter(train[:-1])
    bits = [-math.log2((pairs[a, b] + 1) / (firsts[a] + 6)) for a, b in pairwise(held_out)]
    assert task.memoryless["bits_per_character"] == pytest.approx(sum(bits) / len(bits))


def test_a_text_that_alternates_needs_almost_no_bits_and_a_random_one_all_of_them(tmp_path: Path) -> None:
    (tmp_path / "alternating").write_text("ab" * 5000)
    (tmp_path / "random").write_text("".join(np.random.default_rng(0).choice(list("abcd"), size=20_000)))
    assert Characters(corpus=tmp_path / "alternating").memoryless["bits_per_character"] < 0.01
    assert Characters(corpus=tmp_path / "random").memoryless["bits_per_character"] == pytest.approx(2, abs=0.02)


def test_pydoc_is_english_text_that_needs_no_files() -> None:
    task = Characters()
    assert len(task.text.codes["train"]) > 100_000
    assert " the " in piece(task.text, "test")
    assert 2 < task.memoryless["bits_per_character"] < 5


def test_an_unknown_corpus_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"pydoc, ptb, text8, or the path .* 'ptbb', .* no such file\. .*mean 'ptb'"):
        Characters(corpus="ptbb")


def test_a_file_that_is_not_text_or_too_short_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"abc" + bytes([0xFF]) * 100)
    with pytest.raises(ValueError, match="must be text in UTF-8, but byte 3 is not"):
        Characters(corpus=tmp_path / "bytes")
    (tmp_path / "short").write_text("a" * 20)
    with pytest.raises(ValueError, match=r"at least 40 characters.* but has 20"):
        Characters(corpus=tmp_path / "short")
    (tmp_path / "long enough").write_text("a" * 40)
    assert Characters(corpus=tmp_path / "long enough").input_size == 1


def test_the_penn_treebank_has_its_published_size(published_data: Callable[[str], Path]) -> None:
    task = Characters(corpus="ptb", data_dir=published_data("ptb/ptb.train.txt"))
    assert len(task.text.vocabulary) == 50
    sizes = {"train": (5_101_618, 42_068), "validation": (399_782, 3_370), "test": (449_945, 3_761)}  # bytes, lines
    for split, (size, lines) in sizes.items():
        assert len(task.text.codes[split]) == size - 2 * lines  # but for the spaces around each line
        assert (task.text.codes[split] == task.text.vocabulary.index("\n")).sum() == lines
    assert [len(task.text.codes[split]) for split in SPLITS] == [5_017_482, 393_042, 442_423]
    assert "".join(task.text.vocabulary) == "\n #$&'*-./0123456789<>N\\abcdefghijklmnopqrstuvwxyz"
    assert set(np.unique(task.text.codes["train"])) == set(range(50))


def test_a_beginning_of_text8_is_read_and_said_to_be_one(published_data: Callable[[str], Path]) -> None:
    folder = published_data("text8/text8-first-12549840-bytes.zip")
    text = Characters(corpus="text8", data_dir=folder).text
    assert "".join(text.vocabulary) == " abcdefghijklmnopqrstuvwxyz"
    assert text.description.startswith("the first 12,549,840 of 100,000,000 bytes of text8")
    assert [len(text.codes[split]) for split in SPLITS] == [11_294_856, 627_492, 627_492]
    whole = "".join(piece(text, split) for split in SPLITS)
    assert hashlib.sha256(whole.encode()).hexdigest().startswith("1b40ab68e13d520469aa90315b92b146")  # of its bytes
    assert piece(text, "validation")[:100].count(" ") > 5
    assert len(np.unique(text.codes["train"])) == 27


TEXT = "".join(chr(ord("a") + number % 26) + chr(ord("A") + number // 26) for number in range(26 * 13))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A text in which the place can be told from any two characters; its first 90 % are the training piece."""
    path = tmp_path / "corpus"
    path.write_text(TEXT)
    return path


TRAINING_TEXT = TEXT[: len(TEXT) * 90 // 100]


def letters(observations: Any) -> str:
    vocabulary = sorted(set(TEXT))
    return "".join(vocabulary[code] for code in np.atleast_2d(observations).argmax(axis=1))


def read(env: gym.Env[Any, Any], observation: Any, steps: int) -> str:
    """The characters that are shown in so many steps, resetting without a seed where an episode ends."""
    shown = letters(observation)
    for _ in range(steps):
        observation, _, terminated, truncated, _ = env.step(0)
        assert not terminated
        shown += letters(observation)
        if truncated:
            assert letters(env.reset()[0]) == shown[-1]
    return shown


def test_windows_continue_where_the_last_one_ended(corpus: Path) -> None:
    env = gym.make(ID, corpus=corpus, episode_length=7)
    for seed in range(5):
        shown = read(env, env.reset(seed=seed)[0], 40)
        assert shown in TRAINING_TEXT + TRAINING_TEXT


def test_a_reset_inside_a_window_continues_too(corpus: Path) -> None:
    env = gym.make(ID, corpus=corpus, episode_length=50)
    shown = read(env, env.reset(seed=2)[0], 9)
    assert letters(env.reset()[0]) == shown[-1]


def test_a_new_seed_begins_at_its_own_place(corpus: Path) -> None:
    env = gym.make(ID, corpus=corpus, episode_length=5)
    first = read(env, env.reset(seed=0)[0], 12)
    assert read(env, env.reset(seed=0)[0], 12) == first
    places = {read(env, env.reset(seed=seed)[0], 3) for seed in range(40)}
    assert len(places) > 30


def test_after_the_last_character_comes_the_first(corpus: Path) -> None:
    env = gym.make(ID, corpus=corpus, episode_length=100)
    shown = read(env, env.reset(seed=0)[0], 2 * len(TRAINING_TEXT))
    assert TRAINING_TEXT[-3:] + TRAINING_TEXT[:3] in shown
    assert shown[: len(TRAINING_TEXT)] == shown[len(TRAINING_TEXT) : 2 * len(TRAINING_TEXT)]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_an_endless_stream_never_ends_and_skips_nothing(corpus: Path, split: Any) -> None:
    piece = {"train": TRAINING_TEXT, "validation": TEXT[608:642], "test": TEXT[642:]}[split]
    env = gym.make(ID, corpus=corpus, episode_length=None, split=split)
    observation, info = env.reset(seed=3)
    shown, answers = letters(observation), []
    for _ in range(2500):
        answers.append(sorted(set(TEXT))[info["target"]])
        assert info["scored"]
        observation, reward, terminated, truncated, info = env.step(info["target"])
        assert (reward, terminated, truncated) == (1, False, False)
        shown += letters(observation)
    assert shown in piece * (2 + 2500 // len(piece))
    assert "".join(answers) == shown[1:]


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("length", [4, None])
def test_a_vectorised_stream_that_is_cut_off_continues_without_a_gap(
    corpus: Path, mode: AutoresetMode, length: int | None
) -> None:
    settings: dict[str, Any] = {"autoreset_mode": mode, "max_episode_steps": 3, "corpus": corpus}
    env = gym.make_vec(ID, num_envs=2, episode_length=length, **settings)
    observations, _ = env.reset(seed=1)
    shown = [letters(observations)]
    ended = np.zeros(2, np.bool_)
    for _ in range(30):
        resets = ended.any() and mode == AutoresetMode.NEXT_STEP
        observations, _, _, ended, _ = env.step(np.zeros(2, np.int64))
        if resets:
            assert letters(observations) == shown[-1]
        else:
            shown.append(letters(observations))
        if ended.any() and mode == AutoresetMode.DISABLED:
            assert letters(env.reset(options={"reset_mask": ended})[0]) == shown[-1]
    for copy in range(2):
        assert "".join(step[copy] for step in shown) in TRAINING_TEXT + TRAINING_TEXT


def test_a_time_limit_on_a_single_stream_leaves_no_gap(corpus: Path) -> None:
    env = TimeLimit(gym.make(ID, corpus=corpus, episode_length=None).unwrapped, 3)
    assert read(env, env.reset(seed=8)[0], 30) in TRAINING_TEXT + TRAINING_TEXT


def test_windows_of_the_task_can_be_presented(corpus: Path) -> None:
    task = Characters(length=9, corpus=corpus)
    env = gym.make_vec(ID, num_envs=2, corpus=corpus, episode_length=9, split="test")
    short = 0
    for batch in task.evaluation_batches("test", 2, 100):
        observations, infos = env.reset(options={"batch": batch})
        for step in range(len(batch.inputs)):
            assert np.array_equal(observations, batch.inputs[step])
            assert np.array_equal(infos["target"], batch.targets[step])
            assert np.array_equal(infos["scored"], batch.scored[step])
            observations, rewards, _, truncations, infos = env.step(batch.targets[step])
            assert np.array_equal(rewards, batch.scored[step])
        assert truncations.all()
        assert not infos["target"].any()
        assert not infos["scored"].any()
        assert np.array_equal(observations.argmax(axis=1), batch.targets[-1])
        short += len(batch.inputs) < 9 or not batch.scored.all()
    assert short
    assert letters(env.reset(seed=0)[0][:1]) in TEXT[642:]

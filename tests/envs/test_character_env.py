"""Tests of the characters environment: windows that go on, new places, the ring, and streams without an end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import TimeLimit

import sab_agents  # noqa: F401  # registers the ids
from sab_agents.envs.supervised import Characters

ID = "SAB/Characters-v0"
TEXT = "".join(chr(ord("a") + number % 26) + chr(ord("A") + number // 26) for number in range(26 * 13))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A text in which the place can be told from any two characters; its first 90 % are the training piece."""
    path = tmp_path / "corpus"
    path.write_text(TEXT)
    return path


PIECE = TEXT[: len(TEXT) * 90 // 100]


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


def test_windows_go_on_where_the_last_one_ended(corpus: Path) -> None:
    env = gym.make(ID, corpus=corpus, episode_length=7)
    for seed in range(5):
        shown = read(env, env.reset(seed=seed)[0], 40)
        assert shown in PIECE + PIECE


def test_a_reset_inside_a_window_goes_on_too(corpus: Path) -> None:
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
    shown = read(env, env.reset(seed=0)[0], 2 * len(PIECE))
    assert PIECE[-3:] + PIECE[:3] in shown
    assert shown[: len(PIECE)] == shown[len(PIECE) : 2 * len(PIECE)]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_an_endless_stream_never_ends_and_skips_nothing(corpus: Path, split: Any) -> None:
    piece = {"train": PIECE, "validation": TEXT[608:642], "test": TEXT[642:]}[split]
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
def test_a_vectorised_stream_that_is_cut_off_goes_on_without_a_gap(
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
        assert "".join(step[copy] for step in shown) in PIECE + PIECE


def test_a_time_limit_on_a_single_stream_leaves_no_gap(corpus: Path) -> None:
    env = TimeLimit(gym.make(ID, corpus=corpus, episode_length=None).unwrapped, 3)
    assert read(env, env.reset(seed=8)[0], 30) in PIECE + PIECE


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

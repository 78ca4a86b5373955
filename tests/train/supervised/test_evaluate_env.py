"""Tests of `sab-agents evaluate WHO --env ID` and of `sab-agents envs`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from sab_agents.envs.policies import Reactive, Uniform
from sab_agents.envs.registration import ENVIRONMENTS
from sab_agents.train.cli import main
from sab_agents.train.supervised.config import TrainConfig
from sab_agents.train.supervised.evaluate import evaluate_run
from sab_agents.train.supervised.loop import train
from sab_agents.train.supervised.rollouts import make, play
from tests.selection import slow

MakeConfig = Callable[..., TrainConfig]


def rows_of(arguments: list[str], folder: Path) -> list[dict[str, Any]]:
    out = folder / "rows.json"
    assert main(["evaluate", *arguments, "--json", str(out)]) == 0
    rows: list[dict[str, Any]] = json.loads(out.read_text(encoding="utf-8"))
    return rows


NAMES = {"cross_entropy": "CE10", "accuracy": "accuracy"}


@pytest.mark.parametrize(
    ("core", "task", "env_id", "names"),
    [
        *((core, "copying", "SAB/Copying-v0", NAMES) for core in ("sab", "transformer")),
        *(slow(core, "copying", "SAB/Copying-v0", NAMES) for core in ("lstm", "lstm_attention")),
        ("sab", "recall", "SAB/DelayedRecall-v0", {**NAMES, "cross_entropy": "cross_entropy"}),
        ("sab", "characters", "SAB/Characters-v0", {"bits_per_character": "bits_per_character"}),
        ("lstm", "adding", "SAB/Adding-v0", {"squared_error": "mean_squared_error"}),
        ("lstm", "pixels", "SAB/PixelDigits-v0", {**NAMES, "cross_entropy": "cross_entropy"}),
    ],
)
def test_a_trained_model_scores_the_same_through_the_environment_as_by_batches(
    core: str, task: str, env_id: str, names: dict[str, str], make_config: MakeConfig, text_file: str, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"task": task, "core": core, "steps": 12, "learning_rate": 0.01, "batch_size": 5}
    if task != "recall":
        settings["symbols"] = None
    if task == "characters":
        settings |= {"corpus": text_file, "eval_sequences": 1000}
    if task == "pixels":
        settings |= {"length": None, "dataset": "digits", "eval_sequences": 12}
    config = make_config(**settings)
    train(config)
    (by_batches,) = evaluate_run(config.folder)
    (through,) = rows_of([str(config.folder), "--env", env_id], tmp_path)
    for name, in_info in names.items():
        assert through["metrics"][in_info] == pytest.approx(by_batches["metrics"][name]["value"], abs=1e-6)
    scored = {"copying": 10, "characters": None}.get(task, 1)
    if scored is not None and task != "adding":
        assert through["mean"] == pytest.approx(-scored * by_batches["metrics"]["cross_entropy"]["value"], abs=1e-5)


def test_a_run_is_scored_at_other_lengths(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config()
    train(config)
    arguments = [str(config.folder), "--env", "SAB/DelayedRecall-v0", "--length", "6", "9", "--sequences", "8"]
    rows = rows_of(arguments, tmp_path)
    expected = evaluate_run(config.folder, lengths=[6, 9], sequences=8)
    for row, by_batches in zip(rows, expected, strict=True):
        assert (row["length"], row["episodes"]) == (by_batches["length"], 8)
        assert row["metrics"]["accuracy"] == pytest.approx(by_batches["metrics"]["accuracy"]["value"])
        assert row["returns"]["memoryless"] == pytest.approx(-np.log(3))


def test_scripted_policies_are_scored_by_length(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["--env", "SAB/PassiveTMaze-v0", "--length", "3", "5", "--episodes", "200"]
    oracle = rows_of(["oracle", *base], tmp_path)
    assert [(row["length"], row["mean"], row["error"], row["episodes"]) for row in oracle] == [
        (3, 1.0, 0.0, 200),
        (5, 1.0, 0.0, 200),
    ]
    printed = capsys.readouterr().out
    assert all(
        word in printed for word in ("oracle in SAB/PassiveTMaze-v0: 200 episodes", "memoryless → best", "100 %")
    )
    for kind in ("random", "memoryless"):
        for row in rows_of([kind, *base], tmp_path):
            assert abs(row["mean"] - row["returns"][kind]) < 4 * row["error"]
    assert rows_of(["random", *base], tmp_path) == rows_of(["random", *base], tmp_path)
    assert rows_of(["random", *base, "--seed", "7"], tmp_path) != rows_of(["random", *base], tmp_path)


def test_arguments_of_the_environment_can_be_set(tmp_path: Path) -> None:
    settings = ["--set", "symbols=4", "action_mode=log_probs", "length=3"]
    (row,) = rows_of(["memoryless", "--env", "SAB/DelayedRecall-v0", "--episodes", "80", *settings], tmp_path)
    assert row["mean"] == pytest.approx(-np.log(4))
    assert (row["length"], row["steps"]) == (3, 5)
    assert row["metrics"]["cross_entropy"] == pytest.approx(np.log(4))


def test_any_registered_environment_can_be_played_at_random(tmp_path: Path) -> None:
    (row,) = rows_of(["random", "--env", "CartPole-v1", "--episodes", "30"], tmp_path)
    assert 10 < row["mean"] == row["steps"] < 60
    assert row["returns"] == {"best": None, "random": None, "memoryless": None}


def test_short_episodes_are_not_preferred() -> None:
    """On 8 copies, 40 episodes are five of each copy, whatever their lengths."""
    env = make("CartPole-v1", 8, {})
    played = play(env, Reactive(lambda seen: (seen[:, 2] > 0).astype(np.int64)), 40, seed=0)
    lengths = []
    for copy in range(8):
        single = gym.make("CartPole-v1")
        observation, _ = single.reset(seed=copy)
        for _ in range(5):
            steps, ended = 0, False
            while not ended:
                observation, _, terminated, truncated, _ = single.step(int(observation[2] > 0))
                steps, ended = steps + 1, terminated or truncated
            lengths.append(steps)
            observation, _ = single.reset()
    assert sorted(played.lengths) == sorted(lengths)
    assert played.mean == np.mean(lengths)


def test_seven_episodes_on_three_copies_are_seven() -> None:
    env = make("SAB/Copying-v0", 3, {"length": 2})
    played = play(env, Uniform(env.single_action_space, 0), 7, seed=0)
    assert played.returns.shape == (7,)
    assert played.metrics["accuracy"] == pytest.approx(played.mean / 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["random"], "random acts in an environment: name one with --env"),
        (
            ["random", "--env", "SAB/Copyng-v0"],
            "'SAB/Copyng-v0'. Did you mean 'SAB/Copying-v0'?",
        ),
        (["random", "--env", "Nothing-v0"], "Nothing-v0: "),
        (["oracle", "--env", "CartPole-v1"], "CartPole-v1: only a random policy is known."),
        (["oracle", "--env", "SAB/Characters-v0"], "has no scripted oracle"),
        (["random", "--env", "SAB/PixelDigits-v0", "--length", "3"], "its length is fixed"),
        (["random", "--env", "SAB/Adding-v0", "--length", "1"], "Adding: length must be an int from 2"),
        (["random", "--env", "SAB/Copying-v0", "--set", "length"], "settings must be NAME=VALUE, but one is 'length'"),
        (["random", "--env", "SAB/Copying-v0", "--set", "size=3"], "'size'"),
        (["random", "--env", "SAB/Characters-v0", "--set", "episode_length=null"], "an episode must end"),
        (["random", "--env", "SAB/Copying-v0", "--sequences", "3"], "for random, say --episodes"),
        (["no-such-run", "--env", "SAB/Copying-v0"], "no-such-run holds no run"),
    ],
)
def test_wrong_uses_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_a_run_of_another_task_is_refused(make_config: MakeConfig, capsys: pytest.CaptureFixture[str]) -> None:
    config = make_config()
    train(config)
    capsys.readouterr()
    assert main(["evaluate", str(config.folder), "--env", "SAB/Copying-v0"]) == 2
    assert "whose environment is SAB/DelayedRecall-v0, not SAB/Copying-v0" in capsys.readouterr().err
    assert main(["evaluate", str(config.folder), "--env", "SAB/DelayedRecall-v0", "--episodes", "3"]) == 2


def test_the_list_names_every_environment_with_its_returns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SAB_DATA_DIR", raising=False)
    assert main(["envs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for env_id in ENVIRONMENTS:
        assert any(env_id in line for line in lines), env_id
    (copying,) = [line for line in lines if "SAB/Copying-v0" in line]
    assert [cell.strip() for cell in copying.split("│")[1:-1]] == [
        *("SAB/Copying-v0", "Box(10)", "Discrete(9)", "120", "10", "1.111", "1.25"),
        "memory: ten symbols, repeated after a long blank",
    ]
    (mnist,) = [line for line in lines if "SAB/PixelMNIST-v0" in line]
    assert [cell.strip() for cell in mnist.split("│")[4:8]] == ["784", "1", "0.1", "-"]


def test_data_that_is_at_hand_is_counted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SAB_DATA_DIR", str(tmp_path))
    assert main(["envs"]) == 0
    assert "its data is not in SAB_DATA_DIR" in " ".join(capsys.readouterr().out.split())


def test_an_id_is_described_by_its_documentation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["envs", "SAB/Adding-v0", "SAB/PassiveTMaze-v0"]) == 0
    printed = capsys.readouterr().out
    assert "memoryless: -1/6 + 1/(12 h)" in printed
    assert "corridor_length: L." in printed
    assert main(["envs", "SAB/Ading-v0"]) == 2
    assert "Did you mean 'SAB/Adding-v0'?" in capsys.readouterr().err

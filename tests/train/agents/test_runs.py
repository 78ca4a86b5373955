"""Runs of agents from the command line: train, resume, evaluate, watch and export, in environments of anybody's."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageSequence

from sab_agents.train.cli import main

SMALL = ["--steps", "64", "--num-envs", "2", "--setting", "n_steps=16", "policy_kwargs.lstm_hidden_size=4"]
OWN = """
import gymnasium as gym
import numpy as np


class Walk(gym.Env):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}
    observation_space = gym.spaces.Box(-9, 9, (1,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, length=6, render_mode=None):
        self.length, self.render_mode = length, render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.place = 0, 0.0
        return np.full(1, self.place, np.float32), {}

    def step(self, action):
        self.steps += 1
        self.place += 2.0 * action - 1.0
        return np.full(1, self.place, np.float32), float(action), self.steps == self.length, False, {}

    def render(self):
        return np.full((8, 8, 3), self.steps, np.uint8)


gym.register("WalkOfMine-v0", Walk)
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An environment in a file of the present folder, as the id that a command line names."""
    (tmp_path / "walk_of_mine.py").write_text(OWN, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return "walk_of_mine:WalkOfMine-v0"


def result_of(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "result.json").read_text(encoding="utf-8"))
    return content


def test_an_agent_is_trained_resumed_scored_watched_and_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--env", "CartPole-v1", "--policy", "MlpSabPolicy", *SMALL]) == 0
    run = Path("runs/CartPole-v1-MlpSabPolicy-0")
    printed = capsys.readouterr().out
    for command in ("watch", "evaluate", "resume"):
        assert f"sab-agents {command} {run}" in printed
    assert {path.name for path in run.iterdir()} == {
        *("agent.zip", "config.yaml", "metrics.jsonl", "plots", "result.json", "tb"),
    }
    before = result_of(run)
    assert before["steps"] == 64
    assert before["return"] > 0

    assert main(["resume", str(run), "--steps", "128"]) == 0
    after = result_of(run)
    assert after["steps"] == 128
    assert after["episodes"] > before["episodes"]
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in logged] == [32, 64, 96, 128]
    assert sorted(line["seconds"] for line in logged) == [line["seconds"] for line in logged]

    assert main(["evaluate", str(run), "--episodes", "3", "--json", "scores.json"]) == 0
    (row,) = json.loads(Path("scores.json").read_text(encoding="utf-8"))
    assert row["episodes"] == 3
    assert row["metrics"]["least"] <= row["mean"] <= row["metrics"]["greatest"]

    capsys.readouterr()
    assert main(["watch", str(run), "--text", "--most", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:5]] == [[str(number), "saw"] for number in range(1, 6)]
    assert lines[5] == "return 5 after 5 steps"

    assert main(["export", str(run), "step.pt2", "--rows", "1"]) == 0
    torch.export.load("step.pt2")


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_a_video_shows_what_the_environment_shows(suffix: str, tmp_path: Path) -> None:
    flags = ["--env", "SAB/PassiveTMaze-v0", "--env-arg", "corridor_length=3", *SMALL]
    run, film = str(tmp_path / "run"), tmp_path / f"film.{suffix}"
    assert main(["train", *flags, "--out", run]) == 0
    assert main(["watch", run, "--video", str(film), "--seed", "1"]) == 0
    env = gym.make("SAB/PassiveTMaze-v0", corridor_length=3, render_mode="rgb_array")
    with Image.open(film) as opened:
        frames = [np.asarray(frame.convert("RGB"), float) for frame in ImageSequence.Iterator(opened)]
    env.reset(seed=1)
    assert frames[0].shape == env.render().shape  # type: ignore[union-attr]
    assert len(np.unique(frames[0].reshape(-1, 3), axis=0)) > 1
    assert any((frame != frames[0]).any() for frame in frames)


@pytest.mark.parametrize("algo", ["ppo", "stream"])
def test_an_environment_of_ones_own_is_trained_watched_and_exported(
    algo: str, own_module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = (
        SMALL if algo == "ppo" else ["--algo", "stream", "--steps", "64", "--setting", "policy_kwargs.hidden_size=4"]
    )
    assert main(["train", "--env", own_module, *flags, "--out", "run", "--env-arg", "length=4"]) == 0
    assert result_of(Path("run"))["length"] == 4
    assert main(["watch", "run", "--video", "film.gif", "--episodes", "2", "--env-arg", "length=3"]) == 0
    with Image.open("film.gif") as film:
        assert film.size == (8, 8)
    assert "film.gif · 6 frames" in capsys.readouterr().out
    assert main(["resume", "run", "--steps", "96"]) == 0
    assert result_of(Path("run"))["steps"] == 96
    assert main(["evaluate", "run", "--episodes", "3", "--json", "scores.json"]) == 0
    assert json.loads(Path("scores.json").read_text(encoding="utf-8"))[0]["steps"] == 4
    capsys.readouterr()
    assert main(["export", "run", "step.pt2"]) == (0 if algo == "ppo" else 2)
    assert ("holds no agent of RecurrentPPO" in capsys.readouterr().err) == (algo == "stream")


def test_a_file_of_the_same_keys_trains_the_same_agent(tmp_path: Path) -> None:
    flags = ["--env", "SAB/MemoryChain-v0", "--env-arg", "length=3", "--seed", "3", *SMALL]
    assert main(["train", *flags, "--out", str(tmp_path / "flags")]) == 0
    settings = {
        "env": "SAB/MemoryChain-v0",
        "env_arg": {"length": 3},
        "seed": 3,
        "steps": 64,
        "num_envs": 2,
        "setting": {"n_steps": 16, "policy_kwargs": {"lstm_hidden_size": 4}},
    }
    (tmp_path / "agent.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert main(["train", str(tmp_path / "agent.yaml"), "--out", str(tmp_path / "file")]) == 0
    one, other = (result_of(tmp_path / name) for name in ("flags", "file"))
    assert {**one, "seconds": 0} == {**other, "seconds": 0}
    assert main(["evaluate", str(tmp_path / "file"), "--length", "3", "5", "--episodes", "2"]) == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--env", "CartPole-v9"], "CartPole-v9"),
        (["--env", "no_such_module:Env-v0"], "No module named 'no_such_module'"),
        (["--env", "CartPole-v1", "--policy", "MlpSbaPolicy"], "MlpSabPolicy"),
        (["--env", "CartPole-v1", "--setting", "n_stps=3"], "RecurrentPPO has no 'n_stps'. Did you mean 'n_steps'?"),
        (["--env", "CartPole-v1", "--setting", "seed=3"], "setting: seed is set by the run itself."),
        (["--env", "CartPole-v1", "--algo", "sac"], "algo must be one of ppo, stream"),
        (["--env", "CartPole-v1", "--algo", "stream", "--num-envs", "2"], "num_envs must be 1 for algo stream"),
        (["--env", "CartPole-v1", "--device", "cuda:99"], "device 'cuda:99' cannot be used: "),
        (["--env", "CartPole-v1", "--env-arg", "length"], "env_arg"),
        (["--env", "CartPole-v1", "--env-arg", "lenth=3"], "lenth"),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *flags, "--out", str(tmp_path / "run")]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_folder_keeps_its_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = ["train", "--env", "SAB/MemoryChain-v0", *SMALL, "--out", str(tmp_path / "run")]
    assert main(train) == 0
    for flags, message in (
        ([], "already holds a run. Continue it with sab-agents resume"),
        (["--resume", "true", "--seed", "1"], "was trained with seed = 0, not 1"),
    ):
        assert main([*train, *flags]) == 2
        assert message in capsys.readouterr().err
    for arguments, message in (
        (["watch", str(tmp_path / "run"), "--video", "film.avi"], "must end in .gif or .webp"),
        (["evaluate", str(tmp_path / "run"), "--env", "CartPole-v1"], "scored in its own environment"),
        (["evaluate", str(tmp_path / "run"), "--device", "cuda:99"], "device 'cuda:99' cannot be used: "),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err


def test_an_agent_resumes_after_ctrl_c(tmp_path: Path, wait_for: Callable[..., None]) -> None:
    run = tmp_path / "run"
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from sab_agents.train.cli import main; sys.exit(main(sys.argv[1:]))"
    flags = [
        "--env",
        "SAB/MemoryChain-v0",
        *SMALL,
        "--steps",
        "10000000",
        "--checkpoint_every",
        "32",
        "--out",
        str(run),
    ]
    process = subprocess.Popen([sys.executable, "-c", code, "train", *flags], stderr=subprocess.PIPE, text=True)
    wait_for((run / "agent.zip").exists)
    process.send_signal(signal.SIGINT)
    message = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGINT
    assert message == f"sab-agents: interrupted. Continue: sab-agents resume {run}\n"
    assert {path.name for path in run.iterdir()} >= {"agent.zip", "config.yaml", "metrics.jsonl"}
    last = json.loads((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])["step"]
    assert main(["resume", str(run), "--steps", str(last + 32)]) == 0
    assert last < result_of(run)["steps"] <= last + 64


def test_a_window_that_cannot_be_opened_is_one_line(
    own_module: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["train", "--env", own_module, *SMALL, "--out", "run"]) == 0
    walk = sys.modules["walk_of_mine"].Walk
    monkeypatch.setattr(walk, "metadata", {"render_modes": ["human", "rgb_array"]})

    def closed(self: Any, *, seed: int | None = None, options: Any = None) -> None:  # noqa: ARG001 (Gymnasium's names)
        raise gym.error.DependencyNotInstalled("there is no display")

    monkeypatch.setattr(walk, "reset", closed)
    capsys.readouterr()
    assert main(["watch", "run"]) == 2
    said = "The window cannot be opened: there is no display. Use --text, or --video FILE.\n"
    assert capsys.readouterr().err == f"sab-agents: {said}"


def test_runs_are_reported_a_section_for_each_environment_and_task(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = ["--steps", "4", "--batch_size", "2", "--hidden_size", "4", "--eval_sequences", "4", "--length", "5"]
    chain = ["--env", "SAB/MemoryChain-v0", "--env-arg", "length=3", *SMALL]
    for flags in (
        *(["recall", *tiny, "--core", core, "--out", core] for core in ("lstm", "gru")),
        *([*chain, "--policy", policy, "--out", policy] for policy in ("MlpSabPolicy", "MlpLstmPolicy")),
    ):
        assert main(["train", *flags]) == 0
    folders = ["MlpSabPolicy", "lstm", "MlpLstmPolicy", "gru"]
    assert main(["report", *folders, "--out", "page"]) == 0
    page = Path("page/report.md").read_text(encoding="utf-8")
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## SAB/MemoryChain-v0 (MlpSabPolicy)",
        "## recall (lstm)",
    ]
    assert all(f"| {learner} |" in page for learner in ("MlpSabPolicy", "MlpLstmPolicy", "lstm", "gru", "memoryless"))
    capsys.readouterr()
    assert main(["report", "lstm", "lstm", "--out", "page"]) == 2
    assert "another run has lstm with seed 0, too. Report one of them." in capsys.readouterr().err
    Path("gru/result.json").unlink()
    assert main(["report", "gru", "--out", "page"]) == 2
    assert "gru is not finished. Continue it with sab-agents resume gru." in capsys.readouterr().err


def test_a_limit_of_gymnasium_is_trained_resumed_and_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    limit = ["--env-arg", "length=9", "max_episode_steps=4"]
    assert main(["train", "--env", "SAB/MemoryChain-v0", *SMALL, "--out", run, *limit]) == 0
    assert result_of(tmp_path / "run")["length"] == 4
    assert main(["resume", run, "--steps", "96"]) == 0
    scores = tmp_path / "scores.json"
    assert main(["evaluate", run, "--episodes", "1", "--json", str(scores)]) == 0
    (row,) = json.loads(scores.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert (row["steps"], row["error"]) == (4, None)
    assert row["returns"] == {"best": None, "random": None, "memoryless": None}  # of longer episodes
    assert main(["evaluate", run, "--seed", "-1"]) == 2
    assert "must be a whole number of at least 0, but is '-1'" in capsys.readouterr().err


def test_the_last_picture_of_an_episode_is_of_its_end(own_module: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--env", own_module, *SMALL, "--out", "run"]) == 0
    assert main(["watch", "run", "--video", "film.gif", "--episodes", "2", "--env-arg", "length=3"]) == 0
    with Image.open("film.gif") as film:
        shades = [int(np.asarray(frame.convert("L")).flat[0]) for frame in ImageSequence.Iterator(film)]
    assert shades == [1, 2, 3, 1, 2, 3]
    chain = ["--env", "SAB/MemoryChain-v0", "--env-arg", "length=3"]
    assert main(["train", *chain, *SMALL, "--out", "chain"]) == 0
    capsys.readouterr()
    assert main(["watch", "chain", "--text"]) == 0
    *_, last, total = capsys.readouterr().out.splitlines()
    assert "step 4 of 4" in last
    assert total.startswith("return ")


def test_a_run_without_an_ended_episode_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stream = ["train", "--env", "SAB/MemoryChain-v0", "--algo", "stream", "--steps", "5", "--out"]
    assert main([*stream, "short"]) == 0
    assert main(["train", "--env", "SAB/MemoryChain-v0", "--env-arg", "length=3", *SMALL, "--out", "long"]) == 0
    assert main(["report", "short", "long", "--out", "page"]) == 0
    assert "MlpSabPolicy, stream" in Path("page/report.md").read_text(encoding="utf-8")


def test_files_that_cannot_be_read_or_written_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert main(["train", "--env", "SAB/MemoryChain-v0", *SMALL, "--out", str(run)]) == 0
    (tmp_path / "file").write_text("", encoding="utf-8")
    under_a_file = str(tmp_path / "file" / "page")
    for arguments in (["report", str(run), "--out", under_a_file], ["export", str(run), f"{under_a_file}.pt2"]):
        capsys.readouterr()
        assert main(arguments) == 2
        assert capsys.readouterr().err.count("\n") == 1
    (run / "result.json").write_text('{"steps": 6', encoding="utf-8")
    for command in (["report", str(run), "--out", str(tmp_path / "page")], ["resume", str(run)]):
        assert main(command) == 2
        assert "result.json: damaged: '{\"steps\": 6' is no JSON. Remove the file" in capsys.readouterr().err
    (run / "result.json").unlink()
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8")
    (run / "metrics.jsonl").write_text("{]\n" + lines, encoding="utf-8")
    assert main(["resume", str(run)]) == 2
    assert "metrics.jsonl: damaged: '{]' is no JSON. Remove that line." in capsys.readouterr().err


def test_an_interrupt_before_there_is_a_run_does_not_name_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sab_agents.train.agents.training.new_agent", interrupted)
    assert main(["train", "--env", "CartPole-v1", "--out", str(tmp_path / "run")]) == 130
    assert "Nothing was saved yet. Start again with the same command." in capsys.readouterr().err

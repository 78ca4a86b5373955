"""Tests of the command line: help, exit codes and errors without a traceback."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sab_agents
from sab_agents.train.cli import COMMANDS, FORMER, main
from sab_agents.train.suites.recall import Recall


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in COMMANDS)


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"sab-agents {sab_agents.__version__}\n"


@pytest.mark.parametrize("arguments", [["--version"], ["train", "--help"]], ids=" ".join)
def test_a_reader_that_has_enough_is_no_error(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "sab_agents", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.close()
        assert run.stderr.read() == b""
    assert run.returncode == 128 + signal.SIGPIPE


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_lacks_a_sign_shows_another(encoding: str) -> None:
    command = [sys.executable, "-m", "sab_agents", "--help"]
    done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"usage: sab-agents COMMAND ?" in done.stdout


@pytest.mark.parametrize("name", FORMER)
def test_a_former_name_works_and_says_the_new_one(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    captured = capsys.readouterr()
    assert "sab-agents suite run CONFIG" in captured.out
    assert captured.err.startswith(f"sab-agents: warning: '{name}' is now 'suite run': sab-agents suite run --help.")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS), ["suite", "run", "recall"]], ids=" ".join)
def test_help_fits_a_terminal_of_80_columns(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with contextlib.suppress(SystemExit):  # argparse's own help
        main([*arguments, "--help"])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_an_interrupted_suite_says_how_to_continue_and_is_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    flags = ["--delays", "3", "--seeds", "0", "--rows", "4", "--answers", "4", "--shared.hidden_size", "4"]
    run = Recall.run

    def interrupted(*arguments: Any) -> Any:
        yield next(iter(run(*arguments)))
        raise KeyboardInterrupt

    monkeypatch.setattr(Recall, "run", interrupted)
    assert main(["suite", "run", "online/recall", *flags, "--learners", "sab", "--out", str(out)]) == 130
    said = "sab-agents: interrupted. Continue with the same command: finished cells are kept.\n"
    assert capsys.readouterr().err == said
    assert not (out / "result.json").exists()
    monkeypatch.setattr(Recall, "run", run)
    assert main(["resume", str(out)]) == 0
    assert (out / "result.json").exists()
    assert "1 of 1 were finished before" in capsys.readouterr().out


def test_no_command_prints_the_help_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main([name, "--help"])
    except SystemExit as leaving:  # argparse's own help
        code = int(leaving.code or 0)
    assert code == 0
    assert f"sab-agents {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["trian"], "unknown command 'trian'. Did you mean 'train'?"),
        (["train"], "train needs an environment, a task or a config file: sab-agents train CONFIG | TASK | --env ID"),
        (["train", "recal"], "there is no task and no config file 'recal'. Did you mean 'recall'?"),
        (["train", "CartPole-v1"], "is an environment: sab-agents train --env CartPole-v1 --policy MlpSabPolicy."),
        (["train", "agents/umbrella"], "a suite of many runs: sab-agents suite run agents/umbrella --out FOLDER."),
        (["train", "--env", "CartPole-v1", "--polcy", "x"], "unknown key '--polcy'. Did you mean 'policy'?"),
        (["resume"], "resume needs the folder of a run or of a suite: sab-agents resume RUN"),
        (["watch", "no-such-run"], "no-such-run holds no run: there is no config.yaml."),
        (["suite", "rn"], "suite has no 'rn'. Did you mean 'run'?"),
        (["suite", "run"], "suite run needs a config file: sab-agents suite run CONFIG --out FOLDER"),
        (["evaluate"], "sab-agents evaluate: the following arguments are required: RUN."),
        (["evaluate", "x", "--lenght", "3"], "unknown argument '--lenght'. Did you mean '--length'?"),
        (["evaluate", "x", "--length", "0"], "argument --length: must be a whole number of at least 1, but is '0'."),
        (["evaluate", "no-such-run"], "no-such-run holds no run: there is no config.yaml."),
        (["suite", "run", "recall", "--cores", "sab", "--out", "y", "--sed", "3"], "Did you mean 'seeds'?"),
        (["demo", "--outt", "x"], "unknown argument '--outt'. Did you mean '--out'?"),
    ],
)
def test_a_wrong_command_line_is_one_line_with_code_2(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert expected in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    command = [sys.executable, "-m", "sab_agents", "train", str(missing)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"sab-agents: {missing}: No such file or directory.\n"
    assert done.stdout == ""

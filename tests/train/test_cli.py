"""Tests of the command line: help, exit codes and errors without a traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sab_agents.train.cli import COMMANDS, main


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in COMMANDS)


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
        (["train"], "train needs a config file: sab-agents train CONFIG [--key value …]."),
        (["evaluate"], "sab-agents evaluate: the following arguments are required: RUN."),
        (["evaluate", "x", "--lenght", "3"], "unknown argument '--lenght'. Did you mean '--length'?"),
        (["evaluate", "x", "--length", "0"], "argument --length: must be a whole number of at least 1, but is '0'."),
        (["evaluate", "no-such-run"], "no-such-run holds no run: there is no config.yaml."),
        (["compare", "x.yaml", "--cores", "sab", "--out", "y", "--sed", "3"], "Did you mean 'seeds'?"),
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


def test_the_package_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "sab_agents.train", "train", "missing.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "sab-agents: missing.yaml: No such file or directory.\n"
    assert done.stdout == ""

"""What the README and the docstrings show runs as it stands, and the files that CONTRIBUTING names exist."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path
from typing import Any

import pytest

import sab_agents
from sab_agents.train.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FOLDERS = (
    *(
        ".",
        "sab_agents",
        "sab_agents/kernels",
        "sab_agents/kernels/native_backend",
        "sab_agents/kernels/triton_backend",
    ),
    *("sab_agents/kernels/native_backend/src", "sab_agents/streaming", "sab_agents/core", "tests"),
    *("envs", "train", "train/supervised", "train/suites"),
)
"""Where the paths that CONTRIBUTING names begin."""


def test_the_readmes_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_the_page_on_diagnosis_names_every_figure_and_disease_and_its_code_prints_what_it_shows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = (ROOT / "docs" / "diagnose.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    (shown,) = re.findall(r"```\n(sab: .*?)```", page, flags=re.DOTALL)
    variables: dict[str, Any] = {}
    exec(compile(code, "docs/diagnose.md", "exec"), variables)
    # Kernels round differently, so that numbers differ.
    printed = capsys.readouterr().out
    names = re.compile(r"^(?:\w+)? +([a-z_]+) +[\d.,%]+ ", flags=re.MULTILINE)
    assert names.findall(printed) == names.findall(shown) == list(variables["learner"].diagnose().scalars())
    assert "frozen: " in printed
    listed = set(re.findall(r"^\| `([a-z_ ]+)` \|", page, flags=re.MULTILINE))
    assert set(names.findall(shown)) <= listed
    assert set(variables["learner"].diagnose().advice) <= listed


def test_the_readme_names_commands_and_configs_that_exist() -> None:
    named = set(re.findall(r"^sab-agents (\w+)", README, flags=re.MULTILINE))
    assert named <= set(COMMANDS)
    for config in re.findall(r"configs/[\w/]+\.yaml", README):
        assert (ROOT / config).is_file()


RUNNERS = {
    **{
        "train": "sab_agents.train.supervised.loop.train",
        "evaluate": "sab_agents.train.run_folder.RunFolder.read_settings",
    },
    "suite": "sab_agents.train.suites.engine.run_suite",
    "report": "sab_agents.train.commands.report.read_study",
}
"""For each command the function that does its work, after the command line and the config were understood."""
PRINTED = [line.partition("#")[0].split() for line in re.findall(r"^sab-agents (\w+ .*)$", README, flags=re.MULTILINE)]


@pytest.mark.parametrize("arguments", [each for each in PRINTED if each[0] in RUNNERS], ids=" ".join)
def test_the_command_lines_of_the_readme_are_understood(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    class UnderstoodError(Exception):
        pass

    def run(*_: object, **__: object) -> None:
        raise UnderstoodError

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(RUNNERS[arguments[0]], run)
    with pytest.raises(UnderstoodError):
        main(arguments)


def test_contributing_names_files_that_exist() -> None:
    named = set(re.findall(r"`([\w./]+(?:\.(?:py|h|cpp|md|yaml)|/))`", CONTRIBUTING))
    assert len(named) > 50
    there = {path for path in named if any((ROOT / folder / path).exists() for folder in FOLDERS)}
    assert {path for path in named - there if "NAME" not in path} == set()


def test_what_is_compatible_names_the_tests_that_hold_it() -> None:
    page = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", page))
    assert len(named) > 10
    assert {path for path in named if not (ROOT / path).exists()} == set()


@pytest.mark.parametrize("module", ["sab_agents.core.sab"])
def test_examples_in_docstrings_give_what_they_show(module: str) -> None:
    loaded = importlib.import_module(module)
    result = doctest.testmod(loaded)
    assert result.attempted > 0
    assert result.failed == 0


def test_every_public_name_exists_and_has_a_docstring() -> None:
    for name in sab_agents.__all__:
        assert getattr(sab_agents, name).__doc__
        assert name in dir(sab_agents)

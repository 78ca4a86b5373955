"""What the README and the docstrings show runs as it stands."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

import sab_agents
from sab_agents.train.cli import COMMANDS

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_readmes_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_the_readme_names_commands_and_configs_that_exist() -> None:
    named = set(re.findall(r"^sab-agents (\w+)", README, flags=re.MULTILINE))
    assert named <= set(COMMANDS)
    for config in re.findall(r"configs/\w+\.yaml", README):
        assert (Path(__file__).parents[1] / config).is_file()


@pytest.mark.parametrize("module", ["sab_agents.core.sab"])
def test_examples_in_docstrings_give_what_they_show(module: str) -> None:
    loaded = importlib.import_module(module)
    result = doctest.testmod(loaded)
    assert result.attempted > 0
    assert result.failed == 0


def test_every_public_name_exists_and_has_a_docstring() -> None:
    for name in sab_agents.__all__:
        assert getattr(sab_agents, name).__doc__

"""What the README, the pages of docs/ and the docstrings show runs as it stands, and what they link to exists."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import sab_agents
import sab_agents.core
import sab_agents.online
import sab_agents.ppo
from sab_agents.core import registry
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
    *("docs", "envs", "train", "train/supervised", "train/suites"),
)
"""Where the paths that CONTRIBUTING names begin."""


PAGES = {
    path.relative_to(ROOT).as_posix(): path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}
TEXTS = {name: path.read_text(encoding="utf-8") for name, path in PAGES.items()}
BLOCK = re.compile(r"```python\n(.*?)```", flags=re.DOTALL)
APART = ("README.md", "docs/diagnose.md")
"""Pages whose Python a test of their own runs."""


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("page", [name for name, text in TEXTS.items() if BLOCK.search(text) and name not in APART])
def test_the_python_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environments = set(gym.registry)
    cores = dict(registry._CORES)
    if "onnx" in TEXTS[page].partition("```python")[2]:
        pytest.importorskip("onnxruntime")
    if "sab_agents.river" in TEXTS[page].partition("```python")[2]:
        pytest.importorskip("river", reason="River, of the extra river, is not installed")
    monkeypatch.chdir(tmp_path)
    for block in BLOCK.findall(TEXTS[page]):
        exec(compile(block, page, "exec", dont_inherit=True), {"__name__": __name__})
    for name in registry.CORES.keys() - cores.keys():  # what a page registers
        registry._CORES.pop(name)
    for name in gym.registry.keys() - environments:
        gym.registry.pop(name)


def test_the_readmes_module_stream_and_agent_learn(capsys: pytest.CaptureFixture[str]) -> None:
    for block in BLOCK.findall(README):
        exec(compile(block, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    module, lstm = re.findall(r"^(?:SAB|nn\.LSTM) +(\d+)%$", printed, flags=re.MULTILINE)
    assert int(module) > 60
    assert int(lstm) < 30
    assert int(re.findall(r"last 10 (\d+)%", printed)[0]) > 50
    assert float(re.findall(r"^(-?[\d.]+)$", printed, flags=re.MULTILINE)[-1]) > 0.5


def test_the_citation_is_of_this_version() -> None:
    assert f"\nversion: {sab_agents.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and mkdocs make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", [*TEXTS, "CONTRIBUTING.md", "CHANGELOG.md"])
def test_the_links_of_a_page_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        path = ((ROOT / page).parent / name).resolve() if name else ROOT / page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, target


def test_every_page_is_in_the_sites_navigation() -> None:
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [name.removeprefix("docs/") for name in TEXTS if name.startswith("docs/")]
    missing = [name for name in pages if name not in site and not name.startswith("results/")]  # see docs/site.py
    assert missing == []


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install 'sab-agents[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "OnlineLearner.diagnose" in (tmp_path / "api" / "streams.html").read_text(encoding="utf-8")


def test_the_page_on_diagnosis_names_every_figure_and_problem_and_its_code_prints_what_it_shows(
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


def test_the_pages_name_configs_that_exist() -> None:
    for name, text in TEXTS.items():
        for config in re.findall(r"configs/[\w/]+\.yaml", text):
            if "NAME" not in config:
                assert (ROOT / config).is_file(), f"{name}: {config}"


RUN = "sab_agents.train.run_folder.RunFolder.read_settings"
RUNNERS = {
    "train": ("sab_agents.train.supervised.loop.train", "sab_agents.train.agents.training.train_agent"),
    "suite": ("sab_agents.train.suites.engine.run_suite", "sab_agents.train.commands.suite.list_configs"),
    **dict.fromkeys(("evaluate", "watch", "resume"), (RUN,)),
    "report": ("sab_agents.train.commands.report.studies_in",),
}
"""For each command the functions that do its work, after the command line and the config were understood."""
PRINTED = {
    line.partition("#")[0].strip()
    for text in TEXTS.values()
    for line in re.findall(r"^(?:    )?(?:sab-agents|torchrun .*-m sab_agents) (\w+ .*)$", text, flags=re.MULTILINE)
}


def test_the_pages_name_commands_that_exist() -> None:
    named = {line.split()[0] for line in PRINTED}
    named |= {name for text in TEXTS.values() for name in re.findall(r"`sab-agents (\w+)", text)}
    assert named - {"COMMAND"} <= set(COMMANDS)


@pytest.mark.parametrize("line", sorted(line for line in PRINTED if line.split()[0] in RUNNERS))
def test_the_command_lines_of_the_pages_are_understood(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class UnderstoodError(Exception):
        pass

    def run(*_: object, **__: object) -> None:
        raise UnderstoodError

    monkeypatch.chdir(tmp_path)
    (shown,) = re.findall(r"```yaml\n(.*?)```", TEXTS["docs/guides/commands.md"], flags=re.DOTALL)
    (tmp_path / "agent.yaml").write_text(shown, encoding="utf-8")
    for name in RUNNERS[line.split(maxsplit=1)[0]]:
        monkeypatch.setattr(name, run)
    with pytest.raises(UnderstoodError):
        main(line.split())


def test_the_pages_name_extras_and_targets_that_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = "\n".join((*TEXTS.values(), CONTRIBUTING))
    ours = re.findall(r"pip install '(?:\.|sab-agents)\[([\w,-]+)\]'", text)
    named = {name for found in ours for name in found.split(",")}
    assert len(named) > 4
    assert named <= set(extras)
    targets = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, flags=re.MULTILINE))
    assert len(targets) > 4
    assert targets <= set(re.findall(r"^([\w-]+):", makefile, flags=re.MULTILINE))


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


PUBLIC = {
    name: getattr(package, name)
    for package in (sab_agents, sab_agents.core, sab_agents.online, sab_agents.ppo)
    for name in package.__all__
}
"""What `help` is asked about, by name."""
WITH_EXAMPLES = {
    "sab_agents.train.suites.episodes",
    *(each.__module__ for each in PUBLIC.values() if "Examples:" in (each.__doc__ or "")),
}
WITHOUT_EXAMPLE = {"Core", "RealTimeCore", "State", "core_spec", "register_core", "sparsify", "CORES", "POLICIES"}
"""Bases and tools of who extends the library, which docs/guides/extending.md shows at work, and tables."""


@pytest.mark.parametrize("module", sorted(WITH_EXAMPLES))
def test_examples_in_docstrings_give_what_they_show(module: str) -> None:
    loaded = importlib.import_module(module)
    result = doctest.testmod(loaded)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("name", sorted(set(PUBLIC) - WITHOUT_EXAMPLE))
def test_help_says_what_goes_in_what_is_refused_and_shows_an_example(name: str) -> None:
    public = PUBLIC[name]
    text = inspect.getdoc(public) or ""
    if "Attributes:" in text and "Args:" not in text:  # a value that others return
        fields = [each.name for each in dataclasses.fields(public)]
        assert [each for each in fields if f"{each}:" not in text and not each.startswith("_")] == []
        return
    for part in ("Args:", "Examples:", "Raises:" if "raises its errors" not in text else "Args:"):
        assert part in text
    arguments = inspect.signature(public).parameters
    assert [each for each in arguments if f" {each}:" not in text and not each.startswith("_")] == []
    # Of where it comes from there is a year, unless it is a tool of this library's own.
    assert re.search(r"(19|20)\d\d", text) or name in {"VectorToVecEnv", "build_core", "export_policy", *ABLATIONS}


ABLATIONS = ("SoftmaxSAB", "UncreditedSAB")


def test_every_public_name_exists_and_has_a_docstring() -> None:
    for name in sab_agents.__all__:
        assert getattr(sab_agents, name).__doc__
        assert name in dir(sab_agents)

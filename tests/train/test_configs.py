"""Every file under configs/ runs at a tiny size through `suite run`, and what it found is reported."""

from __future__ import annotations

import importlib.util
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sab_agents.train.cli import main
from sab_agents.train.commands.suite import kind_of
from tests.selection import slow

ROOT = Path(__file__).parents[2]
CONFIGS = {path.relative_to(ROOT / "configs").as_posix(): path for path in sorted((ROOT / "configs").rglob("*.yaml"))}
DATA = ROOT.parent / "shared" / "data"
DOWNLOADED = {"ptb", "text8", "mnist", "cifar10"}
LENGTH_OF_CHAIN = "32"  # at which every policy of configs/stream has cells
TINY = {
    "compare": [
        *("--cores", "sab", "lstm_tbptt", "--seeds", "0", "--steps", "1", "--batch_size", "2", "--eval_sequences", "2"),
        *("--hidden_size", "4", "--core_settings.shared.attention_size", "2", "--threads", "1"),
    ],
    "online": ["--delays", "3", "--seeds", "0", "--rows", "4", "--answers", "4", "--shared.hidden_size", "4"],
    "conditioning": [
        *("--intervals", "4", "--seeds", "0", "--steps", "16", "--tests", "2", "--test_steps", "5"),
        *("--shared.hidden_size", "4"),
    ],
    "text": ["--characters", "1700", "--tried_on", "1700", "--learning_rates", "0.01", "--shared.hidden_size", "4"],
    "paper": [
        *("--experiments", "adding_200", "--learners", "sab", "sab_paper", "lstm_tbptt", "--seeds", "0"),
        *("--steps", "1", "--experiments.adding_200.length", "6", "--experiments.adding_200.batch_size", "2"),
        *("--experiments.adding_200.eval_sequences", "2", "--experiments.adding_200.hidden_size", "4"),
    ],
    "stream": ["--values", LENGTH_OF_CHAIN, "--seeds", "0", "--episodes", "2"],
    "agents": [
        *("--seeds", "0", "--steps", "64", "--recent", "2", "--num_envs", "2", "--test_values=[]"),
        *("--shared.n_steps", "16", "--shared.batch_size", "16", "--shared.n_epochs", "1"),
        *("--shared.policy_kwargs.lstm_hidden_size", "4"),
    ],
}
"""For each suite the flags that make its experiments small."""


def suite_of(name: str) -> str:
    """Returns the suite that a config is for."""
    path = Path(name)
    return {".": "compare", "online": "text" if path.stem == "text" else "online"}.get(
        str(path.parent), path.parent.name
    )


def tiny_flags(name: str, content: dict[str, Any]) -> list[str]:
    """Returns the flags that make one config's experiment small, and end some of its agents' episodes."""
    flags = list(TINY[suite_of(name)])
    if content.get("length"):
        flags += ["--length", "6"]
    if "tests" in content:
        flags += ["--tests", "4"]
    if "min_delay" in content:
        flags += ["--min_delay", "2"]
    if "test_delays" in content:
        flags += ["--test_delays", "4", "5"]
    if "learners" in content and "values" in content:
        small = content["env"].startswith("SAB/")
        flags += ["--values", "4" if small else str(content["values"][0])]
        flags += [] if small else ["--env_arguments.max_episode_steps", "5"]
        installed = importlib.util.find_spec("sb3_contrib") is not None
        learners = content["learners"].items()
        flags += ["--learners", *(name for name, own in learners if installed or "algorithm" not in own)]
    return flags


def expected_learners(name: str, content: dict[str, Any], flags: list[str]) -> set[str]:
    """Returns the names that a config's table must have."""
    if "learners" in content and "values" in content:
        return set(flags[flags.index("--learners") + 1 :])
    if suite_of(name) == "compare":
        return {"sab", "lstm_tbptt", "memoryless"}
    if suite_of(name) == "paper":
        return {"sab", "sab_paper", "lstm_tbptt", "memoryless"}
    if len(content.get("noises", [])) > 1:
        return {f"{learner}, noise {noise:g}" for learner in content["learners"] for noise in content["noises"]}
    if "asked" in content:
        return {f"{learner}, {asked} of two" for learner in content["learners"] for asked in content["asked"]}
    pairs = {"pairs, counted"} if suite_of(name) == "text" else set()
    return pairs | set(content["policies" if "policies" in content else "learners"])


def new_keys() -> Iterator[str]:
    """Yields the configs with a key that none before them of the same suite has."""
    seen: dict[str, set[str]] = defaultdict(set)
    for name, path in CONFIGS.items():
        keys = set(yaml.safe_load(path.read_text(encoding="utf-8")))
        if keys - seen[suite_of(name)]:
            yield name
        seen[suite_of(name)] |= keys


NEW = set(new_keys())


@pytest.mark.parametrize("name", CONFIGS)
def test_the_keys_of_a_config_say_which_suite_it_is_for(name: str) -> None:
    assert kind_of(CONFIGS[name], yaml.safe_load(CONFIGS[name].read_text(encoding="utf-8"))) == suite_of(name)


@pytest.mark.parametrize("name", [name if name in NEW else slow(name) for name in CONFIGS])
def test_each_config_runs_and_is_reported(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = yaml.safe_load(CONFIGS[name].read_text(encoding="utf-8"))
    if DOWNLOADED & {content.get("corpus"), content.get("dataset")}:
        if not DATA.is_dir():
            pytest.skip("needs the data sets")
        monkeypatch.setenv("SAB_DATA_DIR", str(DATA))
    if content.get("dataset") == "digits":
        pytest.importorskip("sklearn")
    for module in content.get("imports", []):
        pytest.importorskip(module, reason=f"{module} is not installed: pip install 'sab-agents[peers]'")
    out, flags = tmp_path / "out", tiny_flags(name, content)
    assert main(["suite", "run", str(CONFIGS[name]), *flags, "--out", str(out)]) == 0
    study = json.loads((out / "result.json").read_text(encoding="utf-8"))["study"]
    assert {row["learner"] for row in study["rows"]} == expected_learners(name, content, flags)
    assert main(["report", str(out), "--out", str(tmp_path / "page")]) == 0
    page = (tmp_path / "page" / "report.md").read_text(encoding="utf-8")
    assert (out / "table.md").read_text(encoding="utf-8").partition("\n\n")[0] in page
    assert (tmp_path / "page" / "1-out-scores.png").is_file()

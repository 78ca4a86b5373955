"""The switch `--track`: what it takes, and what it says of what it does not take."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from sab_agents.train.cli import main
from sab_agents.train.errors import UserError
from sab_agents.train.trackers import split_track


@pytest.mark.parametrize(
    "switch", [["--track", "wandb", "mlflow"], ["--track=wandb", "--track=mlflow"], ["--track", "wandb"] * 2]
)
def test_trackers_are_taken_out_of_the_arguments(switch: list[str]) -> None:
    names = ("wandb", "mlflow") if "mlflow" in "".join(switch) else ("wandb",)
    assert split_track(["a.yaml", *switch, "--steps=2", "--x", "1"]) == (["a.yaml", "--steps=2", "--x", "1"], names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--track"], r"^--track needs a value: wandb or mlflow\.$"),
        (["--track", "--steps", "2"], "^--track needs a value"),
        (["--track", "wanb"], r"^--track must be wandb or mlflow, but is 'wanb'\. Did you mean 'wandb'\?$"),
    ],
)
def test_a_mistake_is_one_sentence(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        split_track(arguments)


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
@pytest.mark.parametrize("command", [["train", "recall"], ["suite", "run", "stream/memory_chain"]])
def test_a_missing_extra_is_one_sentence_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    command: list[str],
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda asked, *rest: None if asked == name else find(asked, *rest))
    assert main([*command, "--out", str(tmp_path / "out"), "--track", name]) == 2
    expected = f"sab-agents: --track {name} needs {name}, which is not installed. "
    assert capsys.readouterr().err == f"{expected}Run: pip install 'sab-agents[tracking]'.\n"
    assert not (tmp_path / "out").exists()

"""The configs that come with the package are found by name from anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from sab_agents.train.cli import main
from sab_agents.train.shipped import config_path, shipped_configs


def test_a_config_is_found_outside_of_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("recall", "recall.yaml", "configs/recall.yaml", "online/recall", "configs/online/recall.yaml"):
        assert config_path(name).is_file()
    assert config_path("configs/nothing.yaml") == Path("configs/nothing.yaml")
    (tmp_path / "recall.yaml").write_text("task: recall")
    assert config_path("recall.yaml") == Path("recall.yaml")


def test_the_list_has_every_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["suite", "list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in shipped_configs())
    assert len(shipped_configs()) > 20
    assert "sab-agents[peers]" in printed  # brackets are text here, not markup

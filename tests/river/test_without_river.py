"""Without River, what needs it says in one sentence what to type."""

from __future__ import annotations

import sys

import pytest

from sab_agents.train.cli import main


def test_the_estimators_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("sab_agents.river")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "river", None)
    with pytest.raises(ModuleNotFoundError, match=r"Type: pip install 'sab-agents\[river\]'$"):
        import sab_agents.river  # noqa: F401, PLC0415


def test_the_benchmark_does_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "river", None)
    assert main(["bench", "river"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "pip install 'sab-agents[river]'" in error

"""`sab-agents bench river`: every estimator on every data set; no assertion on how fast anything is."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from sab_agents.train.bench.river import LINEAR, OTHERS, OURS, PEER, SAME, hidden_regime
from sab_agents.train.cli import main

TOGETHER = 120


def test_a_hidden_regime_is_named_once_and_decides_the_label() -> None:
    samples, regime, lasts, right = list(hidden_regime(2_000)), "", [], 0
    for x, y in samples:
        for name in "ab":
            if x[f"begins {name}"]:
                regime = name
                lasts.append(0)
        lasts[-1] += 1
        assert (y == "up") == ((x["value"] > 0) == (regime == "a"))
        right += (y == "up") == (x["value"] > 0)
    assert 10 <= min(lasts[:-1]) <= max(lasts[:-1]) <= 40
    assert 0.35 < right / len(samples) < 0.65
    assert samples == list(hidden_regime(2_000))


def test_an_unknown_set_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "river", "Elec"]) == 2
    assert "no data set 'Elec'. Did you mean 'Elec2'?" in capsys.readouterr().err


def test_an_unknown_estimator_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "river", "Phishing", "--estimators", "PAClassifer"]) == 2
    assert "no estimator 'PAClassifer'. Did you mean 'PAClassifier'?" in capsys.readouterr().err


@pytest.mark.peers
def test_what_is_not_there_is_left_out_with_a_word(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("river", reason="River, of the extra river, is not installed")
    monkeypatch.setitem(sys.modules, "deep_river", None)
    monkeypatch.setenv("RIVER_DATA", str(tmp_path))
    monkeypatch.setattr("river.datasets.base.get_data_home", lambda: tmp_path)
    file = tmp_path / "river.json"
    assert main(["bench", "river", "--samples", str(TOGETHER), "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "Elec2 is not downloaded. Run: python -c" in printed
    assert "pip install --no-deps deep-river" in printed
    assert PEER not in printed
    rows = json.loads(file.read_text())["rows"]
    for data in ("Phishing", "ImageSegments", "HiddenRegime"):
        own = [row for row in rows if row["data"] == data]
        assert [row["side"] for row in own] == [OURS, *LINEAR, *OTHERS, SAME]
        assert all(row["samples"] == TOGETHER and 0 <= row["accuracy"] <= 1 for row in own)

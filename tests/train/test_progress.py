"""Progress: a bar that fits a terminal, lines where there is none, and how long it still takes."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sab_agents.train.progress import Progress, duration


def test_a_time_is_short() -> None:
    assert [duration(seconds) for seconds in (4.4, 200, 7500)] == ["4 s", "3:20 min", "2:05 h"]


def test_without_a_terminal_there_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    out = io.StringIO()
    with Progress("counting", Console(file=out, width=80), done=0.5) as bar:
        for second in range(41):
            clock[0] = 100.0 + second
            bar.update(0.5 + second / 80, f"number {second}")
        bar.update(1.0)
    assert out.getvalue().splitlines() == [
        "54% · 37 s left · number 3 · counting",
        "72% · 22 s left · number 18 · counting",
        "91% · 7 s left · number 33 · counting",
    ]


def test_a_bar_fits_80_columns_and_has_no_colours_if_none_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, legacy_windows=False)
    with Progress("a label that is much longer than what a terminal can show on its one line", console) as bar:
        bar.update(0.25, "return 3")
        bar.bar.refresh()
    shown = out.getvalue()
    assert "25%" in shown
    assert "return 3" in shown
    assert "\x1b[3" not in shown
    assert "…" in shown


def test_what_prints_lines_of_its_own_has_no_others() -> None:
    out = io.StringIO()
    with Progress("quiet", Console(file=out), quiet=True) as bar:
        bar.printed = 0.0
        bar.update(0.5)
    assert out.getvalue() == ""

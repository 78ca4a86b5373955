"""What a learner does is seen while it learns: in a terminal, on lines where there is none, and on a board."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from sab_agents import OnlineLearner
from sab_agents.train.configuration import load
from sab_agents.train.live import ages, figure_lines, learner_lines, scalars_of
from sab_agents.train.progress import Figures, Progress
from sab_agents.train.suites.agents import suite as agents
from sab_agents.train.suites.compare import suite as compare
from sab_agents.train.suites.conditioning import suite as conditioning
from sab_agents.train.suites.engine import Suite, Work
from sab_agents.train.suites.recall import RecallConfig
from sab_agents.train.suites.recall import suite as recall
from sab_agents.train.suites.stream import suite as stream

DISTANCES = np.array([1, 3, 3, 9])


def learner(core: str = "sab", steps: int = 200) -> OnlineLearner:
    made = OnlineLearner(3, 2, core=core, seed=0)
    rng = np.random.default_rng(0)
    for step in range(steps):
        made.learn_one(rng.standard_normal(3), step % 2)
    return made


def test_ages_are_bars_by_powers_of_two() -> None:
    assert ages(DISTANCES, np.array([1.0, 2.0, 2.0, 0.1])) == "1 ▂█ ▁ 15"
    assert ages(DISTANCES, np.array([0.0, 0.0, 0.0, 0.0])) == ""
    assert ages(np.array([0]), np.array([0.5])) == "1 █ 1"


def test_what_is_missing_has_no_line() -> None:
    assert figure_lines({}) == []
    assert figure_lines({"credit_distance": 12.34}, credit="1 █ 1") == ["credit    12.3 steps back  1 █ 1"]


def test_a_learners_lines_fit_a_terminal_and_its_scalars_are_those_of_its_diagnosis() -> None:
    seen = learner()
    lines = learner_lines(seen)
    assert [line.split()[0] for line in lines] == ["memory", "reads", "credit", "gradient"]
    assert max(map(len, lines)) <= 80
    assert scalars_of(seen) == {f"memory/{name}": value for name, value in seen.diagnose().scalars().items()}
    assert [line.split()[0] for line in learner_lines(learner("lstm_tbptt"))] == ["gradient"]


def test_the_first_advice_is_shown() -> None:
    still = learner(steps=0)
    still.optimizer.param_groups[0]["lr"] = 0.0
    for step in range(20):
        still.learn_one(np.array([1.0, 0.0, 0.0]), step % 2)
    assert learner_lines(still)[-1] == "advice    learning rate: 0.0 teaches nothing. Set one above 0, such as 0.001."


def test_looking_changes_nothing() -> None:
    watched, alone = learner(steps=0), learner(steps=0)
    rng = np.random.default_rng(1)
    for step in range(300):
        x = rng.standard_normal(3)
        for each in (watched, alone):
            each.learn_one(x, step % 2 if step % 5 == 0 else None)
        if rng.random() < 0.3:
            learner_lines(watched)
    for one, other in zip(watched.parameters, alone.parameters, strict=True):
        assert one.equal(other)


def test_a_terminal_has_lines_below_the_bar_and_computes_them_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    out, calls = io.StringIO(), []

    def figures() -> list[str]:
        calls.append(clock[0])
        return [f"reads     {len(calls)} steps back", "a line that is much longer than the terminal " + "." * 80]

    console = Console(file=out, width=80, force_terminal=True, legacy_windows=False)
    with Progress("stream", console) as bar:
        for tick in range(13):
            clock[0] = 100.0 + tick / 4
            bar.update(tick / 20, "90% right", figures)
    shown = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", out.getvalue())
    assert calls == [100.0, 101.0, 102.0, 103.0]
    assert "reads     4 steps back" in shown
    assert max(len(line) for line in re.split(r"[\r\n]+", shown)) <= 80
    assert "\x1b[3" not in out.getvalue()


def test_without_a_terminal_a_line_has_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    out = io.StringIO()
    with Progress("stream", Console(file=out, soft_wrap=True)) as bar:
        for second in range(20):
            clock[0] = 100.0 + second
            bar.update(second / 40, "90% right", lambda: ["reads     4 steps back", "credit    5 steps back"])
    assert out.getvalue().splitlines() == [
        "8% · 37 s left · 90% right · stream · reads 4 steps back · credit 5 steps back",
        "45% · 22 s left · 90% right · stream · reads 4 steps back · credit 5 steps back",
    ]


SUITES: dict[str, tuple[type[Suite[Any, Any]], str, str]] = {
    "online": (recall, "learners: {sab: {}}\ndelays: [3]\nrows: 2\nanswers: 200\ntarget: null", "right"),
    "stream": (
        stream,
        "env: SAB/MemoryChain-v0\nargument: length\nvalues: [3]\nepisodes: 20\n"
        "policies: {sab: {policy: MlpSabPolicy}}\nseeds: [0]",
        "return",
    ),
    "agents": (
        agents,
        "env: SAB/MemoryChain-v0\nargument: length\nvalues: [3]\nsteps: 128\nnum_envs: 2\nsuccess: 0.5\n"
        "shared: {n_steps: 16, batch_size: 32}\nlearners: {sab: {policy: MlpSabPolicy}}\nseeds: [0]",
        "success",
    ),
    "compare": (
        compare,
        "task: recall\nlength: 5\ncores: [sab]\nseeds: [0]\nsteps: 4\nbatch_size: 4\nhidden_size: 8",
        "loss",
    ),
    "conditioning": (
        conditioning,
        "learners: {sab: {}}\nintervals: [5]\nsteps: 200\ntests: 2\ntest_steps: 20\nrows: 2\nseeds: [0]",
        "squared error",
    ),
}


@pytest.mark.parametrize("name", SUITES)
def test_a_suites_cell_shows_how_far_it_is(name: str, tmp_path: Path) -> None:
    kind, text, noted = SUITES[name]
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    made: Suite[Any, Any] = kind(load(kind.config_class, str(tmp_path / "config.yaml"), []))
    (chain,) = made.chains()
    shown: list[tuple[float, str, Sequence[str]]] = []

    def progress(done: float, note: str, figures: Figures | None) -> None:
        shown.append((done, note, figures() if figures else ()))

    (tmp_path / "cells").mkdir()
    list(made.run(Work(chain, {}, tmp_path, progress=progress)))
    fractions = [done for done, _, _ in shown]
    assert fractions == sorted(fractions)
    assert 0 < fractions[0] <= fractions[-1] == 1
    assert all(noted in note for _, note, _ in shown)
    if name in {"online", "stream", "conditioning"}:
        assert any("credit" in line for line in shown[-1][2])


def test_tensorboard_has_the_figures_of_a_stream(tmp_path: Path) -> None:
    made = recall(RecallConfig(learners={"sab": {}}, delays=(3,), rows=2, answers=200, target=None))
    (tmp_path / "cells").mkdir()
    list(made.run(Work(made.chains()[0], {}, tmp_path)))
    events = EventAccumulator(str(tmp_path / "tb" / "sab-3-0-0")).Reload()
    assert [event.step for event in events.Scalars("memory/read_distance")] == [100, 200]
    assert "memory/credit_distance" in events.Tags()["scalars"]

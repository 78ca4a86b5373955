"""The suite `text`: every character is predicted once, before it is learnt from; its table, curves and errors."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from sab_agents.online import OnlineLearner
from sab_agents.train.cli import main
from sab_agents.train.configuration import load
from sab_agents.train.suites.text import PAIRS, PARTS, TextConfig, in_parts, pairs_bits, read

SMALL = """
corpus: {corpus}
learning_rates: [0.01, 0.0001]
tried_on: 400
learners:
  sab: {{core: sab}}
  lstm: {{core: lstm_tbptt}}
shared: {{hidden_size: 4, capacity: 4, update_every: 4, bptt_steps: 4}}
"""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    (tmp_path / "text.txt").write_text("abcabcabd " * 90)
    (tmp_path / "small.yaml").write_text(SMALL.format(corpus=tmp_path / "text.txt"))
    return ["suite", "run", str(tmp_path / "small.yaml"), "--out", str(tmp_path / "out")]


def test_the_config_of_the_figures_is_read() -> None:
    path = Path(__file__).parents[3] / "configs" / "online" / "text.yaml"
    config = load(TextConfig, path, ["--learners", "sab"])
    assert list(config.learners) == ["sab"]
    assert config.rows == 8


@pytest.mark.plots
def test_the_better_rate_reads_on_and_nothing_is_repeated(command: list[str], tmp_path: Path) -> None:
    assert main(command) == 0
    cells = json.loads((tmp_path / "out" / "result.json").read_text())["cells"]
    whole = {cell["learner"]: cell for cell in cells if cell["rate"] is None}
    assert list(whole) == [PAIRS, "sab", "lstm"]
    for name in ("sab", "lstm"):
        tried = whole[name]["tried"]
        assert f"{whole[name]['learning_rate']:g}" == min(tried, key=tried.get)
        assert whole[name]["characters"] == 809  # 90 % of 900 are the training piece
        assert len(whole[name]["bits"]) == PARTS
    cells = sorted((tmp_path / "out" / "cells").glob("*.json"))
    assert len(cells) == 1 + 2 * 3
    written = [path.stat().st_mtime_ns for path in cells]
    (tmp_path / "out" / "cells" / "lstm.json").unlink()
    assert main(command) == 0
    assert [path.name for path, before in zip(cells, written, strict=True) if path.stat().st_mtime_ns != before] == [
        "lstm.json"
    ]
    written = [path.stat().st_mtime_ns for path in cells]
    assert main(command) == 0
    assert written == [path.stat().st_mtime_ns for path in cells]
    assert (tmp_path / "out" / "curves.png").stat().st_size > 10_000
    assert "| lstm | 1 |" in (tmp_path / "out" / "table.md").read_text()


def test_parts_of_a_text_hold_each_pair_of_neighbours_once() -> None:
    codes = np.arange(3 * PARTS + 3)
    one, three = in_parts(codes, 1), in_parts(codes, 3)
    assert np.array_equal(one[:, 0], codes)
    assert three.shape == (PARTS + 1, 3)
    pairs = sorted(map(tuple, np.stack([three[:-1], three[1:]], axis=2).reshape(-1, 2).tolist()))
    assert pairs == [(n, n + 1) for n in range(3 * PARTS)]


def test_before_it_learns_a_reader_guesses_and_later_it_knows() -> None:
    text = in_parts(np.tile([0, 1, 2, 1], 500), 1)
    learner = OnlineLearner(3, 3, hidden_size=8, capacity=4, learning_rate=0.02)
    found = read(learner, text)
    assert found["bits"][0] == pytest.approx(math.log2(3), abs=0.4)
    assert found["bits"][-1] < 0.1
    assert learner.steps == found["characters"] == len(text) - 1


def test_pairs_are_predicted_from_those_before() -> None:
    text = np.array([0, 1, 0, 1, 1])[:, None]
    chances = (1 / 2, 1 / 2, 2 / 3, 1 / 3)
    assert pairs_bits(text, 2, 2)["bits"] == pytest.approx(
        [-(math.log2(chances[0]) + math.log2(chances[1])) / 2, -(math.log2(chances[2]) + math.log2(chances[3])) / 2]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--learners", "gru"], "unknown learner 'gru'"),
        (["--characters", "50"], "at least 201 characters"),
    ],
)
def test_what_does_not_fit_is_one_line_of_error(
    command: list[str], capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main([*command, *options]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1

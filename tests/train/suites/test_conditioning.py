"""The suite `conditioning`: its table, its tests without targets, and that a learner without a memory stays above."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sab_agents.envs.supervised.trace_conditioning import TraceConditioning
from sab_agents.train.cli import main
from sab_agents.train.suites.conditioning import learn_returns, return_error

SMALL = """
intervals: [4]
learners:
  sab: {core: sab}
  lstm: {core: lstm_tbptt}
shared: {hidden_size: 4, capacity: 4, update_every: 2}
rows: 3
steps: 60
tests: 2
test_steps: 10
"""


class Table:
    """Predicts the mean of the returns that it was told with the same two stimuli."""

    def __init__(self) -> None:
        self.sums, self.counts = np.zeros(4), np.ones(4)
        self.silent = self.asked = 0

    @staticmethod
    def seen(x: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        return (2 * x[:, 0] + x[:, 1]).astype(np.int64)

    def predict_many(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        self.asked += 1
        return (self.sums / self.counts)[self.seen(x)][:, None]

    def learn_many(self, x: npt.NDArray[np.float32], y: npt.NDArray[np.float32] | None) -> None:
        if y is None:
            self.silent += 1
            return
        assert y.shape == (len(x), 1)
        np.add.at(self.sums, self.seen(x), y[:, 0])
        np.add.at(self.counts, self.seen(x), 1)


def test_a_learner_without_a_memory_has_the_memoryless_score() -> None:
    stream, table = TraceConditioning(10, rows=50), Table()
    learner: Any = table
    learn_returns(learner, stream, 2000)
    assert (table.silent, table.asked) == (0, 0)
    assert return_error(learner, stream, 2000) == pytest.approx(stream.memoryless, rel=0.03)
    assert (table.silent, table.asked) == (2000 + 13 + 120, 2000)  # those of the longest trial are not counted


def test_it_prints_the_table_and_repeats_no_finished_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    command = ["suite", "run", str(tmp_path / "small.yaml"), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    cells = json.loads((tmp_path / "out" / "result.json").read_text())["cells"]
    assert {cell["learner"] for cell in cells} == {"sab", "lstm"}
    for cell in cells:
        assert cell["steps"] == 60
        assert len(cell["errors"]) == 2
        assert cell["error"] == cell["errors"][-1] > 0
    written = [path.stat().st_mtime_ns for path in sorted((tmp_path / "out" / "cells").glob("*.json"))]
    capsys.readouterr()
    assert main(command) == 0
    assert written == [path.stat().st_mtime_ns for path in sorted((tmp_path / "out" / "cells").glob("*.json"))]
    printed = capsys.readouterr().out
    stream = TraceConditioning(4)
    assert "Starts of trials are not given." in printed
    assert f"| best | {stream.best:.4f} |" in printed
    assert f"| memoryless | {stream.memoryless:.4f} |" in printed
    again = ["suite", "run", str(tmp_path / "small.yaml"), "--out", str(tmp_path / "again")]
    assert main(again) == 0
    repeated = json.loads((tmp_path / "again" / "result.json").read_text())["cells"]
    assert [cell["errors"] for cell in repeated] == [cell["errors"] for cell in cells]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--intervals", "1"], "interval must be at least 2, but is 1"),
        (["--distractors", "11"], "distractors must be an int from 0 to 10, but is 11"),
        (["--steps", "5"], "steps must be at least 6, but is 5"),
        (["--tests", "0"], "tests must be at least 1, but is 0"),
        (["--shared.top_k", "0"], "top_k"),
    ],
)
def test_what_does_not_fit_is_one_line_of_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    assert main(["suite", "run", str(tmp_path / "small.yaml"), "--out", str(tmp_path / "out"), *options]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1

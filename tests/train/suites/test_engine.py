"""The engine: cells are run once, in chains and in any number of processes, and results are written in one form."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from sab_agents.train.configuration import Settings, choices
from sab_agents.train.errors import TrainingError, UserError
from sab_agents.train.suites.engine import FORMAT, VERSION, Result, Suite, Work, read_study, run_suite, suite_command
from sab_agents.train.suites.page import markdown_of
from sab_agents.train.suites.study import (
    Column,
    Panel,
    Row,
    Study,
    blocks_of,
    check_sizes,
    interval_of,
    spread_of,
    table_of,
)
from tests.selection import first


@dataclass(frozen=True)
class CountConfig(Settings):
    """Settings.

    Attributes:
        learners: what each adds.
        values: where each begins.
        chained: whether a learner's values are one chain.
        seeds: none matters.
    """

    learners: Mapping[str, Mapping[str, Any]] = field(metadata=choices("learner"))
    values: tuple[int, ...] = (1, 2)
    chained: bool = False
    seeds: tuple[int, ...] = (0,)


class CountCell(NamedTuple):
    """One learner at one value."""

    learner: str
    value: int

    @property
    def file(self) -> str:
        return f"{self.learner}-{self.value}"


class Count(Suite[CountConfig, CountCell]):
    """Adds numbers; a value of 13 fails, a chain ends after a sum above 100."""

    name = "count"
    summary = "Adds."
    config_class = CountConfig

    def chains(self) -> list[tuple[CountCell, ...]]:
        config = self.config
        if config.chained:
            return [tuple(CountCell(learner, value) for value in config.values) for learner in config.learners]
        return [(CountCell(learner, value),) for value in config.values for learner in config.learners]

    def cell_settings(self, cell: CountCell) -> dict[str, Any]:
        return {"learner": self.config.learners[cell.learner], "value": cell.value}

    def check(self, chains: Sequence[tuple[CountCell, ...]]) -> None:
        for chain in chains:
            if "adds" not in self.config.learners[chain[0].learner]:
                raise UserError(f"{chain[0].learner} adds nothing.")

    def is_over(self, results: Sequence[Result | None]) -> bool:
        return results[-1] is not None or any(result is not None and result["sum"] > 100 for result in results)

    def run(self, work: Work[CountCell]) -> Iterator[tuple[CountCell, dict[str, Any]]]:
        total = 0
        for cell in work.chain:
            if cell.value == 13:
                raise TrainingError("13 cannot be added")
            total += cell.value + self.config.learners[cell.learner]["adds"]
            yield cell, {"sum": total, "process": os.getpid(), "known before": len(work.finished)}
            if total > 100:
                break

    def line(self, cell: CountCell, result: Result) -> str:
        return f"{cell.file}: {result['sum']}"

    def study(self, results: Mapping[CountCell, Result]) -> Study:
        rows = [
            Row(cell.learner, cell.value, 0, {"sum": result["sum"]}, curves={"sum": [(0.0, 0.0), (1.0, result["sum"])]})
            for cell, result in results.items()
        ]
        return Study(
            title="Sums",
            size="value",
            values=self.config.values,
            learners=self.config.learners,
            columns=(Column("sum", "{:.0f}"),),
            rows=tuple(rows),
            panels=(Panel("sum", "steps", "sum"),),
            note="By adding.",
        )


LEARNERS = {"one": {"adds": 1}, "ten": {"adds": 10}}


def count(**changes: Any) -> Count:
    return Count(CountConfig(**{"learners": LEARNERS, **changes}))


def sums(results: Mapping[CountCell, Result]) -> dict[str, int]:
    return {cell.file: result["sum"] for cell, result in results.items()}


def test_every_cell_is_run_once_and_the_folder_has_one_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sums(run_suite(count(), tmp_path)) == {"one-1": 2, "ten-1": 11, "one-2": 3, "ten-2": 12}
    assert {path.name for path in tmp_path.iterdir()} == {
        "cells",
        "config.yaml",
        "result.json",
        "table.md",
        *("scores.png", "scores.svg", "curves.png", "curves.svg"),
    }
    content = json.loads((tmp_path / "result.json").read_text())
    assert (content["format"], content["version"], content["suite"]) == (FORMAT, VERSION, "count")
    assert content["settings"]["learners"] == LEARNERS
    assert content["cells"][3] == {
        **{"learner": "ten", "value": 2, "settings": {"learner": {"adds": 10}, "value": 2}},
        **{"sum": 12, "process": os.getpid(), "known before": 0},
    }
    assert "[4/4] ten-2: 12" in capsys.readouterr().out
    (tmp_path / "cells" / "one-2.json").unlink()
    run_suite(count(values=(1, 2, 3)), tmp_path)
    printed = capsys.readouterr().out
    assert "3 of 6 were finished before" in printed
    assert "[1/3] one-2: 3" in printed


def test_what_was_found_is_read_as_it_was_written(tmp_path: Path) -> None:
    suite = count(values=(1, 2, 3))
    results = run_suite(suite, tmp_path)
    name, study = read_study(tmp_path)
    assert name == "count"
    expected = suite.study(results)
    assert markdown_of(blocks_of(study)) == markdown_of(blocks_of(expected)) == (tmp_path / "table.md").read_text()
    assert study.values == expected.values
    assert [row.numbers for row in study.rows] == [row.numbers for row in expected.rows]


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    run_suite(count(), tmp_path)
    with pytest.raises(UserError, match=r"one-1\.json was run with learner\.adds = 1, not 5\. Choose another --out\."):
        run_suite(count(learners={"one": {"adds": 5}}), tmp_path)


def test_settings_are_checked_before_anything_is_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="bad adds nothing"):
        run_suite(count(learners={**LEARNERS, "bad": {}}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_cells_run_in_processes_of_their_own(tmp_path: Path) -> None:
    results = run_suite(count(), tmp_path, jobs=2)
    assert sums(results) == {"one-1": 2, "ten-1": 11, "one-2": 3, "ten-2": 12}
    assert os.getpid() not in {result["process"] for result in results.values()}


def test_without_jobs_what_is_finished_is_written_and_nothing_is_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no finished cell, and --jobs 0 runs none"):
        run_suite(count(), tmp_path, jobs=0)
    assert not list(tmp_path.iterdir())
    run_suite(count(values=(2,)), tmp_path)
    assert sums(run_suite(count(), tmp_path, jobs=0)) == {"one-2": 3, "ten-2": 12}
    assert [row.value for row in read_study(tmp_path)[1].rows] == [2, 2]


@pytest.mark.parametrize("jobs", first(1, [1, 2]))
def test_a_failure_leaves_the_other_cells(jobs: int, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="1 of 2 runs failed; the first says: 13 cannot be added"):
        run_suite(count(learners={"one": {"adds": 1}}, values=(13, 2)), tmp_path, jobs=jobs)
    assert [path.name for path in (tmp_path / "cells").iterdir()] == ["one-2.json"]
    assert "| 2 | one |" in (tmp_path / "table.md").read_text()


class Continued(Count):
    """Half of each chain was done before."""

    def run(self, work: Work[CountCell]) -> Iterator[tuple[CountCell, dict[str, Any]]]:
        for done in (0.5, 0.75):
            work.progress(done, "adds", None)
            clock[0] += 10.0
        yield from super().run(work)


clock = [0.0]


def test_what_an_interrupted_run_had_done_does_not_shorten_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    run_suite(Continued(count(learners={"one": {"adds": 1}}, values=(2,)).config), tmp_path)
    assert "75% · 10 s left · 0 of 1 · adds · count" in capsys.readouterr().out.splitlines()


def test_a_chain_is_run_in_order_until_it_is_over(tmp_path: Path) -> None:
    suite = count(chained=True, values=(90, 10, 20), learners={"ten": {"adds": 10}, "one": {"adds": 1}})
    assert sums(run_suite(suite, tmp_path)) == {"ten-90": 100, "ten-10": 120, "one-90": 91, "one-10": 102}
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    (tmp_path / "cells" / "one-10.json").unlink()
    assert run_suite(suite, tmp_path)[CountCell("one", 10)]["known before"] == 1
    changed = {path.name for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert changed == {"one-90.json", "one-10.json"}


def test_the_command_line_narrows_cells_and_names_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("learners: {one: {adds: 1}, ten: {adds: 10}}")
    command = partial(suite_command, Count)
    arguments = [str(tmp_path / "c.yaml"), "--out", str(tmp_path / "out")]
    assert command([*arguments, "--learners", "ten", "--values", "3", "--jobs=1"]) == 0
    assert [path.name for path in (tmp_path / "out" / "cells").iterdir()] == ["ten-3.json"]
    for wrong, message in (
        ([], "suite run needs a config file: sab-agents suite run CONFIG --out FOLDER"),
        (arguments[:1], "suite run needs a folder"),
        ([*arguments, "--jobs", "-1"], "--jobs must be a whole number of at least 0, but is '-1'"),
        ([*arguments, "--out"], "--out needs a value"),
        ([*arguments, "--engine", "rya"], "--engine must be processes or ray, but is 'rya'. Did you mean 'ray'?"),
        ([*arguments, "--engine", "ray", "--jobs", "2"], "--jobs is not used by --engine ray"),
        ([*arguments, "--address", "10.0.0.1:6379"], "--address is of a Ray cluster. Add --engine ray"),
        ([*arguments, "--vlues", "3"], "Did you mean 'values'?"),
    ):
        with pytest.raises(UserError, match=r"^[^\n]*$") as caught:
            command(wrong)
        assert message in str(caught.value)


def test_a_missing_extra_is_one_sentence_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "ray" else find(name, *rest))
    (tmp_path / "c.yaml").write_text("learners: {one: {adds: 1}}")
    message = r"^--engine ray needs Ray, which is not installed\. Run: pip install 'sab-agents\[ray\]'\.$"
    with pytest.raises(UserError, match=message):
        suite_command(Count, [str(tmp_path / "c.yaml"), "--out", str(tmp_path / "out"), "--engine", "ray"])
    assert not (tmp_path / "out").exists()


def test_the_help_has_the_engines_options_and_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert suite_command(Count, ["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(
        part in printed
        for part in ("--out", "--jobs", "--engine", "--address", "--values", "where each begins.", "Adds.")
    )


def study_of(*rows: Row, **changes: Any) -> Study:
    learners: dict[str, Any] = {row.learner: {} for row in rows if row.learner != "nobody"}
    columns = (Column("score", "{:.1f}", spread=True), Column("cost", "{:.0f}"), Column("words"))
    settings = {
        "title": "t",
        "size": "size",
        "values": (1, 2000),
        "learners": learners,
        "columns": columns,
        "note": "n",
    }
    return Study(**{**settings, "rows": rows, **changes})


def test_the_table_has_a_row_for_each_learner_at_each_value_over_its_seeds() -> None:
    table = table_of(
        study_of(
            Row("a", 2000, 0, {"score": 1.0, "cost": 3, "words": "x | y"}),
            Row("a", 2000, 1, {"score": 2.0, "cost": 4}),
            Row("nobody", 1, None, {"score": 0.5}),
            baselines=("nobody",),
        )
    )
    assert list(table.headings) == ["size", "learner", "seeds", "score", "cost", "words"]
    assert table.rows == [["1", "nobody", "", "0.5", "", ""], ["2,000", "a", "2", "1.5 (1.0 … 2.0)", "4", "x | y"]]


def test_with_a_target_the_table_says_how_many_of_all_that_began_reached_it() -> None:
    rows = [Row("a", 1, seed, {"score": 1.0}, reached=seed > 0) for seed in range(3)]
    later = [Row("a", 2000, seed, {"score": 1.0}, reached=seed > 1) for seed in (1, 2)]
    table = table_of(study_of(*rows, *later, target=0.99))
    assert [row[2] for row in table.rows] == ["2 of 3", "1 of 3"]


def test_known_scores_and_tests_have_tables_of_their_own() -> None:
    study = study_of(
        Row("a", 1, 0, {"score": 1.0}, tests={"30000": 0.5}),
        Row("b", 1, 0, {"score": 1.0}),
        known={1: {"best": 1.0, "memoryless": None}},
    )
    text = markdown_of(blocks_of(study))
    assert "| score of the policy | size 1 | size 2,000 |\n| --- | ---: | ---: |\n| best | 1.0 |  |\n" in text
    assert "memoryless" not in text
    assert "| trained at size | learner | 30,000 |\n| ---: | --- | ---: |\n| 1 | a | 50.0% |" in text


def test_numbers_spread_only_where_they_differ() -> None:
    assert spread_of([1.0, 3.0], "{:.1f}") == "2.0 (1.0 … 3.0)"
    assert spread_of([0.999, 1.001], "{:.1f}") == "1.0"


def test_a_count_is_one_number_or_one_for_each_value() -> None:
    check_sizes("x", "steps", 3, (1, 2))
    check_sizes("x", "steps", {1: 3, 2: 4, 5: 6}, (1, 2))
    for given, message in (({1: 3}, "has none for 2"), ({1: 3, 2: 0}, "steps must be at least 1"), (0, "but is 0")):
        with pytest.raises(ValueError, match=message):
            check_sizes("x", "steps", given, (1, 2))


def test_the_interval_of_a_mean_is_that_of_resampled_seeds() -> None:
    numbers = [0.90, 0.97, 0.98, 0.99, 0.96]
    text = interval_of(numbers, "{:.3f}")
    assert text == interval_of(numbers, "{:.3f}")
    mean, low, high = (float(part) for part in re.findall(r"[0-9.]+", text))
    means = sorted(np.mean(sample) for sample in itertools.product(numbers, repeat=5))  # all that can be drawn
    assert mean == pytest.approx(np.mean(numbers))
    assert low == pytest.approx(np.quantile(means, 0.025), abs=0.002)
    assert high == pytest.approx(np.quantile(means, 0.975), abs=0.002)
    assert interval_of([0.5], "{:.1f}") == "0.5"
    assert interval_of([0.5, 0.5], "{:.1f}") == "0.5"

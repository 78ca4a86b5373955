"""What a suite found, in one form for all suites: rows of learners, sizes and seeds, with what their columns mean.

The engine writes it into result.json, and tables, figures and reports are made of it alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sab_agents.checks import at_least
from sab_agents.envs.registration import ENVIRONMENTS
from sab_agents.train.configuration import plain
from sab_agents.train.suites.page import Block, Table, Text

Value = int | str
Curve = Sequence[tuple[float, float]]
Known = Mapping[str, float | None]
"""Scores of the "best", the best "memoryless" and the "random" policy, as far as they are known."""
POLICIES = ("best", "memoryless", "random")


@dataclass(frozen=True)
class Column:
    """A column of a suite's table.

    Attributes:
        name: its heading, and its key in `Row.numbers`.
        form: how a number is formatted.
        spread: shows the least and the greatest of the seeds beside their mean.
    """

    name: str
    form: str = "{:.2f}"
    spread: bool = False


@dataclass(frozen=True)
class Panel:
    """A plot of curves.

    Attributes:
        name: its key in `Row.curves`.
        x: what curves are drawn over.
        y: what is drawn.
        known: draws the scores in `Study.known` as lines.
    """

    name: str
    x: str
    y: str
    known: bool = True


@dataclass(frozen=True)
class Row:
    """One learner at one size with one seed.

    Attributes:
        learner: its name.
        value: the size; "" in a suite with a single one.
        seed: of learner and data; None if there is none.
        numbers: a number, or a text, by the name of its column; columns without one are left blank.
        reached: whether it reached the target; None without a target.
        curves: points by the name of their panel.
        tests: scores at other sizes.
    """

    learner: str
    value: Value
    seed: int | None
    numbers: Mapping[str, float | str]
    reached: bool | None = None
    curves: Mapping[str, Curve] = field(default_factory=dict)
    tests: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """What a suite found.

    Attributes:
        title: what was learnt.
        values: all sizes, in order; ("",) for a suite with a single one.
        learners: by name the settings that a learner does not share.
        columns: of the table; the first is the score, by which learners are compared.
        rows: all that were run.
        note: how the numbers were measured.
        size: what the values are called.
        shared: settings that all learners have.
        panels: plots of curves.
        target: fraction at which a learner stops, or None.
        known: by value, scores of the policies in `POLICIES`.
        baselines: names of rows that are no learners, drawn in grey.
    """

    title: str
    values: tuple[Value, ...]
    learners: Mapping[str, Mapping[str, Any]]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str
    size: str = ""
    shared: Mapping[str, Any] = field(default_factory=dict)
    panels: tuple[Panel, ...] = ()
    target: float | None = None
    known: Mapping[Value, Known] = field(default_factory=dict)
    baselines: tuple[str, ...] = ()

    @property
    def score(self) -> Column:
        """The column by which learners are compared."""
        return self.columns[0]

    @property
    def names(self) -> list[str]:
        """The learners, then the baselines."""
        return [*self.learners, *self.baselines]

    def of(self, learner: str, value: Value) -> list[Row]:
        """Returns the rows of a learner at a value."""
        return [row for row in self.rows if (row.learner, row.value) == (learner, value)]

    def groups(self) -> Iterator[tuple[Value, str, list[Row]]]:
        """Yields the rows of each learner at each value at which there are any, value by value."""
        for value in self.values:
            for learner in self.names:
                if rows := self.of(learner, value):
                    yield value, learner, rows

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` reads."""
        found: dict[str, Any] = plain(dataclasses.asdict(self))
        found["values"] = list(self.values)
        found["known"] = [dict(self.known.get(value, {})) for value in self.values]
        return found

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Study:
        """Returns the study that `to_json` described.

        Raises:
            KeyError, TypeError: it describes none.
        """
        return cls(
            **{
                **content,
                "values": tuple(content["values"]),
                "columns": tuple(Column(**column) for column in content["columns"]),
                "panels": tuple(Panel(**panel) for panel in content["panels"]),
                "rows": tuple(Row(**row) for row in content["rows"]),
                "known": dict(zip(content["values"], content["known"], strict=True)),
                "baselines": tuple(content["baselines"]),
            }
        )


RESAMPLES = 10_000
BOOTSTRAP_SEED = 0


def spread_of(numbers: Sequence[float], form: str) -> str:
    """Returns the mean, and the least and the greatest if they differ, in that form."""
    mean, least, greatest = (form.format(each) for each in (np.mean(numbers), min(numbers), max(numbers)))
    return mean if least == greatest else f"{mean} ({least} … {greatest})"


def interval_of(numbers: Sequence[float], form: str) -> str:
    """Returns the mean, and the 95 % interval of the means of resamples if it has any width, in that form.

    The same numbers have always the same interval. A single number has none.
    """
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    resampled = np.asarray(numbers)[generator.integers(0, len(numbers), (RESAMPLES, len(numbers)))].mean(axis=1)
    low, high = np.quantile(resampled, (0.025, 0.975))
    mean, least, greatest = (form.format(each) for each in (np.mean(numbers), low, high))
    return mean if least == greatest else f"{mean} [{least}, {greatest}]"


Spread = Callable[[Sequence[float], str], str]
"""Writes the numbers of some seeds in a form: their mean, and how far it can be relied on."""


def table_of(study: Study, spread: Spread = spread_of) -> Table:
    """Returns the table of a study: a row for each learner at each value, over its seeds.

    Args:
        study: what was found.
        spread: writes the columns whose seeds' spread is shown.
    """
    sized = bool(study.size)
    seeds = "seeds" if study.target is None else f"seeds at {study.target:.0%}"
    headings = (*([study.size] if sized else []), "learner", seeds, *(column.name for column in study.columns))
    rows = [
        [
            *([name_of(value)] if sized else []),
            learner,
            _seeds(study, learner, rows),
            *_cells(study.columns, rows, spread),
        ]
        for value, learner, rows in study.groups()
    ]
    return Table(headings, rows, left=(*_left(study), 1) if sized else (0,))


def blocks_of(study: Study) -> list[Block]:
    """Returns all that a study says in words and tables."""
    note = Text(f"{study.note} Numbers are means over the seeds; the least and the greatest are in brackets.")
    return [table_of(study), note, *_known(study), *_tests(study, spread_of)]


def results_of(study: Study) -> list[Block]:
    """Returns the same as `blocks_of`, for a page of results: how far a mean can be relied on is an interval."""
    note = Text(
        f"{study.note} Numbers are means over the seeds; in brackets 95 % bootstrap intervals of the mean, from "
        f"{RESAMPLES:,} resamples of the seeds."
    )
    return [table_of(study, interval_of), note, *_known(study), *_tests(study, interval_of)]


def name_of(value: Value) -> str:
    """Returns a size as it is written."""
    return f"{value:,}" if isinstance(value, int) else value


def known_returns(env: str, argument: str | None, value: Value, env_arguments: Mapping[str, Any]) -> Known:
    """Returns the returns of the best, the random and the best memoryless policy, as far as they are known."""
    if env not in ENVIRONMENTS or argument is None:
        return dict.fromkeys(POLICIES)
    return dataclasses.asdict(ENVIRONMENTS[env].returns({**env_arguments, argument: value}))


def check_sizes(owner: str, name: str, given: int | Mapping[Any, int], values: Sequence[Value]) -> None:
    """Raises ValueError unless `given` is a count of at least 1, or one for each value."""
    counts = given if isinstance(given, Mapping) else dict.fromkeys(values, given)
    for value in values:
        if value not in counts:
            raise ValueError(f"{owner}: {name} must have a number for each value, but has none for {value}.")
    for count in counts.values():
        at_least(owner, name, count, 1)


def _left(study: Study) -> tuple[int, ...]:
    """Returns the first column if the sizes in it are names, which are aligned to the left."""
    return (0,) if any(isinstance(value, str) for value in study.values) else ()


def _seeds(study: Study, learner: str, rows: Sequence[Row]) -> str:
    """Returns how many seeds there are; with a target, how many reached it, of all that began at any value."""
    if learner in study.baselines:
        return ""
    if study.target is None:
        return str(len(rows))
    began = {row.seed for row in study.rows if row.learner == learner}
    return f"{sum(bool(row.reached) for row in rows)} of {len(began)}"


def _cells(columns: Sequence[Column], rows: Sequence[Row], spread: Spread) -> Iterator[str]:
    for column in columns:
        numbers = [row.numbers[column.name] for row in rows if column.name in row.numbers]
        floats = [number for number in numbers if not isinstance(number, str)]
        if not floats:
            yield str(numbers[0]) if numbers else ""
        else:
            yield spread(floats, column.form) if column.spread else column.form.format(np.mean(floats))


def _known(study: Study) -> list[Block]:
    """Returns the table of what is known of policies that learnt nothing; nothing if nothing is known."""
    rows = []
    for policy in POLICIES:
        scores = [study.known.get(value, {}).get(policy) for value in study.values]
        if any(score is not None for score in scores):
            rows.append([policy, *("" if score is None else study.score.form.format(score) for score in scores)])
    sizes = [f"{study.size} {name_of(value)}" if study.size else study.score.name for value in study.values]
    return [Table((f"{study.score.name} of the policy", *sizes), rows)] if rows else []


def _tests(study: Study, spread: Spread) -> list[Block]:
    """Returns the table of tests at sizes at which nothing was trained; nothing if there were no tests."""
    sizes = list(dict.fromkeys(size for row in study.rows for size in row.tests))
    if not sizes:
        return []
    rows = [
        [name_of(value), learner, *(_tested(rows, size, spread) for size in sizes)]
        for value, learner, rows in study.groups()
        if any(row.tests for row in rows)
    ]
    names = [name_of(int(size) if size.isdecimal() else size) for size in sizes]
    return [
        Text("After training, at other sizes:"),
        Table((f"trained at {study.size}", "learner", *names), rows, left=(*_left(study), 1)),
    ]


def _tested(rows: Sequence[Row], size: str, spread: Spread) -> str:
    scores = [row.tests[size] for row in rows if size in row.tests]
    return spread(scores, "{:.1%}") if scores else ""

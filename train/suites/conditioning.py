"""The suite `conditioning`: learners of endless trace conditioning predict returns, at several intervals."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from sab_agents.checks import at_least
from sab_agents.envs.supervised.trace_conditioning import TraceConditioning
from sab_agents.online import OnlineLearner
from sab_agents.train.configuration import Settings, choices
from sab_agents.train.errors import UserError, one_line
from sab_agents.train.live import learner_lines, scalars_of
from sab_agents.train.suites.engine import Result, Suite, Work, suite_command
from sab_agents.train.suites.recall import learner_arguments
from sab_agents.train.suites.study import Column, Panel, Row, Study


@dataclass(frozen=True)
class ConditioningConfig(Settings):
    """Settings of an experiment; a cell is one learner on one stream with one seed.

    Attributes:
        learners: for each name, arguments of `OnlineLearner` that the others do not share.
        intervals: from a conditioned to its unconditioned stimulus, see `TraceConditioning`.
        shared: arguments of `OnlineLearner` that all learners share.
        rows: parallel streams of a cell.
        distractors: from 0 to 10.
        seeds: of learner and stream.
        steps: steps of all rows that are learnt from.
        tests: tests in which nothing is learnt, evenly spread; the last comes at the end and is the score.
        test_steps: steps of all rows that each test counts.
        threads: CPU threads.
    """

    learners: Mapping[str, Mapping[str, Any]] = field(metadata=choices("learner"))
    intervals: tuple[int, ...]
    shared: Mapping[str, Any] = field(default_factory=dict)
    rows: int = 1
    distractors: int = 10
    seeds: tuple[int, ...] = (0,)
    steps: int = 500_000
    tests: int = 10
    test_steps: int = 10_000
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("rows", "tests", "test_steps", "threads"):
            at_least("conditioning", name, getattr(self, name), 1)
        at_least("conditioning", "steps", self.steps, self.tests * self.rows)
        for name in ("learners", "intervals", "seeds"):
            if not getattr(self, name):
                raise ValueError(f"conditioning: {name} must have at least one entry, but is empty.")


class ConditioningCell(NamedTuple):
    """One learner on one stream with one seed."""

    learner: str
    interval: int
    seed: int

    @property
    def file(self) -> str:
        """The name of its file, without suffix."""
        return f"{self.learner}-{self.interval}-{self.seed}"


class Conditioning(Suite[ConditioningConfig, ConditioningCell]):
    """Learners of trace conditioning; the score is the squared error of predictions while nothing is learnt."""

    name = "conditioning"
    summary = "Runs learners that predict the returns of an endless stream of trace conditioning."
    config_class = ConditioningConfig

    def chains(self) -> list[tuple[ConditioningCell, ...]]:
        """Returns every learner at every interval with every seed."""
        config = self.config
        return [
            (ConditioningCell(learner, interval, seed),)
            for interval in config.intervals
            for learner in config.learners
            for seed in config.seeds
        ]

    def cell_settings(self, cell: ConditioningCell) -> dict[str, Any]:
        """Returns the arguments of the learner, and how long it learns from what."""
        config = self.config
        names = ("rows", "distractors", "steps", "tests", "test_steps")
        return {
            "learner": {**config.shared, **config.learners[cell.learner]},
            **{name: getattr(config, name) for name in names},
        }

    def check(self, chains: Sequence[tuple[ConditioningCell, ...]]) -> None:
        """Builds each learner and each stream once."""
        for cell in {(chain[0].learner, chain[0].interval): chain[0] for chain in chains}.values():
            self._learner(cell)

    def run(self, work: Work[ConditioningCell]) -> Iterator[tuple[ConditioningCell, dict[str, Any]]]:
        """Learns, and tests in between.

        The result has the error of the last test, those of all tests, and the seconds that learning took.
        """
        (cell,) = work.chain
        config = self.config
        torch.set_num_threads(config.threads)
        stream, learner = self._learner(cell)
        errors, seconds, taught = [], 0.0, 0
        with work.board(cell, self.cell_settings(cell)) as board:
            for test in range(1, config.tests + 1):
                started = time.perf_counter()
                until = config.steps * test // (config.tests * config.rows)
                learn_returns(learner, stream, until - taught)
                taught = until
                seconds += time.perf_counter() - started
                errors.append(return_error(learner, stream, -(-config.test_steps // config.rows)))
                board.scalars({"squared error": errors[-1], **scalars_of(learner)}, taught * config.rows)
                work.progress(
                    test / config.tests,
                    f"squared error {errors[-1]:.4f}",
                    lambda: [f"{cell.learner}, interval {cell.interval}, seed {cell.seed}", *learner_lines(learner)],
                )
        yield cell, {"error": errors[-1], "errors": errors, "steps": taught * config.rows, "seconds": round(seconds, 1)}

    def _learner(self, cell: ConditioningCell) -> tuple[TraceConditioning, OnlineLearner]:
        config = self.config
        try:
            settings = learner_arguments(config.shared, config.learners[cell.learner])
            stream = TraceConditioning(
                cell.interval, rows=config.rows, distractors=config.distractors, seed=1000 + cell.seed
            )
            return stream, OnlineLearner(
                stream.input_size, 1, loss="squared_error", rows=config.rows, seed=cell.seed, **settings
            )
        except (TypeError, ValueError) as error:
            raise UserError(f"{cell.learner}: {one_line(error)}") from error

    def line(self, cell: ConditioningCell, result: Result) -> str:
        """Returns the error and what it took."""
        return (
            f"{cell.learner}, interval {cell.interval}, seed {cell.seed}: squared error {result['error']:.4f} after "
            f"{result['steps']:,} steps, {result['seconds']:,.0f} s"
        )

    def study(self, results: Mapping[ConditioningCell, Result]) -> Study:
        """Returns the errors of the last test, and those of all tests as curves."""
        config = self.config
        streams = {interval: TraceConditioning(interval) for interval in config.intervals}
        rows = tuple(
            Row(
                cell.learner,
                cell.interval,
                cell.seed,
                {"squared error": result["error"], "steps": result["steps"], "seconds": result["seconds"]},
                curves={
                    "squared error": [
                        (result["steps"] * (test + 1) / len(result["errors"]), error)
                        for test, error in enumerate(result["errors"])
                    ]
                },
            )
            for cell, result in results.items()
        )
        return Study(
            title="Trace conditioning in an endless stream without episode starts",
            size="interval",
            values=config.intervals,
            learners=config.learners,
            shared=config.shared,
            columns=(
                Column("squared error", "{:.4f}", spread=True),
                *(Column(name, "{:,.0f}") for name in ("steps", "seconds")),
            ),
            rows=rows,
            panels=(Panel("squared error", "steps", "squared error of the return"),),
            known={
                interval: {"best": stream.best, "memoryless": stream.memoryless} for interval, stream in streams.items()
            },
            note=(
                f"Starts of trials are not given. Squared error of the predicted return, with {config.distractors} "
                f"distractors, over {config.test_steps:,} steps after the last one that was learnt from; best and "
                "memoryless are computed."
            ),
        )


def learn_returns(learner: OnlineLearner, stream: TraceConditioning, steps: int) -> None:
    """Learns from that many steps of a stream with as many rows."""
    for _ in range(steps):
        step = stream.step()
        learner.learn_many(step.x, step.y[:, None])


def return_error(learner: OnlineLearner, stream: TraceConditioning, steps: int) -> float:
    """Returns the mean squared error over that many steps, from which nothing is learnt.

    The steps of one trial before them are not counted: the last targets that were learnt told when their US would come.
    """
    errors = []
    for number in range(stream.longest_trial + steps):
        step = stream.step()
        if number >= stream.longest_trial:
            errors.append(float(((learner.predict_many(step.x)[:, 0] - step.y) ** 2).mean()))
        learner.learn_many(step.x, None)
    return float(np.mean(errors))


suite = Conditioning
command = partial(suite_command, suite)

"""`sab-agents online CONFIG`: learners of one endless stream of delayed recall, at several delays."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from sab_agents.checks import at_least
from sab_agents.envs.supervised.cue_stream import Asked
from sab_agents.envs.supervised.recall import RecallStream
from sab_agents.online import OnlineLearner
from sab_agents.train.configuration import Settings, choices
from sab_agents.train.errors import UserError, one_line
from sab_agents.train.figures.canvas import pixels_of
from sab_agents.train.figures.ledger import ledger_figure, plot_ledger
from sab_agents.train.suites.engine import Result, Suite, Work, suite_command
from sab_agents.train.suites.study import Column, Row, Study

EVERY = 400
"""Answers between two images in TensorBoard."""


@dataclass(frozen=True)
class RecallConfig(Settings):
    """Settings of an experiment; a cell is one learner on one stream with one seed.

    Attributes:
        learners: for each name, arguments of `OnlineLearner` that the others do not share.
        delays: steps from a cue, or from the second of two, to the question.
        noises: standard deviations of the noise in between.
        asked: "newest" and "oldest" ask for that one of two cues in each round, null is a stream of one cue a round.
        shared: arguments of `OnlineLearner` that all learners share.
        rows: parallel streams of a cell.
        symbols: number of cues; a memoryless learner is right once in as many answers.
        distractors: number of tokens between cue and question.
        says_starts: whether the learners are told where each round begins; they then empty their memory there.
        jitter: the fraction of the delay by which that of each round varies.
        seeds: of learner and stream.
        recent: answers over which the accuracy is measured, at the end of a cell and against the target.
        target: a cell ends when this fraction of its `recent` last answers was right.
        answers: a cell ends after this many answers at the latest; the cost of a cell grows with its delay.
        threads: CPU threads.
    """

    learners: Mapping[str, Mapping[str, Any]] = field(metadata=choices("learner"))
    delays: tuple[int, ...]
    noises: tuple[float, ...] = (0.0,)
    asked: tuple[Asked | None, ...] = (None,)
    shared: Mapping[str, Any] = field(default_factory=dict)
    rows: int = 32
    symbols: int = 8
    distractors: int = 8
    says_starts: bool = True
    jitter: float = 0.0
    seeds: tuple[int, ...] = (0,)
    recent: int = 400
    target: float = 0.99
    answers: int = 1_500
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("rows", "symbols", "distractors", "recent", "answers", "threads"):
            at_least("online", name, getattr(self, name), 1)
        for name in ("learners", "delays", "noises", "asked", "seeds"):
            if not getattr(self, name):
                raise ValueError(f"online: {name} must have at least one entry, but is empty.")

    def stream_settings(self) -> dict[str, Any]:
        """Returns the arguments of `RecallStream` that all cells share and that are not its defaults."""
        shared = {name: getattr(self, name) for name in ("distractors", "says_starts", "jitter")}
        return {name: value for name, value in shared.items() if value != getattr(RecallConfig, name)}


class RecallCell(NamedTuple):
    """One learner on one stream with one seed."""

    learner: str
    delay: int
    noise: float
    seed: int
    asked: Asked | None = None

    @property
    def file(self) -> str:
        """The name of its file, without suffix."""
        asked = "" if self.asked is None else f"-{self.asked}"
        return f"{self.learner}-{self.delay}-{self.noise:g}{asked}-{self.seed}"


class Recall(Suite[RecallConfig, RecallCell]):
    """Learners of a stream of delayed recall; the score is the accuracy of the last answers."""

    name = "online"
    summary = "Runs learners of an endless stream of delayed recall, until they recall or the answers are used up."
    config_class = RecallConfig

    def chains(self) -> list[tuple[RecallCell, ...]]:
        """Returns every learner at every delay and noise, for every cue that is asked, with every seed."""
        config = self.config
        return [
            (RecallCell(learner, delay, noise, seed, asked),)
            for delay in config.delays
            for asked in config.asked
            for noise in config.noises
            for learner in config.learners
            for seed in config.seeds
        ]

    def cell_settings(self, cell: RecallCell) -> dict[str, Any]:
        """Returns the arguments of the learner, and what the stream and its end depend on.

        Of the settings that differ from their defaults seldom, only those that do.
        """
        config = self.config
        recent = {} if config.recent == RecallConfig.recent else {"recent": config.recent}
        return {
            "learner": {**config.shared, **config.learners[cell.learner]},
            "rows": config.rows,
            "symbols": config.symbols,
            "target": config.target,
            "answers": config.answers,
            **recent,
            **config.stream_settings(),
        }

    def check(self, chains: Sequence[tuple[RecallCell, ...]]) -> None:
        """Builds each learner once."""
        for cell in {chain[0].learner: chain[0] for chain in chains}.values():
            self._learner(cell)

    def run(self, work: Work[RecallCell]) -> Iterator[tuple[RecallCell, dict[str, Any]]]:
        """Learns from one stream until the target is reached or the answers are used up.

        The result has the accuracy over the last answers, and how many answers, steps and seconds it took. The folder
        gets a picture of the credit ledger of a SAB learner.
        """
        (cell,) = work.chain
        config = self.config
        torch.set_num_threads(config.threads)
        stream, learner = self._learner(cell)
        started, processor = time.perf_counter(), time.process_time()
        title = f"delay {cell.delay:,}, {self._name(cell.learner, cell.noise, cell.asked)}"
        with _Board(work.tensorboard(cell), title, learner, cell.delay) as board:
            recalled = learn_recall(
                learner,
                stream,
                target=config.target,
                answers=config.answers,
                recent=config.recent,
                watch=board.watch,
            )
        report = learner.credit_report()
        if report.entries:
            plot_ledger(work.picture(cell), title, report.entries, cell.delay)
        yield (
            cell,
            {
                **recalled._asdict(),
                "steps": learner.steps,
                "seconds": round(time.perf_counter() - started, 1),
                "processor_seconds": round(time.process_time() - processor, 1),
                "dropped": report.dropped,
            },
        )

    def _learner(self, cell: RecallCell) -> tuple[RecallStream, OnlineLearner]:
        config = self.config
        try:
            settings = learner_arguments(config.shared, config.learners[cell.learner])
            stream = RecallStream(
                cell.delay,
                rows=config.rows,
                symbols=config.symbols,
                noise=cell.noise,
                asked=cell.asked,
                seed=1000 + cell.seed,
                **config.stream_settings(),
            )
            return stream, OnlineLearner(
                stream.input_size, config.symbols, rows=config.rows, seed=cell.seed, **settings
            )
        except (TypeError, ValueError) as error:
            raise UserError(f"{cell.learner}: {one_line(error)}") from error

    def line(self, cell: RecallCell, result: Result) -> str:
        """Returns the accuracy and what it took."""
        asked = "" if cell.asked is None else f"{cell.asked} of two, "
        return (
            f"{cell.learner}, delay {cell.delay:,}, noise {cell.noise:g}, {asked}seed {cell.seed}: "
            f"{result['accuracy']:.1%} after {result['answers']:,} answers, {result['steps']:,} steps, "
            f"{result['seconds']:,.0f} s"
        )

    def study(self, results: Mapping[RecallCell, Result]) -> Study:
        """Returns the accuracies; with several noises, or of two cues, a learner at each counts as one of its own."""
        config = self.config
        starts = "Each round's start is said" if config.says_starts else "Nobody says where a round begins"
        steps = "steps of one row" if config.rows == 1 else f"steps of {config.rows} rows together"
        rows = tuple(
            Row(
                self._name(cell.learner, cell.noise, cell.asked),
                cell.delay,
                cell.seed,
                {name: result[name] for name in ("accuracy", "answers", "steps", "seconds")},
                result["reached"],
            )
            for cell, result in results.items()
        )
        return Study(
            title=f"Delayed recall in an endless stream, {'starts said' if config.says_starts else 'starts not said'}",
            size="delay",
            values=config.delays,
            learners={
                self._name(learner, noise, asked): own
                for asked in config.asked
                for learner, own in config.learners.items()
                for noise in config.noises
            },
            shared=config.shared,
            columns=(
                Column("accuracy", "{:.1%}", spread=True),
                *(Column(name, "{:,.0f}") for name in ("answers", "steps", "seconds")),
            ),
            rows=rows,
            target=config.target,
            known={delay: {"best": 1.0, "memoryless": 1 / config.symbols} for delay in config.delays},
            note=(
                f"{starts}. Accuracy of the last {config.recent} answers, of {config.symbols} symbols, until it is "
                f"{config.target:.0%} or {config.answers:,} are given; {steps}."
            ),
        )

    def _name(self, learner: str, noise: float, asked: Asked | None) -> str:
        of_two = "" if asked is None else f", {asked} of two"
        return f"{learner}{of_two}" + ("" if len(self.config.noises) == 1 else f", noise {noise:g}")


class Recalled(NamedTuple):
    """The outcome of a learner: its accuracy over the last answers, all answers, and whether it reached the target."""

    accuracy: float
    answers: int
    reached: bool


def learn_recall(
    learner: OnlineLearner,
    stream: RecallStream,
    *,
    target: float,
    answers: int,
    recent: int = RecallConfig.recent,
    watch: Callable[[Recalled], None] = lambda _: None,
) -> Recalled:
    """Learns from a stream of delayed recall; each answer is given before it is learnt from.

    Args:
        learner: learns.
        stream: with as many rows.
        target: ends when this fraction of the `recent` last answers was right.
        answers: ends after this many at the latest.
        recent: answers over which the accuracy is measured.
        watch: called after each answer.
    """
    latest: deque[bool] = deque(maxlen=recent)
    recalled = Recalled(float("nan"), 0, reached=False)
    while recalled.answers < answers and not recalled.reached:
        step = stream.step()
        if not step.asked.any():
            learner.learn_many(step.x, None, step.episode_start)
            continue
        right = learner.predict_many(step.x, step.episode_start)[step.asked] == step.y[step.asked]
        learner.learn_many(step.x, step.y, step.episode_start, step.asked)
        latest.extend(right.tolist())
        accuracy = float(np.mean(latest))
        reached = len(latest) == recent and accuracy >= target
        recalled = Recalled(accuracy, recalled.answers + len(right), reached)
        watch(recalled)
    return recalled


def learner_arguments(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of an `OnlineLearner`: its own, and those of the shared ones that its core has.

    Raises:
        ValueError: there is no such core.
    """
    core = {"core": "sab", **shared, **own}["core"]
    return {**OnlineLearner.shared_settings(core, shared), **own}


class _Board:
    """Writes TensorBoard's events of one learner: its accuracy, and who credited whom; use it in a `with` block."""

    def __init__(self, folder: Path, title: str, learner: OnlineLearner, delay: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  # takes a second to import

        self.writer = SummaryWriter(str(folder), purge_step=0)  # hides events of an earlier attempt
        self.title, self.learner, self.delay = title, learner, delay
        self.drawn = self.answers = 0

    def __enter__(self) -> _Board:
        return self

    def __exit__(self, *_: object) -> None:
        if self.answers > self.drawn:
            self.draw()
        self.writer.close()

    def watch(self, recalled: Recalled) -> None:
        """Logs the accuracy, and draws the ledger after every `EVERY` answers."""
        self.answers = recalled.answers
        self.writer.add_scalar("accuracy of the latest answers", recalled.accuracy, recalled.answers)
        if recalled.answers - self.drawn >= EVERY:
            self.draw()

    def draw(self) -> None:
        """Shows who credited whom, unless nobody did."""
        entries = self.learner.credit_report().entries
        self.drawn = self.answers
        if entries:
            image = pixels_of(ledger_figure(self.title, entries, self.delay))
            self.writer.add_image("who credited whom", image, self.answers, dataformats="HWC")


command = partial(suite_command, Recall)

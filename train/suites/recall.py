"""The suite `online`: learners of one endless stream of delayed recall, of symbols or digits, at several delays."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from sab_agents.checks import at_least
from sab_agents.envs.datasets.digit_cues import CLASSES
from sab_agents.envs.supervised.cue_stream import Asked, CueStream
from sab_agents.envs.supervised.digit_recall import DigitStream
from sab_agents.envs.supervised.recall import RecallStream
from sab_agents.envs.supervised.task import Split
from sab_agents.online import OnlineLearner
from sab_agents.train.board import Board
from sab_agents.train.configuration import Settings, choices
from sab_agents.train.errors import UserError, one_line
from sab_agents.train.figures.canvas import pixels_of
from sab_agents.train.figures.ledger import ledger_figure, plot_ledger
from sab_agents.train.live import learner_lines, scalars_of
from sab_agents.train.suites.encoders import image_encoder
from sab_agents.train.suites.engine import Result, Shown, Suite, Work, suite_command
from sab_agents.train.suites.study import Column, Row, Study, check_sizes

EVERY, FIGURES_EVERY = 400, 100
"""Answers between two images in TensorBoard, and between two sets of figures."""
TEST_SEED = 10_000  # plus the learner's, so that a test's rounds are not those of training

Cues = Literal["symbols", "digits", "mnist"]
"""What must be recalled: one of a few symbols, or the class of an image."""


@dataclass(frozen=True)
class RecallConfig(Settings):
    """Settings of an experiment; a cell is one learner on one stream with one seed.

    Attributes:
        learners: for each name, arguments of `OnlineLearner` that the others do not share; `encoder: convolutions` is
            a small convolutional net, for cues that are images.
        delays: steps from a cue, or from the second of two, to the question.
        noises: standard deviations of the noise in between.
        asked: "newest" and "oldest" ask for that one of two cues in each round, null is a stream of one cue a round.
        shared: arguments of `OnlineLearner` that all learners share.
        rows: parallel streams of a cell.
        cues: "symbols" (`RecallStream`), "digits" or "mnist" (`DigitStream` of that data set's training images).
        pairs: whether a cue has two digits, of which a flag says which one counts; with images alone.
        symbols: number of symbols; a memoryless learner is right once in as many answers.
        distractors: number of tokens between a symbol and the question.
        says_starts: whether the learners are told where each round begins; they then empty their memory there.
        jitter: the fraction of the delay by which that of each round varies.
        min_delay: rounds draw their delays from this to that of the cell, evenly on a logarithmic scale; those of
            `test_delays` do not vary then. null for those of `jitter`.
        seeds: of learner and stream.
        recent: answers over which the accuracy is measured, at the end of a cell and against the target.
        target: a cell ends when this fraction of its `recent` last answers was right; null never ends it.
        answers: a cell ends after this many answers at the latest; one number, or one for each delay, since the cost of
            an answer grows with the delay.
        tests: answers about test images, which training never shows, from which nothing is learnt; with images alone.
        test_delays: other delays at which as many answers about test images are measured.
        threads: CPU threads.
    """

    learners: Mapping[str, Mapping[str, Any]] = field(metadata=choices("learner"))
    delays: tuple[int, ...]
    noises: tuple[float, ...] = (0.0,)
    asked: tuple[Asked | None, ...] = (None,)
    shared: Mapping[str, Any] = field(default_factory=dict)
    rows: int = 32
    cues: Cues = "symbols"
    pairs: bool = False
    symbols: int = 8
    distractors: int = 8
    says_starts: bool = True
    jitter: float = 0.0
    min_delay: int | None = None
    seeds: tuple[int, ...] = (0,)
    recent: int = 400
    target: float | None = 0.99
    answers: int | Mapping[int, int] = 1_500
    tests: int = 0
    test_delays: tuple[int, ...] = ()
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("rows", "symbols", "distractors", "recent", "threads"):
            at_least("online", name, getattr(self, name), 1)
        check_sizes("online", "answers", self.answers, self.delays)
        for name in ("learners", "delays", "noises", "asked", "seeds"):
            if not getattr(self, name):
                raise ValueError(f"online: {name} must have at least one entry, but is empty.")
        at_least("online", "tests", self.tests, 1 if self.of_images else 0)
        if self.tests and not self.of_images:
            raise ValueError("online: tests: all symbols are shown in training. Leave it out, or set cues to digits.")
        if self.pairs and not self.of_images:
            raise ValueError("online: pairs: a pair is of two images. Leave it out, or set cues to digits.")
        if self.test_delays and not self.of_images:
            raise ValueError(
                "online: test_delays: without images nothing is tested. Leave it out, or set cues to digits."
            )
        for name in ("symbols", "distractors") if self.of_images else ():
            if getattr(self, name) != getattr(RecallConfig, name):
                raise ValueError(f"online: {name} has no meaning with cues {self.cues}. Leave it out.")

    def answers_at(self, delay: int) -> int:
        """Returns the greatest number of answers of a cell at this delay."""
        return self.answers[delay] if isinstance(self.answers, Mapping) else self.answers

    @property
    def classes(self) -> int:
        """Classes of cues."""
        return CLASSES if self.of_images else self.symbols

    @property
    def of_images(self) -> bool:
        """Whether the cues are images, of which some are held out."""
        return self.cues != "symbols"

    def stream_settings(self) -> dict[str, Any]:
        """Returns the settings of the streams that all cells share and that are not the defaults."""
        names = ("cues", "pairs", "distractors", "says_starts", "jitter", "min_delay")
        shared = {name: getattr(self, name) for name in names}
        return {name: value for name, value in shared.items() if value != getattr(RecallConfig, name)}

    def stream(
        self, delay: int, noise: float, asked: Asked | None, *, seed: int, test: bool = False, drawn: bool = True
    ) -> CueStream:
        """Returns a stream of a cell; one for its test has images that the other has not.

        Unless delays are to be drawn from `min_delay` on, `delay` is that of all rounds, but for jitter.
        """
        rounds: dict[str, Any] = {
            **{"rows": self.rows, "noise": noise, "asked": asked, "seed": seed, "says_starts": self.says_starts},
            **{"jitter": self.jitter, "min_delay": self.min_delay if drawn else None},
        }
        if self.of_images:
            split: Split = "test" if test else "train"
            return DigitStream(delay, dataset=self.cues, pairs=self.pairs, split=split, **rounds)
        return RecallStream(delay, symbols=self.symbols, distractors=self.distractors, **rounds)


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
        cues: dict[str, Any] = {"tests": config.tests} if config.of_images else {"symbols": config.symbols}
        if config.test_delays:
            cues["test_delays"] = list(config.test_delays)
        return {
            "learner": {**config.shared, **config.learners[cell.learner]},
            "rows": config.rows,
            **cues,
            "target": config.target,
            "answers": config.answers_at(cell.delay),
            **recent,
            **config.stream_settings(),
        }

    def check(self, chains: Sequence[tuple[RecallCell, ...]]) -> None:
        """Builds each learner once."""
        for cell in {chain[0].learner: chain[0] for chain in chains}.values():
            self._learner(cell)

    def run(self, work: Work[RecallCell]) -> Iterator[tuple[RecallCell, dict[str, Any]]]:
        """Learns from one stream until the target is reached or the answers are used up.

        The result has the accuracy over the last answers, and how many answers, steps and seconds it took; with images
        also the accuracy about those that are held out. The folder gets a picture of the credit ledger of a SAB
        learner.
        """
        (cell,) = work.chain
        config = self.config
        torch.set_num_threads(config.threads)
        stream, learner = self._learner(cell)
        started, processor = time.perf_counter(), time.process_time()
        title = f"delay {cell.delay:,}, {self._name(cell.learner, cell.noise, cell.asked)}"
        with work.board(cell, self.cell_settings(cell)) as board:
            watch = _Watch(board, work.progress, title, learner, cell.delay, config.answers_at(cell.delay))
            recalled = learn_recall(
                learner,
                stream,
                target=config.target,
                answers=config.answers_at(cell.delay),
                recent=config.recent,
                watch=watch,
            )
            watch.finish()
        report = learner.credit_report()
        if report.entries:
            plot_ledger(work.picture(cell), title, report.entries, cell.delay)
        result = {
            **recalled._asdict(),
            "steps": learner.steps,
            "seconds": round(time.perf_counter() - started, 1),
            "processor_seconds": round(time.process_time() - processor, 1),
            "dropped": report.dropped,
        }
        if config.of_images:
            unseen: dict[tuple[int, bool], float] = {}
            tests = [(delay, False) for delay in config.test_delays]
            as_learnt = cell.delay, config.min_delay is not None
            for delay, drawn in dict.fromkeys([as_learnt, *tests]):
                seed = TEST_SEED + cell.seed
                stream = config.stream(delay, cell.noise, cell.asked, seed=seed, test=True, drawn=drawn)
                unseen[delay, drawn] = recall(learner, stream, config.tests)
            result["unseen"] = unseen[as_learnt]
            result["tests"] = {str(test[0]): unseen[test] for test in tests}
        yield cell, result

    def _learner(self, cell: RecallCell) -> tuple[CueStream, OnlineLearner]:
        config = self.config
        try:
            settings = learner_arguments(config.shared, config.learners[cell.learner])
            stream = config.stream(cell.delay, cell.noise, cell.asked, seed=1000 + cell.seed)
            features = stream.input_size
            if "encoder" in settings:
                if not isinstance(stream, DigitStream):
                    raise ValueError(f"encoder has no meaning with cues {config.cues}. Leave it out.")
                frames = stream.frames
                encoder = image_encoder(settings["encoder"], frames.shape, features - frames.pixels, cell.seed)
                settings |= {"encoder": encoder, "observation_shape": (features,)}
                features = encoder.features
            return stream, OnlineLearner(features, stream.classes, rows=config.rows, seed=cell.seed, **settings)
        except (TypeError, ValueError, OSError, ImportError) as error:
            raise UserError(f"{cell.learner}: {one_line(error)}") from error

    def line(self, cell: RecallCell, result: Result) -> str:
        """Returns the accuracy and what it took."""
        asked = "" if cell.asked is None else f"{cell.asked} of two, "
        unseen = f"{result['unseen']:.1%} of unseen images, " if "unseen" in result else ""
        return (
            f"{cell.learner}, delay {cell.delay:,}, noise {cell.noise:g}, {asked}seed {cell.seed}: {unseen}"
            f"{result['accuracy']:.1%} after {result['answers']:,} answers, {result['steps']:,} steps, "
            f"{result['seconds']:,.0f} s"
        )

    def study(self, results: Mapping[RecallCell, Result]) -> Study:
        """Returns the accuracies; with several noises, or of two cues, a learner at each counts as one of its own."""
        config = self.config
        starts = "Episode starts are given" if config.says_starts else "Episode starts are not given"
        if config.min_delay is not None:
            starts += f", and delays are drawn from {config.min_delay:,} steps on"
        steps = "steps of one row" if config.rows == 1 else f"steps of {config.rows} rows together"
        counts = {name: Column(name, "{:,.0f}") for name in ("answers", "steps", "seconds")}
        columns = {"accuracy": Column("accuracy", "{:.1%}", spread=True), **counts}
        most = list(dict.fromkeys(f"{config.answers_at(delay):,}" for delay in config.delays))
        until = f"{', '.join(most)} are given" if len(most) == 1 else f"{', '.join(most)} are given, by delay"
        if config.target is not None:
            until = f"it is {config.target:.0%} or {until}"
        measured = f"Accuracy of the last {config.recent} answers, of {config.symbols} symbols, until {until}; {steps}."
        if config.of_images:
            columns = {
                "unseen": Column("right of unseen digits", "{:.1%}", spread=True),
                "accuracy": Column("right in training", "{:.1%}"),
                **{name: counts[name] for name in ("answers", "steps")},
                "minutes": Column("minutes", "{:.1f}"),
            }
            measured = (
                f"Learnt from training images, until {until}; right in training: of the last {config.recent} answers. "
                f"Unseen digits: {config.tests:,} answers about test images, from which nothing is learnt; {steps}; "
                "minutes of processor time."
            )
        rows = tuple(
            Row(
                self._name(cell.learner, cell.noise, cell.asked),
                cell.delay,
                cell.seed,
                {
                    column.name: result["processor_seconds"] / 60 if name == "minutes" else result[name]
                    for name, column in columns.items()
                },
                result["reached"] if config.target is not None else None,
                tests=result.get("tests", {}),
            )
            for cell, result in results.items()
        )
        cue = "one of two digits" if config.pairs else "a digit"
        recalled = f"Recall of {cue} ({config.cues})" if config.of_images else "Delayed recall"
        return Study(
            title=f"{recalled} in an endless stream {'with' if config.says_starts else 'without'} episode starts",
            size="delay",
            values=config.delays,
            learners={
                self._name(learner, noise, asked): own
                for asked in config.asked
                for learner, own in config.learners.items()
                for noise in config.noises
            },
            shared=config.shared,
            columns=tuple(columns.values()),
            rows=rows,
            target=config.target,
            known={delay: {"best": 1.0, "memoryless": 1 / config.classes} for delay in config.delays},
            note=f"{starts}. {measured}",
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
    stream: CueStream,
    *,
    target: float | None,
    answers: int,
    recent: int = RecallConfig.recent,
    watch: Callable[[Recalled], None] = lambda _: None,
) -> Recalled:
    """Learns from a stream of delayed recall; each answer is given before it is learnt from.

    Args:
        learner: learns.
        stream: with as many rows.
        target: ends when this fraction of the `recent` last answers was right; None for never.
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
        reached = target is not None and len(latest) == recent and accuracy >= target
        recalled = Recalled(accuracy, recalled.answers + len(right), reached)
        watch(recalled)
    return recalled


def recall(learner: OnlineLearner, stream: CueStream, answers: int) -> float:
    """Returns the accuracy of at least this many answers, from which nothing is learnt; the learner's steps go on."""
    right: list[bool] = []
    while len(right) < answers:
        step = stream.step()
        if step.asked.any():
            predicted = learner.predict_many(step.x, step.episode_start)
            right += (predicted == step.y)[step.asked].tolist()
        learner.learn_many(step.x, None, step.episode_start)
    return float(np.mean(right))


def learner_arguments(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of an `OnlineLearner`: its own, and those of the shared ones that its core has.

    Raises:
        ValueError: there is no such core.
    """
    core = {"core": "sab", **shared, **own}["core"]
    return {**OnlineLearner.shared_settings(core, shared), **own}


class _Watch:
    """Shows one learner: what it does where the suite is watched, and on a board.

    The board has its accuracy after each answer, figures of its memory after every `FIGURES_EVERY`, and who credited
    whom after every `EVERY`.
    """

    def __init__(self, board: Board, shown: Shown, title: str, learner: OnlineLearner, delay: int, most: int) -> None:
        self.board, self.shown, self.title, self.learner = board, shown, title, learner
        self.delay, self.most = delay, most
        self.drawn = self.answers = 0

    def __call__(self, recalled: Recalled) -> None:
        before, self.answers = self.answers, recalled.answers
        self.board.scalars({"accuracy of the latest answers": recalled.accuracy}, recalled.answers)
        if self.answers // FIGURES_EVERY > before // FIGURES_EVERY:
            self.board.scalars(scalars_of(self.learner), self.answers)
        self.shown(self.answers / self.most, f"{recalled.accuracy:.1%} right", self.lines)
        if self.answers - self.drawn >= EVERY:
            self.draw()

    def lines(self) -> list[str]:
        """Returns what is shown beside the accuracy."""
        return [f"{self.title}, {self.answers:,} answers", *learner_lines(self.learner)]

    def finish(self) -> None:
        """Draws what was answered since the last picture."""
        if self.answers > self.drawn:
            self.draw()

    def draw(self) -> None:
        """Shows who credited whom, unless nobody did."""
        entries = self.learner.credit_report().entries
        self.drawn = self.answers
        if entries:
            image = pixels_of(ledger_figure(self.title, entries, self.delay))
            self.board.image("who credited whom", image, self.answers)


suite = Recall
command = partial(suite_command, suite)

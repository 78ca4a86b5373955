"""`sab-agents bench stream`: the cost of a learned step of an endless stream, and whether it stays constant.

One stream, H = 64, 64 slots, top_k 4, bptt_steps 8, an update every 8 steps, a label at every step, one thread; beside
it a truncated LSTM at the same settings. With `--steps` one stream is learnt for this many steps, and the time of a
step and the memory of the process are recorded.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from sab_agents import OnlineLearner
from sab_agents.kernels import forced_kernel, kernel_in_use
from sab_agents.streaming import SABStream
from sab_agents.train.bench.stream_long import LINES, Course, Draw, check_length, follow, plot
from sab_agents.train.bench.timing import Work
from sab_agents.train.commands.arguments import Parser, at_least_one
from sab_agents.train.output import terminal, write_json
from sab_agents.train.progress import Progress

INPUTS, CLASSES, ROWS = 8, 4, 32
SIZES: dict[str, Any] = {"hidden_size": 64, "capacity": 64, "top_k": 4, "bptt_steps": 8, "update_every": 8}
EVERY: dict[str, Any] = {"write": "every", "eviction": "oldest"}
"""The paper's rule of writing: every step's state is stored, so that every slot is always filled and all bookkeeping is
done at each step."""
BATCH = 64
"""Calls in one timed round."""


@dataclass(frozen=True)
class StreamRow:
    """One side, microseconds for one call: medians and spread of the wall clock, and the median of processor time."""

    side: str
    kernel: str
    microseconds: float
    low: float
    high: float
    processor: float


def command(arguments: Sequence[str]) -> int:
    """Runs the benchmark and prints its figures."""
    parser = Parser("bench stream", "Times learning from an endless stream, one thread, and follows a long one.")
    parser.add_argument("--rounds", type=at_least_one, default=40, help="timed rounds of each side; default: 40")
    parser.add_argument(
        "--steps", type=at_least_one, metavar="N", help="also follow one stream for N steps, from 20000"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the long stream to this PNG")
    given = parser.parse(arguments)
    if given.steps is not None:
        check_length(given.steps)
    console, threads = terminal(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = measure(given.rounds)
        print_rows(console, rows)
        course = None if given.steps is None else follow(lambda: (learner(**EVERY), endless()), given.steps)
    finally:
        torch.set_num_threads(threads)
    facts: dict[str, Any] = {"sizes": SIZES, "threads": 1, "rows": [asdict(row) for row in rows]}
    if course is not None:
        print_course(console, course)
        facts["course"] = course.to_json()
        if given.plot is not None:
            plot(course, given.plot)
    if given.json is not None:
        write_json(given.json, facts)
    return 0


def learner(core: str = "sab", **settings: Any) -> OnlineLearner:
    """Returns the learner that is timed."""
    return OnlineLearner(INPUTS, CLASSES, core=core, **OnlineLearner.shared_settings(core, SIZES), **settings)


def repeated() -> tuple[Any, list[int]]:
    """Returns inputs (T, I) and classes of a stream that is repeated."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((4096, INPUTS), dtype=np.float32), rng.integers(0, CLASSES, 4096).tolist()


def endless() -> Draw:
    """Returns a function that draws the next steps of a stream: the class is the largest input of the step before.

    Something must be learnable, soon and for good, so that what is read, and so how much is replayed, stays similar.
    """
    rng = np.random.default_rng(0)

    def draw(length: int = 4096) -> tuple[Any, list[int]]:
        x = rng.standard_normal((length, INPUTS), dtype=np.float32)
        return x, np.roll(x[:, :CLASSES].argmax(axis=1), 1).tolist()

    return draw


def measure(rounds: int) -> list[StreamRow]:
    """Times every side in turn, with each kernel."""
    kernel = kernel_in_use("cpu", torch.float32)
    sides: dict[tuple[str, str], Work] = {}
    for way in dict.fromkeys([kernel, "torch"]):
        makers: dict[str, Callable[[], Work]] = {
            "learn_one": lambda: learning(learner()),
            "predict_one and learn_one": lambda: learning(learner(), predicts=True),
            "learn_one, every step written": lambda: learning(learner(**EVERY)),
            "predict_one": lambda: predicting(learner()),
            f"acting, {ROWS} rows, each step": lambda: acting(learner(rows=ROWS, **EVERY)),
            "replay of 1 piece": lambda: replaying(1),
            "replay of 8 pieces at once": lambda: replaying(8),
            "LSTM, truncated BPTT: learn_one": lambda: learning(learner(core="lstm_tbptt")),  # "torch" is nn.LSTM
        }
        for name, make in makers.items():
            sides[name, way] = make() if way == kernel else within(way, make)
    return timed(sides, rounds)


def within(way: str, make: Callable[[], Work]) -> Work:
    """Returns the work of `make`, computed with one kernel."""
    with forced_kernel(way):
        work = make()

    def forced() -> None:
        with forced_kernel(way):
            work()

    return forced


def timed(sides: Mapping[tuple[str, str], Work], rounds: int) -> list[StreamRow]:
    """Times the sides in turn."""
    wall: dict[tuple[str, str], list[float]] = {side: [] for side in sides}
    processor: dict[tuple[str, str], list[float]] = {side: [] for side in sides}
    with Progress("timing", transient=True) as bar:
        for number in range(rounds + 1):
            bar.update(number / (rounds + 1), f"round {number} of {rounds}")
            for side, work in sides.items():
                start, used = time.perf_counter(), time.process_time()
                work()
                if number > 0:  # the first round warms up
                    wall[side].append(1e6 * (time.perf_counter() - start) / BATCH)
                    processor[side].append(1e6 * (time.process_time() - used) / BATCH)
    return [
        StreamRow(*side, statistics.median(times), min(times), max(times), statistics.median(processor[side]))
        for side, times in wall.items()
    ]


def learning(model: OnlineLearner, *, predicts: bool = False) -> Work:
    """Returns BATCH learned steps, after enough steps to fill every slot."""
    x, y = repeated()
    place = 0

    def work() -> None:
        nonlocal place
        for _ in range(BATCH):
            if predicts:
                model.predict_one(x[place])
            model.learn_one(x[place], y[place])
            place = (place + 1) % len(y)

    for _ in range(2 * SIZES["capacity"] // BATCH):
        work()
    return work


def predicting(model: OnlineLearner) -> Work:
    """Returns BATCH predictions of different inputs."""
    learning(model)
    x, _ = repeated()

    def work() -> None:
        for index in range(BATCH):
            model.predict_one(x[index])

    return work


def acting(model: OnlineLearner) -> Work:
    """Returns BATCH steps of all rows without a label, from full memories."""
    x = torch.randn(2 * BATCH, ROWS, INPUTS).numpy()
    place = 0

    def work() -> None:
        nonlocal place
        for _ in range(BATCH):
            model.learn_many(x[place])
            place = (place + 1) % len(x)

    work()
    work()
    return work


def replaying(pieces: int) -> Work:
    """Returns BATCH replays for a gradient that reached slots of this many pieces."""
    model = learner(**EVERY)
    learning(model)()
    stream = model.stream
    assert isinstance(stream, SABStream)
    gradient = torch.zeros_like(stream.state.memory)
    gradient[:, :: stream.state.slots // pieces] = 1e-6  # slots of one piece lie side by side

    def work() -> None:
        for _ in range(BATCH):
            stream.credit(gradient)
        for parameter in model.parameters:
            parameter.grad = None

    return work


def print_rows(console: Console, rows: Sequence[StreamRow]) -> None:
    """Prints the table."""
    console.print(f"torch {torch.__version__}, CPU, float32, one thread; input size {INPUTS}")
    console.print(", ".join(f"{name} {value}" for name, value in SIZES.items()) + "; a label at every step")
    print_table(console, rows)


def print_table(console: Console, rows: Sequence[StreamRow]) -> None:
    """Prints the rows alone."""
    table = Table(title="One call, microseconds, medians (spread)")
    for heading in ("side", "kernel", "µs", "spread", "processor time"):
        table.add_column(heading, no_wrap=True, justify="left" if heading in {"side", "kernel"} else "right")
    for row in rows:
        spread = f"{row.low:.0f} to {row.high:.0f}"
        table.add_row(row.side, row.kernel, f"{row.microseconds:.0f}", spread, f"{row.processor:.0f}")
    console.print(table)


def print_course(console: Console, course: Course) -> None:
    """Prints the course of the long stream."""
    title = f"One stream of {course.steps:,} learned steps, every step written: microseconds a step"
    table = Table(title=title, title_justify="left")
    for heading in ("tenth", "wall clock", "processor time", "its quietest part", "replays in a window"):
        table.add_column(heading, justify="right")
    windows = course.steps / SIZES["update_every"] / 10
    quietest = course.quietest()
    parts = zip(course.tenths("wall"), course.tenths("processor"), quietest, np.split(course.pieces, 10), strict=True)
    for number, (*times, pieces) in enumerate(parts):
        table.add_row(str(number + 1), *(f"{value:.1f}" for value in times), f"{pieces.sum() / windows:.2f}")
    console.print(table)
    for name, (label, _) in LINES.items():
        tenths = course.tenths(name)
        console.print(f"last tenth / first tenth, {label}: {tenths[-1] / tenths[0]:.3f}")
    console.print(f"last tenth / first tenth, their quietest parts: {quietest[-1] / quietest[0]:.3f}")
    for name, (label, _) in LINES.items():
        console.print(f"last tenth / a young stream's first tenth, in turns, {label}: {course.aged(name):.3f}")
    if course.growth is not None:
        console.print(f"resident memory after 10,000 steps and at the end: {course.growth:+,} KiB")

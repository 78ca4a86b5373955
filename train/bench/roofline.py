"""`sab-agents bench scan`: the scan over its whole range beside nn.LSTM, and what of the machine it reaches.

Dimensions: T steps, B rows, H hidden size (inputs have size H too), S slots, A attention size.

A roofline bounds what is computed in a second: by the operations of a large matrix product, and by the bytes that come
from memory. Both are measured, on one thread and on all. Every call is forward and backward, from a full memory.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from sab_agents.core.recipes import DEFAULT, RECIPES
from sab_agents.train.bench.scaling_work import LSTM, SABS, TRAINING, Size, make_work
from sab_agents.train.bench.timing import Work, in_turn, thread_counts
from sab_agents.train.commands.arguments import Parser, at_least_one
from sab_agents.train.errors import UserError
from sab_agents.train.figures.canvas import BLUE, GREEN, ORANGE, PURPLE, VERMILION, panels, tidy
from sab_agents.train.output import terminal, write_json, writing

LEAST_SECONDS = 4e-3
"""Shorter calls are repeated until a timing takes as long."""

PRODUCT_SIZE, COPIED_FLOATS = 1024, 1 << 25
BOUND = 0.5
"""The fraction of a bound from which on it is said to bind."""

FLOAT = 4  # bytes


@dataclass(frozen=True)
class Peak:
    """What the machine does at most on some threads, measured.

    Attributes:
        operations: multiplications and additions a second in a matrix product, (1024, 1024) · (1024, 1024).
        bytes: read and written a second in copying 128 MB.
    """

    operations: float
    bytes: float


def measure_peaks(*, shared: bool) -> dict[int, Peak]:
    """Returns the peak for each thread count, the best of some repeats; `shared` as for `in_turn`."""
    a, b, c = (torch.rand(PRODUCT_SIZE, PRODUCT_SIZE) for _ in range(3))
    source, target = torch.rand(COPIED_FLOATS), torch.rand(COPIED_FLOATS)
    before, found = torch.get_num_threads(), {}
    try:
        for threads in [1] if shared else thread_counts():
            torch.set_num_threads(threads)
            multiply = _fastest(lambda: torch.mm(a, b, out=c), shared=shared)
            copy = _fastest(lambda: target.copy_(source), shared=shared)
            found[threads] = Peak(2 * PRODUCT_SIZE**3 / multiply, 2 * FLOAT * COPIED_FLOATS / copy)
    finally:
        torch.set_num_threads(before)
    return found


def _seconds(work: Work, *, shared: bool) -> float:
    clock = time.process_time if shared else time.perf_counter
    start = clock()
    work()
    return clock() - start


def _fastest(work: Work, *, shared: bool, repeats: int = 12) -> float:
    return min(_seconds(work, shared=shared) for _ in range(repeats))


@dataclass(frozen=True)
class Amount:
    """What a call computes and moves at least.

    Attributes:
        products: multiplications and additions in products with weights.
        scores: the same in scores; one of "mlp" counts as one of "dot".
        bytes: that steps leave for the backward pass or for the weights, and that are read again; of long sequences
            that is more than a cache holds.
    """

    products: float
    scores: float
    bytes: float

    @property
    def operations(self) -> float:
        """All multiplications and additions."""
        return self.products + self.scores


def amount(side: str, size: Size, attention_size: int) -> Amount:
    """Returns what a call of one side takes. The inputs want no gradient.

    The LSTM has two products forward and three backward, each 8 · T · B · H² operations, and moves 4H gates and their
    gradients twice, and x, c and h. A SAB has three more for each of keys and queries, of size A, and those of the
    starting memory's keys.
    """
    T, B, H, S, A = size.steps, size.batch, size.hidden_size, size.slots, attention_size
    lstm, moved = 5 * 8 * T * B * H * H, FLOAT * T * B * H * (4 * 4 + 8)
    if side == LSTM:
        return Amount(lstm, 0, moved)
    beside = 2 * A * H * B * (3 * T + 3 * T + S)
    return Amount(lstm + beside, 2 * T * B * S * A, moved + FLOAT * B * (T * (8 * H + 4 * A) + 2 * S * H))


@dataclass(frozen=True)
class Cell:
    """One side at one size.

    Attributes:
        size: T, B, H, S.
        side: the implementation.
        seconds: of a call, the median.
        threads: the side's best.
        ratios: to nn.LSTM, round by round.
        amount: what a call takes.
        peak: of the machine on as many threads.
    """

    size: Size
    side: str
    seconds: float
    threads: int
    ratios: list[float]
    amount: Amount
    peak: Peak

    @property
    def ratio(self) -> float:
        """The median of the ratios to nn.LSTM."""
        return statistics.median(self.ratios)

    @property
    def of_peak(self) -> float:
        """The fraction of the peak of a matrix product."""
        return self.amount.operations / self.seconds / self.peak.operations

    @property
    def of_bandwidth(self) -> float:
        """The fraction of the measured bandwidth."""
        return self.amount.bytes / self.seconds / self.peak.bytes

    @property
    def binds(self) -> str:
        """What limits it: "arithmetic", "memory", "scores", or "steps", the latency of many small operations."""
        if max(self.of_peak, self.of_bandwidth) >= BOUND:
            return "arithmetic" if self.of_peak >= self.of_bandwidth else "memory"
        return "scores" if self.amount.scores > self.amount.products else "steps"

    def as_json(self) -> dict[str, Any]:
        """Returns the cell as JSON holds it."""
        return asdict(self.size) | {
            "side": self.side,
            "milliseconds": round(1e3 * self.seconds, 4),
            "threads": self.threads,
            "ratio_to_lstm": round(self.ratio, 3),
            "low": round(min(self.ratios), 3),
            "high": round(max(self.ratios), 3),
            "of_peak": round(self.of_peak, 3),
            "of_bandwidth": round(self.of_bandwidth, 3),
            "binds": self.binds,
        }


def measure(
    sizes: Sequence[Size],
    settings: dict[str, Any],
    rounds: int,
    peaks: Mapping[int, Peak],
    report: Callable[[str], None],
    *,
    shared: bool = False,
) -> list[Cell]:
    """Times all sides at all sizes; those that differ in S alone share one race and its nn.LSTM.

    Args:
        sizes: of the measurements.
        settings: SAB's, without its capacity.
        rounds: timed rounds of each side.
        peaks: of the machine.
        report: called with a text that says what is being measured.
        shared: as for `in_turn`.
    """
    shapes: dict[tuple[int, int, int], list[Size]] = {}
    for size in sizes:
        shapes.setdefault((size.batch, size.hidden_size, size.steps), []).append(size)
    cells = []
    for shape, those in shapes.items():
        report(f"timing (B, H, T) = {shape} …")
        works = {(LSTM, those[0]): _lasting(make_work(LSTM, TRAINING, those[0], settings), shared=shared)}
        for side, size in product(SABS, those):
            works[side, size] = _lasting(make_work(side, TRAINING, size, settings), shared=shared)
        found = in_turn({key: work for key, (work, _) in works.items()}, rounds, shared=shared)
        lstm, of_lstm = found[LSTM, those[0]], works[LSTM, those[0]][1]
        for (side, size), timed in found.items():
            times = works[side, size][1]
            cells.append(
                Cell(
                    size=size,
                    side=side,
                    seconds=timed.timing.seconds / times,
                    threads=timed.threads,
                    ratios=[ratio * of_lstm / times for ratio in timed.ratios(lstm)],
                    amount=amount(side, size, settings["attention_size"]),
                    peak=peaks[timed.threads],
                )
            )
    return cells


def _lasting(work: Work, *, shared: bool) -> tuple[Work, int]:
    """Returns the work, as often as makes it last, and how often that is."""
    work()
    times = max(1, round(LEAST_SECONDS / _fastest(work, shared=shared, repeats=2)))

    def repeated() -> None:
        for _ in range(times):
            work()

    return repeated, times


def command(arguments: Sequence[str]) -> int:
    """Times the scan over a grid."""
    parser = Parser(
        "bench scan", "Times forward and backward over a grid of sizes, from full memories, beside nn.LSTM."
    )
    for name, default, about in (
        ("hidden-sizes", [64, 128, 256, 512, 1024], "H"),
        ("batches", [1, 8, 32, 256], "B"),
        ("steps", [20, 200, 1000], "T"),
        ("slots", [16, 64, 256], "S"),
    ):
        text = f"values of {about}; default: {' '.join(map(str, default))}"
        parser.add_argument(f"--{name}", type=at_least_one, nargs="+", default=default, metavar="N", help=text)
    parser.add_argument("--rounds", type=at_least_one, default=5, help="timed rounds of each side; default: 5")
    parser.add_argument("--attention-size", type=at_least_one, default=32, metavar="A", help="of SAB; default: 32")
    parser.add_argument("--recipe", choices=tuple(RECIPES), default=DEFAULT, help=f"of SAB; default: {DEFAULT}")
    limit = "leave out calls of more than N billion operations; default: 20"
    parser.add_argument("--most", type=at_least_one, default=20, metavar="N", help=limit)
    alone = "one thread's processor time, for cores on which other programs run"
    parser.add_argument("--shared", action="store_true", help=alone)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the roofline and the ratios, as PNG or SVG")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    given = parser.parse(arguments)
    settings = {"attention_size": given.attention_size, "top_k": 5, "bptt_steps": 5, "recipe": given.recipe}
    grid = product(given.steps, given.batches, given.hidden_sizes, given.slots)
    sizes = [size for size in (Size(*each) for each in grid) if within(size, given.attention_size, 1e9 * given.most)]
    if not sizes:
        raise UserError("sab-agents bench scan: no call is as small as --most. Choose smaller sizes or a larger limit.")
    console = terminal()
    with console.status("measuring the machine …") as status:
        peaks = measure_peaks(shared=given.shared)
        cells = measure(sizes, settings, given.rounds, peaks, status.update, shared=given.shared)
    for threads, peak in peaks.items():
        reached = f"{peak.operations / 1e9:.0f} GFLOP/s in a matrix product, {peak.bytes / 1e9:.0f} GB/s in copying"
        console.print(f"threads {threads}: {reached}")
    console.print(table(cells))
    if given.plot is not None:
        plot(cells, peaks, given.plot)
    if given.json is not None:
        machine = {threads: asdict(peak) for threads, peak in peaks.items()}
        write_json(given.json, {"settings": settings, "peaks": machine, "rows": [cell.as_json() for cell in cells]})
    return 0


def within(size: Size, attention_size: int, limit: float) -> bool:
    """Returns whether no side has more operations than the limit at this size."""
    return amount(SABS[0], size, attention_size).operations <= limit


def table(cells: Sequence[Cell]) -> Table:
    """Returns all cells as a table."""
    found = Table(title="Forward + backward, medians; ratios to nn.LSTM of pairs (spread)")
    for heading in ("B, H, T", "side"):
        found.add_column(heading, no_wrap=True)
    for heading in ("S", "ms", "threads", "/ nn.LSTM", "of peak", "of bandwidth"):
        found.add_column(heading, justify="right", no_wrap=True)
    found.add_column("binds", no_wrap=True)
    for cell in cells:
        size, sab = cell.size, cell.side != LSTM
        if not sab:
            found.add_section()
        found.add_row(
            "" if sab else f"{size.batch}, {size.hidden_size}, {size.steps}",
            cell.side,
            f"{size.slots:,}" if sab else "",
            f"{1e3 * cell.seconds:.2f}",
            str(cell.threads),
            f"{cell.ratio:.2f} ({min(cell.ratios):.2f} … {max(cell.ratios):.2f})" if sab else "",
            f"{cell.of_peak:.0%}",
            f"{cell.of_bandwidth:.0%}",
            cell.binds,
        )
    return found


COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE)
MARKERS = {LSTM: "s", "SAB mlp": "o", "SAB dot": "^"}


def plot(cells: Sequence[Cell], peaks: Mapping[int, Peak], path: Path) -> None:
    """Plots the operations a second of each cell below the roofs, and the ratios to nn.LSTM against H.

    Args:
        cells: of the measurement.
        peaks: of the machine.
        path: of the picture; its suffix says which kind.

    Raises:
        UserError: the file cannot be written.
    """
    canvas, (roofs, ratios) = panels(11, 4.6, columns=2)
    hidden_sizes = sorted({cell.size.hidden_size for cell in cells})
    for number, H in enumerate(hidden_sizes):
        colour = COLOURS[number % len(COLOURS)]
        for side, marker in MARKERS.items():
            those = [cell for cell in cells if (cell.side, cell.size.hidden_size) == (side, H)]
            intensity = [cell.amount.operations / cell.amount.bytes for cell in those]
            reached = [cell.amount.operations / cell.seconds / 1e9 for cell in those]
            look: dict[str, Any] = {"s": 18, "marker": marker, "color": colour, "linewidths": 0, "alpha": 0.7}
            label = f"H = {H}" if side == SABS[0] else None
            roofs.scatter(intensity, reached, label=label, **look)
            if side != LSTM:
                place = [H * (0.93 if side == SABS[0] else 1.07)] * len(those)
                ratios.scatter(place, [cell.ratio for cell in those], **look)
    lowest, highest = (limit(cell.amount.operations / cell.amount.bytes for cell in cells) for limit in (min, max))
    for threads, peak in peaks.items():
        ridge = peak.operations / peak.bytes
        xs = [min(lowest, ridge) / 2, ridge, max(highest, ridge) * 2]
        ys = [xs[0] * peak.bytes / 1e9, peak.operations / 1e9, peak.operations / 1e9]
        roofs.plot(xs, ys, color="#000000", linewidth=1, linestyle="-" if threads == 1 else "--")
        roofs.annotate(f"threads: {threads}", (xs[2], ys[2]), fontsize=8, ha="right", va="bottom")
    for axes in (roofs, ratios):
        axes.set_xscale("log")
        axes.set_yscale("log")
    tidy(roofs, "Roofline: forward + backward", "operations for each byte from memory", "billion operations a second")
    roofs.legend(frameon=False, fontsize=9, title="square: nn.LSTM; circle: mlp; triangle: dot", title_fontsize=8)
    tidy(ratios, "Time in units of nn.LSTM's: mlp left, dot right", "H", "ratio")
    ratios.set_xticks(hidden_sizes, [str(H) for H in hidden_sizes])
    marks = [mark for mark in (0.5, 1, 1.5, 2, 3, 5, 8) if mark <= 1.3 * max(cell.ratio for cell in cells)]
    ratios.set_yticks(marks, [f"{mark:g}" for mark in marks])
    ratios.minorticks_off()
    ratios.axhline(1, color="#000000", linewidth=1)
    with writing(path):
        canvas.savefig(path)

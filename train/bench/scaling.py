"""`sab-agents bench scaling`: the cost of a step, and the memory of inference, as T, rows, slots and H grow.

Dimensions: T steps, B rows, H hidden size (inputs have size H too), S slots.

All sizes and all sides of one pass take turns in one race, so that the ratio of two sizes is as fair as that of two
sides. Every run starts from a full memory, so that all of its steps cost the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.table import Table

from sab_agents.kernels import kernel_in_use
from sab_agents.train.bench.memory import peaks
from sab_agents.train.bench.scaling_work import (
    CHUNK,
    CHUNKED,
    INFERENCE,
    LSTM,
    PLAIN_LOOPS,
    SABS,
    TRAINING,
    Size,
    make_work,
)
from sab_agents.train.bench.timing import Timing, Work, race

NAMES = {"steps": "T", "batch": "B", "hidden_size": "H", "slots": "slots"}
TORCH_STEPS = 10_000
"""T up to which SAB in plain torch is timed: 100,000 steps would take most of a minute in every round."""


@dataclass(frozen=True)
class Axis:
    """One dimension that grows while the others are constant.

    Attributes:
        field: the dimension, a field of `Size`.
        sizes: from the smallest to the largest.
        passes: what is run at each size.
        base: the value of the dimension that the others are compared with.
        loop_until: largest value at which the plain loop is timed too.
        least_steps: short runs are repeated until a timing has this many steps.
    """

    field: str
    sizes: tuple[Size, ...]
    passes: tuple[str, ...]
    base: int
    loop_until: int
    least_steps: int

    def value(self, size: Size) -> int:
        """Returns the growing dimension at one size."""
        return int(getattr(size, self.field))


AXES = (
    Axis(
        "steps",
        tuple(Size(T, 1, 64, 64) for T in (100, 1_000, 10_000, 100_000)),
        (INFERENCE, CHUNKED, TRAINING),
        base=1_000,
        loop_until=1_000,
        least_steps=5_000,
    ),
    Axis(
        "batch",
        tuple(Size(200, B, 64, 64) for B in (1, 4, 16, 64, 256)),
        (INFERENCE, TRAINING),
        base=1,
        loop_until=1,
        least_steps=600,
    ),
    Axis(
        "slots",
        tuple(Size(200, 8, 64, S) for S in (16, 64, 256, 1024, 4096)),
        (INFERENCE, TRAINING),
        base=64,
        loop_until=256,
        least_steps=600,
    ),
    Axis(
        "hidden_size",
        tuple(Size(200, 8, H, 64) for H in (32, 64, 128, 256, 512)),
        (INFERENCE, TRAINING),
        base=64,
        loop_until=128,
        least_steps=600,
    ),
)


@dataclass(frozen=True)
class Figure:
    """One side at one size: the cost of a step, beside its peers and beside another size in the same race.

    Attributes:
        size: T, B, H, S.
        what: the pass.
        side: the implementation.
        timing: of one step of all rows.
        to_base: ratio to the same side at the axis's base.
        to_lstm: ratio to nn.LSTM at this size.
        to_loop: ratio to the plain loop at this size, None if it was not timed.
        extra_bytes: peak memory of inference beyond its inputs and outputs; None if it was not measured.
    """

    size: Size
    what: str
    side: str
    timing: Timing
    to_base: float
    to_lstm: float
    to_loop: float | None
    extra_bytes: int | None

    def as_json(self) -> dict[str, Any]:
        """Returns the figure as JSON holds it."""
        return asdict(self.size) | {
            "pass": self.what,
            "side": self.side,
            "microseconds_per_step": round(1e6 * self.timing.seconds, 4),
            "low": round(1e6 * self.timing.low, 4),
            "high": round(1e6 * self.timing.high, 4),
            "threads": self.timing.threads,
            "ratio_to_base": round(self.to_base, 3),
            "ratio_to_lstm": round(self.to_lstm, 3),
            "ratio_to_plain_loop": None if self.to_loop is None else round(self.to_loop, 4),
            "peak_extra_bytes": self.extra_bytes,
        }


def measure(axis: Axis, settings: dict[str, Any], rounds: int, report: Callable[[str], None]) -> list[Figure]:
    """Times all sides at all sizes of an axis, and measures the memory of inference.

    Args:
        axis: what grows.
        settings: SAB's, without its capacity.
        rounds: timed rounds of each side.
        report: called with a text that says what is being measured.
    """
    sizes = axis.sizes
    if kernel_in_use("cpu", torch.float32) == "torch":
        sizes = tuple(size for size in sizes if size.steps <= TORCH_STEPS)
    figures = []
    for what in axis.passes:
        report(f"timing {what}, {axis.field} from {axis.value(sizes[0]):,} to {axis.value(sizes[-1]):,} …")
        timings = _race(axis, sizes, what, settings, rounds)
        jobs = [] if what == TRAINING else [(side, what, size) for side in (LSTM, *SABS) for size in sizes]
        extra = dict(zip([(side, size) for side, _, size in jobs], peaks(jobs, settings) if jobs else [], strict=True))
        for side, size in timings:
            seconds = timings[side, size].seconds
            loop = timings.get((side.replace("SAB", "plain loop"), size)) if side in SABS else None
            base = next(timings[key].seconds for key in timings if key[0] == side and axis.value(key[1]) == axis.base)
            figures.append(
                Figure(
                    size=size,
                    what=what,
                    side=side,
                    timing=timings[side, size],
                    to_base=seconds / base,
                    to_lstm=seconds / timings[LSTM, size].seconds,
                    to_loop=None if loop is None else seconds / loop.seconds,
                    extra_bytes=extra.get((side, size)),
                )
            )
    return figures


def _race(
    axis: Axis, sizes: tuple[Size, ...], what: str, settings: dict[str, Any], rounds: int
) -> dict[tuple[str, Size], Timing]:
    """Returns the time of one step of each side at each size."""
    works: dict[tuple[str, Size], Work] = {}
    steps: dict[tuple[str, Size], int] = {}
    for side in (LSTM, *SABS, *PLAIN_LOOPS):
        for size in sizes:
            if side in PLAIN_LOOPS and axis.value(size) > axis.loop_until:
                continue
            times = 1 if side in PLAIN_LOOPS else -(-axis.least_steps // size.steps)
            works[side, size] = _repeated(make_work(side, what, size, settings), times)
            steps[side, size] = times * size.steps
    return {key: timing.of_each(steps[key]) for key, timing in race(works, rounds).items()}


def _repeated(work: Work, times: int) -> Work:
    def repeated() -> None:
        for _ in range(times):
            work()

    return repeated


def scaling_table(axis: Axis, figures: Sequence[Figure]) -> Table:
    """Returns the figures of one axis: a block for each pass and side; the plain loop appears only as a ratio."""
    grows = NAMES[axis.field]
    others = (f"{name} = {getattr(axis.sizes[0], field):,}" for field, name in NAMES.items() if field != axis.field)
    table = Table(
        title=f"Growing {grows}: {', '.join(others)}; a step of all rows, medians (spread)",
        caption=f"in chunks: calls of at most {CHUNK:,} steps, the state carried; "
        "MB: peak memory of inference beyond inputs, weights and outputs",
    )
    table.add_column("pass", no_wrap=True)
    table.add_column("side", no_wrap=True)
    for heading in (grows, "µs a step", "spread", "threads", f"/ {axis.base:,}", "/ nn.LSTM", "/ plain loop", "MB"):
        table.add_column(heading, justify="right", no_wrap=heading in (grows, "spread", f"/ {axis.base:,}"))
    last = None
    for figure in figures:
        block = figure.what, figure.side
        if figure.side in PLAIN_LOOPS:
            continue
        if last is not None and block != last:
            table.add_section()
        timing = figure.timing
        table.add_row(
            *(("", "") if block == last else (figure.what, figure.side)),
            f"{axis.value(figure.size):,}",
            f"{1e6 * timing.seconds:.2f}",
            f"{1e6 * timing.low:.2f} to {1e6 * timing.high:.2f}",
            str(timing.threads),
            f"{figure.to_base:.2f}",
            f"{figure.to_lstm:.2f}",
            "" if figure.to_loop is None else f"{figure.to_loop:.3f}",
            "" if figure.extra_bytes is None else f"{figure.extra_bytes / 1e6:.1f}",
        )
        last = block
    return table

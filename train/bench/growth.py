"""How the cost of a step grows with each dimension: measured exponents beside those that the arithmetic has.

A cost that is proportional to n^p has the exponent p, the slope of its logarithm over that of n.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from rich.table import Table

from sab_agents.train.bench.scaling import NAMES, Axis, Figure
from sab_agents.train.bench.scaling_work import LSTM, PLAIN_LOOPS, TRAINING
from sab_agents.train.figures.canvas import log_ticks, panels, tidy
from sab_agents.train.output import writing

EXPECTED: Mapping[str, float] = MappingProxyType({"steps": 0, "batch": 1, "slots": 1, "hidden_size": 2})
"""Exponents of one step of all rows where the dimension dominates: of slots, beyond what the LSTM costs."""


@dataclass(frozen=True)
class Growth:
    """How one side's cost grows along an axis, in one pass.

    Attributes:
        field: of the axis.
        what: the pass.
        side: the implementation.
        exponent: over all sizes, by least squares.
        last: between the two largest sizes.
        expected: of the arithmetic.
    """

    field: str
    what: str
    side: str
    exponent: float
    last: float
    expected: float


def growths(axis: Axis, figures: Sequence[Figure]) -> list[Growth]:
    """Returns the exponents of all sides and passes of an axis; of plain loops none, which few sizes have."""
    found = []
    for what, side in dict.fromkeys((figure.what, figure.side) for figure in figures):
        sizes, costs = _course(axis, figures, what, side)
        if side in PLAIN_LOOPS or (side == LSTM and axis.field == "slots") or len(sizes) < 2:
            continue
        slope = float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])
        last = math.log(costs[-1] / costs[-2]) / math.log(sizes[-1] / sizes[-2])
        found.append(Growth(axis.field, what, side, slope, last, EXPECTED[axis.field]))
    return found


def _course(axis: Axis, figures: Sequence[Figure], what: str, side: str) -> tuple[list[int], list[float]]:
    """Returns the sizes of one side in one pass, and microseconds a step at each."""
    chosen = [figure for figure in figures if (figure.what, figure.side) == (what, side)]
    return [axis.value(figure.size) for figure in chosen], [1e6 * figure.timing.seconds for figure in chosen]


def growth_table(found: Sequence[Growth]) -> Table:
    """Returns the exponents as a table."""
    table = Table(
        title="Growth of a step of all rows: exponents",
        caption="expected: of the arithmetic alone, where the dimension dominates",
    )
    for heading in ("grows", "pass", "side"):
        table.add_column(heading, no_wrap=True)
    for heading in ("all sizes", "two largest", "expected"):
        table.add_column(heading, justify="right")
    for each in found:
        exponents = (f"{each.exponent:.2f}", f"{each.last:.2f}", f"{each.expected:.0f}")
        table.add_row(NAMES[each.field], each.what, each.side, *exponents)
    return table


def plot(courses: Sequence[tuple[Axis, Sequence[Figure]]], path: Path) -> None:
    """Plots the cost of a step forward and backward against each dimension, both on logarithmic scales.

    Args:
        courses: each axis with its figures.
        path: of the picture; its suffix says which kind.

    Raises:
        UserError: the file cannot be written.
    """
    rows = math.ceil(len(courses) / 2)
    canvas, axes = panels(8, 3.6 * rows, columns=2, rows=rows)
    for panel, (axis, figures) in zip(axes, courses, strict=False):
        what = TRAINING if TRAINING in axis.passes else axis.passes[0]
        for side in dict.fromkeys(figure.side for figure in figures if figure.side not in PLAIN_LOOPS):
            sizes, costs = _course(axis, figures, what, side)
            panel.plot(sizes, costs, marker="o", markersize=4, linewidth=1.6, label=side)
        panel.set_xscale("log")
        panel.set_yscale("log")
        grown = sorted({axis.value(figure.size) for figure in figures})
        panel.set_xticks(grown, [f"{size:,}" for size in grown])
        panel.minorticks_off()
        log_ticks(panel)
        tidy(panel, f"Growing {NAMES[axis.field]}: {what}", NAMES[axis.field], "microseconds a step")
        panel.legend(frameon=False, fontsize=9)
    with writing(path):
        canvas.savefig(path)

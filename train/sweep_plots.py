"""Plots of sweeps: learners against each other at several sizes of a task, seed by seed, beside what is known of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullLocator

from sab_agents.train.plots import MEMORYLESS

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

LINES = (("memoryless", MEMORYLESS, "--"), ("best", "#2a7f3f", ":"))  # the latter on top, where both are one
ACROSS = 4  # panels side by side, at most
Value = int | str
Curve = Sequence[tuple[float, float]]
Known = Mapping[str, float | None]
"""Scores of the "best" and the best "memoryless" policy, as far as they are known."""


def panels_of(number: int, rows: int = 1) -> tuple[Figure, list[list[Axes]]]:
    """A figure of panels in rows of `number`; needs no display and leaves pyplot's global state alone.

    With one row, more than `ACROSS` panels go on in further ones, whose last may have empty places.
    """
    across = min(number, ACROSS) if rows == 1 else number
    down = -(-number // across) * rows
    canvas = Figure(figsize=(1.4 + 3.0 * across, 0.5 + 2.6 * down), layout="constrained", dpi=110)
    FigureCanvasAgg(canvas)
    panels: list[list[Axes]] = canvas.subplots(down, across, squeeze=False).tolist()
    if rows > 1:
        return canvas, panels
    flat = [axes for row in panels for axes in row]
    for axes in flat[number:]:
        axes.remove()
    return canvas, [flat[:number]]


def legend_below(canvas: Figure) -> None:
    """One legend for all panels, with each name once; none where nothing is named."""
    named: dict[str, Artist] = {}
    for axes in canvas.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    if not named:
        return
    columns = max(1, min(len(named), int(canvas.get_figwidth() // 1.7)))
    canvas.legend(
        list(named.values()), list(named), loc="outside lower center", ncols=columns, frameon=False, fontsize=9
    )


def draw_curves(axes: Axes, curves: Mapping[str, Sequence[Curve]], colours: Mapping[str, str], known: Known) -> None:
    """Learning curves: a thin line for each seed, a thick one for the mean of a learner's seeds.

    Args:
        axes: where.
        curves: of each learner's seeds; a seed that ended at its target is taken to stay where it was.
        colours: of the learners.
        known: drawn as lines.
    """
    for learner, seeds in curves.items():
        drawn = [seed for seed in seeds if seed]
        for seed in drawn:
            axes.plot(*zip(*seed, strict=True), color=colours[learner], linewidth=0.7, alpha=0.35)
        if drawn:
            axes.plot(*mean_curve(drawn), color=colours[learner], linewidth=1.8, label=learner)
    draw_known(axes, known)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))


def draw_scores(
    axes: Axes,
    scores: Mapping[str, Mapping[Value, Sequence[float]]],
    colours: Mapping[str, str],
    known: Mapping[Value, Known],
) -> None:
    """Scores by size: a dot for each seed, and a line through the learners' means; of a single size, by learner.

    Args:
        axes: where.
        scores: for each learner and value those of its seeds.
        colours: of the learners.
        known: for all values, in their order.
    """
    values = list(known)
    if len(values) == 1:
        for place, (learner, found) in enumerate(scores.items()):
            seeds = found.get(values[0], ())
            axes.scatter([place] * len(seeds), seeds, 14, colours[learner], alpha=0.6)
            if seeds:
                axes.plot([place - 0.3, place + 0.3], [np.mean(seeds)] * 2, color=colours[learner])
        axes.set_xticks(range(len(scores)), list(scores), rotation=20, ha="right", fontsize=8)
        draw_known(axes, known[values[0]])
        return
    at = {value: value if isinstance(value, int) else place for place, value in enumerate(values)}
    for learner, found in scores.items():
        means = [(at[value], float(np.mean(found[value]))) for value in values if found.get(value)]
        if means:
            axes.plot(*zip(*means, strict=True), color=colours[learner], linewidth=1.6, label=learner)
        dots = [(at[value], seed) for value in values for seed in found.get(value, ())]
        axes.scatter([place for place, _ in dots], [seed for _, seed in dots], 12, colours[learner], alpha=0.5)
    for name, colour, style in LINES:
        points = [(at[value], score) for value in values if (score := known[value].get(name)) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), color=colour, linestyle=style, linewidth=1.4, label=name, zorder=1)
    places = list(at.values())
    if all(isinstance(value, int) and value > 0 for value in values) and max(places) >= 8 * min(places):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(places, [name_of(value) for value in values])


def draw_known(axes: Axes, known: Known) -> None:
    """Lines across, at the scores that are known of the best and of the best memoryless policy."""
    for name, colour, style in LINES:
        if (value := known.get(name)) is not None:
            axes.axhline(value, color=colour, linestyle=style, linewidth=1.4, label=name, zorder=1)


def mean_curve(curves: Sequence[Curve]) -> tuple[list[float], list[float]]:
    """The mean of curves at all places at which one of them has a point, each held from its last point on."""
    first = max(curve[0][0] for curve in curves)
    grid = sorted({x for curve in curves for x, _ in curve if x >= first})
    rows = [np.interp(grid, [x for x, _ in curve], [y for _, y in curve]) for curve in curves]
    return grid, np.mean(rows, axis=0).tolist()


def name_of(value: Value) -> str:
    """A size as it is written."""
    return f"{value:,}" if isinstance(value, int) else value


def spread(numbers: Sequence[float], form: str) -> str:
    """The mean, and the least and the greatest where they differ, in that form."""
    mean, least, greatest = (form.format(each) for each in (np.mean(numbers), min(numbers), max(numbers)))
    return mean if least == greatest else f"{mean} ({least} … {greatest})"

"""Figures of studies: learners against each other at several sizes of a task, seed by seed, with known scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullLocator

from sab_agents.train.figures.canvas import (
    BLACK,
    BLUE,
    GREEN,
    MEMORYLESS,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    WINE,
    empty_figure,
    tidy,
)
from sab_agents.train.suites.study import Curve, Known, Study, Value, name_of

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

LINES = (("memoryless", MEMORYLESS, "--"), ("best", "#2a7f3f", ":"))  # the latter is drawn on top of the former
ACROSS = 4  # panels side by side, at most
COLOURS = (BLUE, ORANGE, VERMILION, PURPLE, GREEN, SKY, BLACK, WINE)
MARKERS = "osDv^PX*"


class Style(NamedTuple):
    """How a learner is drawn."""

    colour: str
    marker: str


def _style(number: int) -> Style:
    """Returns a style for each number; the first eight differ in colour and marker, the next in the pair of them."""
    colours, turn = len(COLOURS), number // len(COLOURS)
    return Style(COLOURS[number % colours], MARKERS[(number + turn) % len(MARKERS)])


KNOWN = {
    name: _style(number)
    for number, names in enumerate(
        (
            ("sab", "MlpSabPolicy"),
            ("sab_uncredited",),
            ("lstm_tbptt", "lstm_truncated", "MlpLstmPolicy"),
            ("lstm",),
            ("mingru", "MlpMinGruPolicy"),
            ("rtu", "MlpRtuPolicy"),
            ("sb3_contrib",),
            ("attention", "lstm_attention", "transformer"),
        )
    )
    for name in names
}
"""Learners that are drawn in the same way in every figure; others get what is left, in order."""
Styles = Mapping[str, Style]


def styles_of(studies: Iterable[Study]) -> Styles:
    """Returns a style for each learner's name, the same in all studies; baselines are grey."""
    studies = list(studies)
    names = dict.fromkeys(learner for study in studies for learner in study.learners)
    known = {name: KNOWN[name] for name in names if name in KNOWN}
    left = (style for number in range(len(names) + len(COLOURS)) if (style := _style(number)) not in known.values())
    others = {name: next(left) for name in names if name not in known}
    grey = {name: Style(MEMORYLESS, "x") for study in studies for name in study.baselines}
    return {**known, **others, **grey}


def scores_figure(study: Study, styles: Styles) -> Figure:
    """Draws the scores by size."""
    canvas = empty_figure(6.4, 3.8, dpi=110)
    axes = canvas.subplots()
    name = study.score.name  # which a run has none of whose episodes have not ended
    scores = {
        learner: {
            value: [float(row.numbers[name]) for row in study.of(learner, value) if name in row.numbers]
            for value in study.values
        }
        for learner in study.learners
    }
    draw_scores(axes, scores, styles, {value: study.known.get(value, {}) for value in study.values})
    one = _sized(study, study.values[0]) if len(study.values) == 1 else ""
    tidy(axes, one, study.size.replace("_", " ") if len(study.values) > 1 else "", name)
    legend_below(canvas)
    return canvas


def curves_figure(study: Study, styles: Styles) -> Figure:
    """Draws the curves: a row of plots for each of the study's panels, with a plot for each size.

    A single panel's plots are wrapped after `ACROSS`.
    """
    number, rows = len(study.values), len(study.panels)
    across = min(number, ACROSS) if rows == 1 else number
    down = -(-number // across) * rows
    canvas = empty_figure(1.4 + max(3.0 * across, 4.4 if number == 1 else 0), 0.5 + 2.6 * down, dpi=110)
    every = [axes for row in canvas.subplots(down, across, squeeze=False) for axes in row]
    for axes in every[rows * number :]:
        axes.remove()
    places = iter(every)
    for panel in study.panels:
        for value in study.values:
            axes = next(places)
            curves = {
                learner: [row.curves[panel.name] for row in study.of(learner, value) if panel.name in row.curves]
                for learner in study.names
            }
            known = study.known.get(value, {}) if panel.known else {}
            draw_curves(axes, curves, styles, known, dashed=study.baselines)
            tidy(axes, _sized(study, value), panel.x, panel.y)
    legend_below(canvas)
    return canvas


def _sized(study: Study, value: Value) -> str:
    """Returns a size with the name of what it counts."""
    return f"{study.size} {name_of(value)}".replace("_", " ").strip()


def legend_below(canvas: Figure) -> None:
    """Adds one legend for all plots, with each name once; none if nothing is named."""
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


def draw_curves(
    axes: Axes,
    curves: Mapping[str, Sequence[Curve]],
    styles: Styles,
    known: Known,
    dashed: Sequence[str] = (),
) -> None:
    """Draws learning curves: the mean of a learner's seeds, and a band from the least to the greatest of them.

    Args:
        axes: to draw on.
        curves: of each learner's seeds; a seed that ended at its target is assumed to stay where it was.
        styles: of the learners.
        known: drawn as lines.
        dashed: learners whose lines are dashed.
    """
    for learner, seeds in curves.items():
        drawn = [seed for seed in seeds if len(seed)]
        style = "--" if learner in dashed else "-"
        if drawn:
            grid, heights = on_one_grid(drawn)
            colour, marker = styles[learner]
            (line,) = axes.plot(grid, heights.mean(0), color=colour, linewidth=1.8, linestyle=style, label=learner)
            line.set(marker=marker, markersize=4, markevery=max(1, len(grid) // 6))
            if len(drawn) > 1:
                axes.fill_between(grid, heights.min(0), heights.max(0), color=colour, alpha=0.15, linewidth=0)
    draw_known(axes, known)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))


def draw_scores(
    axes: Axes,
    scores: Mapping[str, Mapping[Value, Sequence[float]]],
    styles: Styles,
    known: Mapping[Value, Known],
) -> None:
    """Draws scores by size: a dot for each seed, and a line through the learners' means; a single size by learner.

    Args:
        axes: to draw on.
        scores: for each learner and value those of its seeds.
        styles: of the learners.
        known: for all values, in their order.
    """
    values = list(known)
    if len(values) == 1:
        for place, (learner, found) in enumerate(scores.items()):
            seeds = found.get(values[0], ())
            colour, marker = styles[learner]
            axes.scatter([place] * len(seeds), seeds, 14, colour, marker=marker, alpha=0.6)
            if seeds:
                axes.plot([place - 0.3, place + 0.3], [np.mean(seeds)] * 2, color=colour)
        axes.set_xticks(range(len(scores)), list(scores), rotation=20, ha="right", fontsize=8)
        draw_known(axes, known[values[0]])
        return
    at = {value: value if isinstance(value, int) else place for place, value in enumerate(values)}
    for learner, found in scores.items():
        means = [(at[value], float(np.mean(found[value]))) for value in values if found.get(value)]
        colour, marker = styles[learner]
        if means:
            axes.plot(
                *zip(*means, strict=True), color=colour, linewidth=1.6, marker=marker, markersize=6, label=learner
            )
        dots = [(at[value], seed) for value in values for seed in found.get(value, ())]
        axes.scatter([place for place, _ in dots], [seed for _, seed in dots], 12, colour, marker=marker, alpha=0.5)
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
    """Draws lines across at the scores that are known of the best and of the best memoryless policy."""
    for name, colour, style in LINES:
        if (value := known.get(name)) is not None:
            axes.axhline(value, color=colour, linestyle=style, linewidth=1.4, label=name, zorder=1)


def on_one_grid(curves: Sequence[Curve]) -> tuple[list[float], npt.NDArray[np.float64]]:
    """Returns all places at which a curve has a point, and the heights (curve, place); each keeps its last height."""
    first = max(curve[0][0] for curve in curves)
    grid = sorted({x for curve in curves for x, _ in curve if x >= first})
    return grid, np.array([np.interp(grid, [x for x, _ in curve], [y for _, y in curve]) for curve in curves])

"""What a sweep of PPO agents found, as Markdown tables and as learning curves: all from what its result.json holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sab_agents.train.plots import MEMORYLESS, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Result = Mapping[str, Any]
Cells = Sequence[Mapping[str, Any]]
BEST = "#2a7f3f"


def table_of(result: Result) -> str:
    """Markdown: how each learner did at each value, what is known of the returns, and the tests at other values."""
    settings, cells = result["settings"], result["cells"]
    size = name_of_size(settings)
    target = settings["target"]
    reached = [] if target is None else [f"seeds at {target:.0%}"]
    headings = [size, "learner", *reached, "success, mean (least … greatest)", "return", "steps", "minutes"]
    lines = [_row(headings), _row(["---:", "---", *["---:"] * (len(headings) - 2)])]
    for value in settings["values"]:
        for learner in settings["learners"]:
            found = chosen(cells, learner, value)
            if not found:
                continue
            at_target = [] if target is None else [f"{sum(cell['reached'] for cell in found)} of {len(found)}"]
            minutes = np.mean([cell["processor_seconds"] for cell in found]) / 60
            lines.append(
                _row([
                    _value(value),
                    learner,
                    *at_target,
                    spread([cell["success"] for cell in found], "{:.1%}"),
                    spread([cell["return"] for cell in found], "{:.2f}"),
                    f"{np.mean([cell['steps'] for cell in found]):,.0f}",
                    f"{minutes:.1f}",
                ])
            )  # fmt: skip
    parts = ["\n".join(lines), _note(settings), _known(result), _tests(settings, cells)]
    return "\n\n".join(part for part in parts if part) + "\n"


def plot_learning_curves(path: Path, result: Result) -> None:
    """Writes a PNG: a column for each value, success above and return below, each seed and the learners' means."""
    values = result["settings"]["values"]
    canvas, panels = panels_of(2, len(values))
    for column, value in enumerate(values):
        draw_learning_curves(panels[0][column], result, value, "success")
        draw_learning_curves(panels[1][column], result, value, "return")
    panels[0][0].legend(frameon=False, fontsize=8)
    panels[1][0].legend(frameon=False, fontsize=8)
    canvas.savefig(path)


def draw_learning_curves(axes: Axes, result: Result, value: int | str, what: str) -> None:
    """Draws "success" or "return" by steps: thin lines for seeds, a thick one for the mean of a learner's seeds.

    A seed that ended at its target is taken to stay where it was.
    """
    settings, cells = result["settings"], result["cells"]
    for number, learner in enumerate(settings["learners"]):
        curves = [cell["curve"] for cell in chosen(cells, learner, value) if cell["curve"]]
        for curve in curves:
            axes.plot(
                [point["steps"] for point in curve], [point[what] for point in curve],
                color=f"C{number}", linewidth=0.7, alpha=0.35,
            )  # fmt: skip
        if curves:
            steps, mean = mean_curve(curves, what)
            axes.plot(steps, mean, color=f"C{number}", linewidth=1.8, label=learner)
    if what == "return":
        draw_known(axes, result.get("known", {}).get(str(value), {}))
    axes.set_xlim(left=0)
    axes.ticklabel_format(axis="x", style="sci", scilimits=(0, 3))
    tidy(axes, f"{name_of_size(settings)} {_value(value)}", "steps of all copies", what)


def draw_known(axes: Axes, known: Mapping[str, float | None]) -> None:
    """Lines at the returns that are known of the best and of the best memoryless policy."""
    for name, color, style in (("best", BEST, ":"), ("memoryless", MEMORYLESS, "--")):
        if (value := known.get(name)) is not None:
            axes.axhline(value, color=color, linestyle=style, linewidth=1.2, label=name, zorder=1)


def mean_curve(curves: Sequence[Sequence[Mapping[str, float]]], what: str) -> tuple[list[float], list[float]]:
    """The mean of curves at all steps at which one of them has a point, each held from its last point on."""
    grid = sorted({point["steps"] for curve in curves for point in curve})
    first = max(curve[0]["steps"] for curve in curves)
    grid = [step for step in grid if step >= first]
    rows = [np.interp(grid, [p["steps"] for p in curve], [p[what] for p in curve]) for curve in curves]
    return grid, np.mean(rows, axis=0).tolist()


def panels_of(rows: int, columns: int) -> tuple[Figure, list[list[Axes]]]:
    """A figure of panels in rows; needs no display and leaves pyplot's global state alone."""
    canvas = Figure(figsize=(3.2 + 2.9 * (columns - 1), 2.7 * rows), layout="constrained", dpi=130)
    FigureCanvasAgg(canvas)
    return canvas, canvas.subplots(rows, columns, squeeze=False).tolist()


def chosen(cells: Cells, learner: str, value: int | str) -> list[Mapping[str, Any]]:
    """The cells of a learner at a value."""
    return [cell for cell in cells if (cell["learner"], cell["value"]) == (learner, value)]


def name_of_size(settings: Mapping[str, Any]) -> str:
    """What the values are called."""
    return settings["argument"] or "size"


def spread(numbers: Sequence[float], form: str) -> str:
    """The mean, and the least and the greatest where they differ, in that form."""
    mean, least, greatest = (form.format(each) for each in (np.mean(numbers), min(numbers), max(numbers)))
    return mean if least == greatest else f"{mean} ({least} … {greatest})"


def _note(settings: Mapping[str, Any]) -> str:
    budget = settings["steps"]
    most = (
        ", ".join(f"{value}: {steps:,}" for value, steps in budget.items())
        if isinstance(budget, dict)
        else f"{budget:,}"
    )
    stop = "" if settings["target"] is None else f"the target of {settings['target']:.0%} or "
    return (
        f"Success over the last {settings['recent']} episodes of training ({_success(settings['success'])}). "
        f"Steps of {settings['num_envs']} copies together, to {stop}the end of the budget ({most}). "
        "Minutes of processor time."
    )


def _success(success: float | str) -> str:
    return f"`{success}`" if isinstance(success, str) else f"return of at least {success:g}"


def _known(result: Result) -> str:
    lines = []
    for value, known in result["known"].items():
        told = ", ".join(f"{name} {number:.3g}" for name, number in known.items() if number is not None)
        if told:
            lines.append(f"{value}: {told}")
    return f"Known returns: {'; '.join(lines)}." if lines else ""


def _tests(settings: Mapping[str, Any], cells: Cells) -> str:
    """How each learner does after training at other sizes."""
    values = settings["test_values"]
    if not values:
        return ""
    lines = [
        f"After training, likeliest actions, {settings['test_episodes']} episodes a seed at other sizes: success.\n",
        _row([f"trained at {name_of_size(settings)}", "learner", *map(_value, values)]),
        _row(["---:", "---", *["---:"] * len(values)]),
    ]
    for value in settings["values"]:
        for learner in settings["learners"]:
            found = chosen(cells, learner, value)
            if found:
                tests = [spread([cell["tests"][str(at)]["success"] for cell in found], "{:.1%}") for at in values]
                lines.append(_row([_value(value), learner, *tests]))
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _value(value: int | str) -> str:
    return f"{value:,}" if isinstance(value, int) else value

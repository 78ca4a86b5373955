"""What a sweep of PPO agents found, as Markdown tables and as learning curves: all from what its result.json holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sab_agents.train.plots import tidy
from sab_agents.train.sweep_plots import draw_curves, legend_below, name_of, panels_of, spread

Result = Mapping[str, Any]
Cells = Sequence[Mapping[str, Any]]


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
            tried = len(chosen(cells, learner, settings["values"][0])) if settings["curriculum"] else len(found)
            at_target = [] if target is None else [f"{sum(cell['reached'] for cell in found)} of {tried}"]
            minutes = np.mean([cell["processor_seconds"] for cell in found]) / 60
            lines.append(
                _row([
                    name_of(value),
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
    settings, cells = result["settings"], result["cells"]
    colours = {learner: f"C{number}" for number, learner in enumerate(settings["learners"])}
    values = settings["values"]
    canvas, panels = panels_of(len(values), rows=2)
    for row, what in zip(panels, ("success", "return"), strict=True):
        for axes, value in zip(row, values, strict=True):
            curves = {
                learner: [
                    [(point["steps"], point[what]) for point in cell["curve"]] for cell in chosen(cells, learner, value)
                ]
                for learner in settings["learners"]
            }
            draw_curves(axes, curves, colours, result["known"][str(value)] if what == "return" else {})
            tidy(axes, f"{name_of_size(settings)} {name_of(value)}", "steps of all copies", what)
            if what == "success":
                axes.set_ylim(-0.03, 1.03)
    legend_below(canvas)
    canvas.savefig(path)


def chosen(cells: Cells, learner: str, value: int | str) -> list[Mapping[str, Any]]:
    """The cells of a learner at a value."""
    return [cell for cell in cells if (cell["learner"], cell["value"]) == (learner, value)]


def name_of_size(settings: Mapping[str, Any]) -> str:
    """What the values are called."""
    return settings["argument"] or "size"


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
        + (
            " An agent goes on to the next size when it has reached the target, and ends where it does not: steps and "
            "minutes are counted from its start, and all but the number of seeds is of the agents that got so far."
            if settings["curriculum"]
            else ""
        )
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
    values = list(dict.fromkeys(at for cell in cells for at in cell["tests"]))
    if not values:
        return ""
    lines = [
        f"After training, likeliest actions, {settings['test_episodes']} episodes a seed at other sizes: success.\n",
        _row(
            [
                f"trained at {name_of_size(settings)}",
                "learner",
                *(name_of(int(at) if at.isdecimal() else at) for at in values),
            ]
        ),
        _row(["---:", "---", *["---:"] * len(values)]),
    ]
    for value in settings["values"]:
        for learner in settings["learners"]:
            found = [cell for cell in chosen(cells, learner, value) if cell["tests"]]
            if found:
                tests = [spread([cell["tests"][at]["success"] for cell in found], "{:.1%}") for at in values]
                lines.append(_row([name_of(value), learner, *tests]))
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"

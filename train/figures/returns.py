"""The learning curve of one agent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sab_agents.train.figures.canvas import MEMORYLESS, TRAINED, panels, png_of, tidy
from sab_agents.train.output import write_atomically

STYLES = {"best": "-.", "memoryless": "--", "random": ":"}
"""How the returns that are known are drawn."""


def plot_returns(path: Path, title: str, logged: list[dict[str, Any]], known: Mapping[str, float]) -> None:
    """Writes a PNG of the mean return of the last 100 episodes.

    Args:
        path: the file.
        title: what was trained.
        logged: the content of metrics.jsonl.
        known: returns of policies to compare with, by name.
    """
    canvas, (axes,) = panels(7, 3.8)
    ended = [line for line in logged if line["return"] is not None]
    axes.plot([line["step"] for line in ended], [line["return"] for line in ended], color=TRAINED, linewidth=1.6)
    for value in sorted(set(known.values())):
        names = [name for name in STYLES if known.get(name) == value]
        axes.axhline(value, color=MEMORYLESS, linestyle=STYLES[names[0]], linewidth=1.1, zorder=1)
        axes.annotate(
            ",\n".join(names),
            (1, value),
            xycoords=("axes fraction", "data"),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=MEMORYLESS,
            annotation_clip=False,
        )
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlim(left=0)
    tidy(axes, title, "steps of the environment, all copies together", "return, mean of the last 100 episodes")
    write_atomically(path, png_of(canvas))

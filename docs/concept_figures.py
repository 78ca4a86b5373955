"""Draws the figures of docs/concepts.

python docs/concept_figures.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from sab_agents.train.figures.canvas import BLUE, GREEN, ORANGE, PURPLE, VERMILION

FOLDER = Path(__file__).with_name("concepts")
PALE = "#e8eef4"


def timeline(axes: Axes, steps: int, segment: int, labels: dict[int, str]) -> None:
    """Draws steps as boxes in a row, with the starts of segments and names of some steps below."""
    for step in range(steps):
        axes.add_patch(Rectangle((step, 0), 0.86, 0.8, facecolor=PALE, edgecolor="#8a99a8", linewidth=0.8))
        if step % segment == 0:
            axes.plot([step - 0.07] * 2, [-0.25, 1.05], color="#8a99a8", linewidth=1.2, linestyle=":")
    for step, label in labels.items():
        axes.text(step + 0.43, -0.3, label, ha="center", va="top", fontsize=9)
    axes.set_xlim(-0.4, steps + 0.2)
    axes.axis("off")


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str, bend: float = 0.3) -> None:
    """Draws a curved arrow."""
    style = f"arc3,rad={bend}"
    axes.add_patch(
        FancyArrowPatch(
            start, end, connectionstyle=style, arrowstyle="-|>", mutation_scale=13, color=colour, linewidth=1.8
        )
    )


def empty(height: float) -> tuple[Figure, Axes]:
    """Returns a figure as wide as a page, and its one plot."""
    canvas = Figure(figsize=(8.4, height), layout="constrained", dpi=130)
    FigureCanvasAgg(canvas)
    return canvas, canvas.subplots()


def slots(axes: Axes, steps: range, height: float) -> None:
    """Draws the slots that were written at these steps above the timeline."""
    for step in steps:
        axes.add_patch(Rectangle((step, height), 0.86, 0.8, facecolor=ORANGE, edgecolor="black", linewidth=0.8))
        axes.plot([step + 0.43] * 2, [0.85, height - 0.05], color="#8a99a8", linewidth=1)


def memory() -> Figure:
    """Steps write to slots, and a step reads the best of them."""
    canvas, axes = empty(2.6)
    timeline(axes, 20, 5, {0: "symbol", 10: "noise", 19: "question"})
    slots(axes, range(4, 19, 5), 2.0)
    axes.text(0, 2.4, "slots: a state is\nstored at the end\nof every segment", fontsize=9, va="center")
    for step, weight in ((4, "0.9"), (9, "0.1")):
        arrow(axes, (step + 0.43, 2.9), (19.43, 0.9), BLUE, -0.28 if step == 4 else -0.2)
        axes.text(step + 0.5, 3.25, weight, color=BLUE, fontsize=10, ha="center", weight="bold")
    axes.text(
        13.4,
        4.55,
        "read: the best top_k slots, with weights that sum to at most 1",
        color=BLUE,
        fontsize=9,
        ha="center",
    )
    axes.set_ylim(-1.1, 5.0)
    return canvas


def credit() -> Figure:
    """Gradient goes back within a segment and through what was read."""
    canvas, axes = empty(2.6)
    timeline(axes, 20, 5, {0: "symbol", 19: "loss"})
    slots(axes, range(4, 19, 5), 2.0)
    for step in range(19, 15, -1):
        arrow(axes, (step + 0.2, 0.4), (step - 0.35, 0.4), VERMILION, 0)
    arrow(axes, (19.43, 0.9), (4.9, 2.9), VERMILION, 0.28)
    arrow(axes, (4.43, 1.95), (4.43, 0.85), VERMILION, 0)
    for step in range(4, 0, -1):
        arrow(axes, (step + 0.2, 0.4), (step - 0.35, 0.4), VERMILION, 0)
    axes.text(12, 4.4, "gradient jumps to the slot that was read …", color=VERMILION, fontsize=9, ha="center")
    axes.text(2.2, -0.9, "… and through the segment that wrote it", color=VERMILION, fontsize=9, ha="center", va="top")
    axes.text(17.4, -0.9, "within the segment, as usual", color=VERMILION, fontsize=9, ha="center", va="top")
    axes.set_ylim(-1.6, 4.9)
    return canvas


def replay() -> Figure:
    """A window ends, and the steps that wrote a credited slot are computed again."""
    canvas, axes = empty(2.9)
    timeline(axes, 20, 4, {1: "past: no graph is kept", 17: "window"})
    for step in range(16, 20):
        axes.add_patch(Rectangle((step, 0), 0.86, 0.8, facecolor=BLUE, alpha=0.45))
    slots(axes, range(7, 8), 2.0)
    axes.text(
        8.2, 2.4, "slot: the state, and what is needed\nto compute its last 8 steps again", fontsize=9, va="center"
    )
    arrow(axes, (17.5, 0.9), (7.9, 2.9), VERMILION, 0.3)
    axes.text(12.6, 4.3, "1. a loss in the window sends gradient to the slot", color=VERMILION, fontsize=9, ha="center")
    for step in range(4, 8):
        axes.add_patch(Rectangle((step, -2.0), 0.86, 0.8, facecolor=GREEN, alpha=0.5, edgecolor="black", linewidth=0.8))
    for step in range(7, 4, -1):
        arrow(axes, (step + 0.2, -1.6), (step - 0.35, -1.6), VERMILION, 0)
    axes.text(
        8.3,
        -1.6,
        "2. these steps are replayed with the current weights\n    and receive the gradient",
        color=GREEN,
        fontsize=9,
        va="center",
    )
    axes.set_ylim(-2.4, 4.8)
    return canvas


def age() -> Figure:
    """How much a slot's score loses with its age, for some λ and τ."""
    canvas, axes = empty(3.0)
    ages = np.arange(0, 501)
    lines = ((0.0, 32, GREEN, "-"), (1.0, 32, BLUE, "--"), (1.0, 1, VERMILION, "-."), (-1.0, 32, PURPLE, ":"))
    for slope, scale, colour, style in lines:
        losses = -slope * np.log1p(ages / scale)
        axes.plot(ages, losses, color=colour, linestyle=style, linewidth=1.8)
        label = f"λ = {slope:g}" + (f", τ = {scale}" if slope else "")
        axes.annotate(label, (500, losses[-1]), xytext=(4, 0), textcoords="offset points", color=colour, va="center")
    axes.set_xlabel("age of the slot: steps since it was written")
    axes.set_ylabel("change of its score")
    axes.set_xlim(0, 500)
    axes.grid(alpha=0.3)
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)
    return canvas


if __name__ == "__main__":
    for draw in (memory, credit, replay, age):
        draw().savefig(FOLDER / f"{draw.__name__}.png", metadata={"Software": None})

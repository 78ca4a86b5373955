"""Figures of a training run: its learning curve, what it reads and which past steps receive gradient."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.colors import LogNorm
from matplotlib.ticker import MaxNLocator

from sab_agents.train.figures.canvas import MARKED, MEMORYLESS, TRAINED, panels, png_of, tidy
from sab_agents.train.output import write_atomically
from sab_agents.train.supervised.metrics import UNITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sab_agents.train.supervised.maps import Floats, Maps

# Gradients smaller than this fraction of the greatest are drawn in the same, darkest colour.
CREDIT_RANGE = 1e-6
# With so few scored steps a map would be a few thin lines; curves show more.
FEW = 3
COLOR_MAP = "viridis"
NOTHING = "#ececec"
STYLES = {"best": "-.", "memoryless": "--", "random": ":"}
"""How the returns that are known are drawn."""


def memoryless_line(axes: Axes, value: float) -> None:
    """Draws the score of the best learner without a memory."""
    axes.axhline(value, color=MEMORYLESS, linestyle="--", linewidth=1.2, label="memoryless", zorder=1)


def plot_learning_curve(
    path: Path, title: str, lines: list[dict[str, Any]], metric: str, memoryless: Mapping[str, float]
) -> None:
    """Writes a PNG with the training loss and the first metric on held-out data.

    Args:
        path: the file.
        title: what was trained.
        lines: the content of metrics.jsonl.
        metric: the task's first metric.
        memoryless: scores without a memory, by metric.
    """
    canvas, (left, right) = panels(10, 3.8, columns=2)
    train = [line for line in lines if line["split"] == "train"]
    left.plot([line["step"] for line in train], [line["loss"] for line in train], linewidth=1, color=TRAINED)
    left.set_yscale("log")
    tidy(left, "Training loss", "updates", "loss of the batch")
    held_out = [line for line in lines if line["split"] == "validation"]
    right.plot(
        [line["step"] for line in held_out],
        [line[metric] for line in held_out],
        marker="o",
        markersize=3.5,
        color=TRAINED,
        label="validation",
    )
    tested = [line for line in lines if line["split"] == "test"]
    if tested:
        right.plot(tested[-1]["step"], tested[-1][metric], marker="*", markersize=11, color=MARKED, label="test", ls="")
    memoryless_line(right, memoryless[metric])
    tidy(right, "Held-out data", "updates", f"{metric.replace('_', ' ')} ({UNITS[metric]})")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.set_xlim(left=0)
    canvas.suptitle(title, fontsize=11)
    canvas.savefig(path)


def plot_attention(path: Path, title: str, attention: Floats) -> None:
    """Writes a PNG of the (T, T) attention map: for each step (upwards), the weights of past steps (to the right)."""
    canvas, (axes,) = panels(6.6, 5.6)
    T = len(attention)
    image = axes.imshow(
        np.ma.masked_equal(attention, 0), cmap=_color_map(), vmin=0, vmax=1, origin="lower", interpolation="nearest"
    )
    axes.plot([0, T - 1], [0, T - 1], color=MEMORYLESS, linewidth=0.8, linestyle=":")
    tidy(axes, f"{title}\nWhat each step read", "past step that was read", "step that read", grid=False)
    canvas.colorbar(image, ax=axes, label="weight in the summary (grey: not read)", shrink=0.85)
    canvas.savefig(path)


def plot_credit(path: Path, title: str, maps: Maps) -> None:
    """Writes a PNG of the credit map: how much gradient of each scored step's loss each past step received."""
    heading = f"{title}\nHow much gradient each past step received"
    quantity = "norm of d loss / d input"
    if len(maps.scored) <= FEW:
        canvas, (axes,) = panels(8, 4)
        _credit_curves(axes, maps)
        tidy(axes, heading, "past step", quantity)
    else:
        canvas, (axes,) = panels(7.6, 5.6)
        floor, top = _credit_limits(maps.credit)
        visible = np.ma.masked_equal(np.where(maps.credit > 0, np.maximum(maps.credit, floor), 0), 0)
        edges = np.arange(maps.credit.shape[1] + 1) - 0.5
        image = axes.pcolormesh(
            edges, np.arange(len(maps.scored) + 1) - 0.5, visible, cmap=_color_map(), norm=LogNorm(floor, top)
        )
        axes.set_facecolor(NOTHING)
        ticks = np.unique(np.linspace(0, len(maps.scored) - 1, 9).round().astype(int))
        axes.set_yticks(ticks, [str(step) for step in maps.scored[ticks]])
        axes.plot(maps.scored, np.arange(len(maps.scored)), color=MARKED, linewidth=1, linestyle=":")
        tidy(axes, heading, "past step", "scored step (dotted line: itself)", grid=False)
        canvas.colorbar(image, ax=axes, label=f"{quantity} (log scale; grey: none)", shrink=0.85)
    canvas.savefig(path)


def _credit_curves(axes: Axes, maps: Maps) -> None:
    """Draws a curve for each scored step, and marks the steps that receive exactly nothing at the bottom."""
    floor, top = _credit_limits(maps.credit)
    for scored, credit in zip(maps.scored, maps.credit, strict=True):
        steps = np.flatnonzero(credit > 0)
        axes.plot(steps, np.maximum(credit[steps], floor), "o", markersize=3, label=f"loss at step {scored}")
        axes.vlines(steps, floor / 4, np.maximum(credit[steps], floor), linewidth=1, alpha=0.6)
        nothing = np.flatnonzero(credit[: scored + 1] == 0)
        axes.plot(nothing, np.full(len(nothing), floor / 2), "x", color=MEMORYLESS, markersize=4)
    axes.plot([], [], "x", color=MEMORYLESS, markersize=4, label="exactly zero")
    axes.set_yscale("log")
    axes.set_ylim(floor / 4, top * 3)
    axes.set_xlim(-1, maps.credit.shape[1])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=4)


def _credit_limits(credit: Floats) -> tuple[float, float]:
    top = float(credit.max(initial=0.0, where=np.isfinite(credit))) or 1.0
    return top * CREDIT_RANGE, top


def _color_map() -> Any:
    return mpl.colormaps[COLOR_MAP].with_extremes(bad=NOTHING)


def image_of_attention(attention: Floats) -> npt.NDArray[np.uint8]:
    """Returns the attention map as a bare (rows, columns, 3) image, first step at the bottom, for TensorBoard."""
    return _pixels(attention)


def image_of_credit(credit: Floats) -> npt.NDArray[np.uint8]:
    """Returns the credit map as a bare (rows, columns, 3) image on a log scale, first step at the bottom."""
    floor, top = _credit_limits(credit)
    known = np.nan_to_num(credit, nan=0.0, posinf=top)  # of parameters that explode
    scaled = np.log(np.maximum(known, floor) / floor) / np.log(top / floor)
    return _pixels(np.where(known > 0, scaled, 0))


def _pixels(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    colors = _color_map()(np.ma.masked_equal(values[::-1], 0), bytes=True)[..., :3]
    rows, columns = (max(1, 256 // size) for size in values.shape)
    pixels: npt.NDArray[np.uint8] = colors.repeat(rows, axis=0).repeat(columns, axis=1)
    return pixels


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

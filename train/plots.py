"""The plots of a run: its learning curve, what it reads and where its gradient goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sab_agents.train.metrics import UNITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sab_agents.online.credit_ledger import Entry
    from sab_agents.train.maps import Floats, Maps

# Gradients smaller than this fraction of the greatest are drawn in the same, darkest colour.
CREDIT_RANGE = 1e-6
# With so few scored steps a map would be a few thin lines, so that curves say more.
FEW = 3
COLOR_MAP = "viridis"
NOTHING = "#ececec"
MEMORYLESS = "#777777"


def figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """An empty figure with its panels side by side; needs no display and leaves pyplot's global state alone.

    Args:
        width: in inches.
        height: in inches.
        columns: number of panels.
    """
    new = Figure(figsize=(width, height), layout="constrained", dpi=130)
    FigureCanvasAgg(new)
    return new, [new.add_subplot(1, columns, column + 1) for column in range(columns)]


def tidy(axes: Axes, title: str, x: str, y: str, *, grid: bool = True) -> None:
    """Titles, labels and, unless it would cover an image, a light grid."""
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if grid:
        axes.grid(alpha=0.3, linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def memoryless_line(axes: Axes, value: float) -> None:
    """The score of the best learner without a memory."""
    axes.axhline(value, color=MEMORYLESS, linestyle="--", linewidth=1.2, label="memoryless", zorder=1)


def plot_learning_curve(
    path: Path, title: str, lines: list[dict[str, Any]], metric: str, memoryless: Mapping[str, float]
) -> None:
    """Writes a PNG with the training loss and the first metric on held-out data.

    Args:
        path: of the PNG.
        title: what was trained.
        lines: of metrics.jsonl.
        metric: the task's first.
        memoryless: score of each metric.
    """
    canvas, (left, right) = figure(10, 3.8, columns=2)
    train = [line for line in lines if line["split"] == "train"]
    left.plot([line["step"] for line in train], [line["loss"] for line in train], linewidth=1, color="tab:blue")
    left.set_yscale("log")
    tidy(left, "Training loss", "updates", "loss of the batch")
    held_out = [line for line in lines if line["split"] == "validation"]
    right.plot(
        [line["step"] for line in held_out],
        [line[metric] for line in held_out],
        marker="o",
        markersize=3.5,
        color="tab:blue",
        label="validation",
    )
    tested = [line for line in lines if line["split"] == "test"]
    if tested:
        right.plot(
            tested[-1]["step"], tested[-1][metric], marker="*", markersize=11, color="tab:red", label="test", ls=""
        )
    memoryless_line(right, memoryless[metric])
    tidy(right, "Held-out data", "updates", f"{metric.replace('_', ' ')} ({UNITS[metric]})")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.set_xlim(left=0)
    canvas.suptitle(title, fontsize=11)
    canvas.savefig(path)


def plot_attention(path: Path, title: str, attention: Floats) -> None:
    """Writes a PNG of the (T, T) attention map: at each step (upwards), the weight of each past step (to the right)."""
    canvas, (axes,) = figure(6.6, 5.6)
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
        canvas, (axes,) = figure(8, 4)
        _credit_curves(axes, maps)
        tidy(axes, heading, "past step", quantity)
    else:
        canvas, (axes,) = figure(7.6, 5.6)
        floor, top = _credit_limits(maps.credit)
        visible = np.ma.masked_equal(np.where(maps.credit > 0, np.maximum(maps.credit, floor), 0), 0)
        edges = np.arange(maps.credit.shape[1] + 1) - 0.5
        image = axes.pcolormesh(
            edges, np.arange(len(maps.scored) + 1) - 0.5, visible, cmap=_color_map(), norm=LogNorm(floor, top)
        )
        axes.set_facecolor(NOTHING)
        ticks = np.unique(np.linspace(0, len(maps.scored) - 1, 9).round().astype(int))
        axes.set_yticks(ticks, [str(step) for step in maps.scored[ticks]])
        axes.plot(maps.scored, np.arange(len(maps.scored)), color="tab:red", linewidth=1, linestyle=":")
        tidy(axes, heading, "past step", "scored step (dotted line: itself)", grid=False)
        canvas.colorbar(image, ax=axes, label=f"{quantity} (log scale; grey: none)", shrink=0.85)
    canvas.savefig(path)


def _credit_curves(axes: Axes, maps: Maps) -> None:
    """One curve for each scored step, with the steps that receive exactly nothing marked on the bottom."""
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
    top = float(credit.max()) or 1.0
    return top * CREDIT_RANGE, top


def _color_map() -> Any:
    return mpl.colormaps[COLOR_MAP].with_extremes(bad=NOTHING)


def image_of_attention(attention: Floats) -> npt.NDArray[np.uint8]:
    """The attention map as a bare (rows, columns, 3) image, first step at the bottom, for TensorBoard."""
    return _pixels(attention)


def image_of_credit(credit: Floats) -> npt.NDArray[np.uint8]:
    """The credit map as a bare (rows, columns, 3) image on a log scale, first step at the bottom, for TensorBoard."""
    floor, top = _credit_limits(credit)
    scaled = np.log(np.maximum(credit, floor) / floor) / np.log(top / floor)
    return _pixels(np.where(credit > 0, scaled, 0))


def _pixels(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    colors = _color_map()(np.ma.masked_equal(values[::-1], 0), bytes=True)[..., :3]
    rows, columns = (max(1, 256 // size) for size in values.shape)
    pixels: npt.NDArray[np.uint8] = colors.repeat(rows, axis=0).repeat(columns, axis=1)
    return pixels


def plot_ledger(path: Path, title: str, entries: Sequence[Entry], planted: int | None = None) -> None:
    """Writes a PNG of who credited whom: the time of the loss against the time of the step that was credited.

    Args:
        path: of the PNG.
        title: above it.
        entries: of a `CreditReport`.
        planted: the distance of the step that matters, where the task knows it: drawn as a line.
    """
    ledger_figure(title, entries, planted).savefig(path)


def ledger_figure(title: str, entries: Sequence[Entry], planted: int | None) -> Figure:
    """The same as a figure."""
    canvas, (axes,) = figure(6.4, 4.4)
    draw_ledger(axes, title, entries, planted)
    return canvas


def image_of(canvas: Figure) -> npt.NDArray[np.uint8]:
    """A figure as an image (rows, columns, 3), for TensorBoard."""
    drawn: Any = FigureCanvasAgg(canvas)
    drawn.draw()
    pixels: npt.NDArray[np.uint8] = np.asarray(drawn.buffer_rgba())[..., :3]
    return pixels


def draw_ledger(axes: Axes, title: str, entries: Sequence[Entry], planted: int | None) -> None:
    """Dots for credited steps, darker and larger where more gradient arrived."""
    tidy(axes, title, "step of the loss", "step that was credited")
    if not entries:
        axes.text(0.5, 0.5, "nothing was credited", transform=axes.transAxes, ha="center", color=MEMORYLESS)
        return
    loss, credited = (np.array([getattr(entry, name) for entry in entries]) for name in ("loss_step", "credited_step"))
    norm = np.array([entry.norm for entry in entries])
    share = np.log10(np.maximum(norm / norm.max(), CREDIT_RANGE)) / -np.log10(CREDIT_RANGE) + 1
    order = np.argsort(share)
    dots = axes.scatter(
        loss[order], credited[order], s=4 + 26 * share[order], c=norm[order], cmap=COLOR_MAP + "_r", linewidth=0,
        norm=LogNorm(max(norm.max() * CREDIT_RANGE, norm.min()), norm.max()),
    )  # fmt: skip
    ends = np.array([loss.min(), loss.max()])
    axes.plot(ends, ends, color=MEMORYLESS, linewidth=0.8, label="now")
    if planted is not None:
        axes.plot(
            ends, ends - planted, color="C3", linewidth=1, linestyle="--", label=f"the cue, {planted:,} steps ago"
        )
    axes.legend(frameon=False, loc="upper left")
    axes.figure.colorbar(dots, ax=axes, label="norm of the gradient")

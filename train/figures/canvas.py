"""What all figures share: empty ones that need no display, their look, and their content as pixels or as a file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which people with any kind of colour vision tell apart.
BLUE, ORANGE, VERMILION, PURPLE, GREEN, SKY = "#0072B2", "#E69F00", "#D55E00", "#CC79A7", "#009E73", "#56B4E9"
BLACK = "#000000"
WINE = "#882255"
"""In place of their yellow, which a thin line on white does not show."""
TRAINED, MARKED = BLUE, VERMILION
"""What a single run trained, and what is pointed out."""
MEMORYLESS = "#777777"
"""The colour of what has no memory, in every figure."""


def empty_figure(width: float, height: float, dpi: int = 130) -> Figure:
    """Returns a figure of this size in inches, which needs no display and leaves pyplot's global state alone."""
    canvas = Figure(figsize=(width, height), layout="constrained", dpi=dpi)
    FigureCanvasAgg(canvas)
    return canvas


def panels(width: float, height: float, columns: int = 1, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """Returns an empty figure with its plots, row by row."""
    canvas = empty_figure(width, height)
    return canvas, [canvas.add_subplot(rows, columns, place + 1) for place in range(rows * columns)]


def log_ticks(axes: Axes) -> None:
    """Labels a logarithmic y axis at 1, 2 and 5 of each decade, so that a short range has labels, too."""
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:,g}")


def tidy(axes: Axes, title: str, x: str, y: str, *, grid: bool = True) -> None:
    """Adds a title, labels and, unless it would cover an image, a light grid."""
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if grid:
        axes.grid(alpha=0.3, linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def png_of(canvas: Figure) -> bytes:
    """Returns a figure as the content of a PNG file, the same for the same figure."""
    content = io.BytesIO()
    canvas.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def svg_of(canvas: Figure) -> bytes:
    """Returns a figure as the content of an SVG file, the same for the same figure."""
    content = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "sab-agents"}):
        canvas.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    return content.getvalue()


def pixels_of(canvas: Figure) -> npt.NDArray[np.uint8]:
    """Returns a figure as an image (rows, columns, 3), for TensorBoard."""
    drawn: Any = FigureCanvasAgg(canvas)
    drawn.draw()
    pixels: npt.NDArray[np.uint8] = np.asarray(drawn.buffer_rgba())[..., :3]
    return pixels

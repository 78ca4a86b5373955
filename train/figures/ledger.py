"""Figures of a credit ledger: the time of each loss against the time of the step that it credited."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from sab_agents.train.figures.canvas import MARKED, MEMORYLESS, panels, tidy

if TYPE_CHECKING:
    from sab_agents.online.credit_ledger import Entry

# Gradients smaller than this fraction of the greatest are drawn as small as that.
RANGE = 1e-6


def plot_ledger(path: Path, title: str, entries: Sequence[Entry], planted: int | None = None) -> None:
    """Writes a PNG of `ledger_figure`."""
    ledger_figure(title, entries, planted).savefig(path)


def ledger_figure(title: str, entries: Sequence[Entry], planted: int | None = None) -> Figure:
    """Draws a dot for each credited step, darker and larger for a larger gradient.

    Args:
        title: above the plot.
        entries: of a `CreditReport`.
        planted: the distance of the step that matters, if the task knows it: drawn as a line.
    """
    canvas, (axes,) = panels(6.4, 4.4)
    tidy(axes, title, "step of the loss", "step that was credited")
    if not entries:
        axes.text(0.5, 0.5, "nothing was credited", transform=axes.transAxes, ha="center", color=MEMORYLESS)
        return canvas
    loss, credited = (np.array([getattr(entry, name) for entry in entries]) for name in ("loss_step", "credited_step"))
    norm = np.array([entry.norm for entry in entries])
    size = np.log10(np.maximum(norm / norm.max(), RANGE)) / -np.log10(RANGE) + 1
    order = np.argsort(size)
    dots = axes.scatter(
        loss[order], credited[order], s=4 + 26 * size[order], c=norm[order], cmap="viridis_r", linewidth=0,
        norm=LogNorm(max(norm.max() * RANGE, norm.min()), norm.max()),
    )  # fmt: skip
    ends = np.array([loss.min(), loss.max()])
    axes.plot(ends, ends, color=MEMORYLESS, linewidth=0.8, label="now")
    if planted is not None:
        axes.plot(
            ends, ends - planted, color=MARKED, linewidth=1, linestyle="--", label=f"the cue, {planted:,} steps ago"
        )
    axes.legend(frameon=False, loc="upper left")
    canvas.colorbar(dots, ax=axes, label="norm of the gradient")
    return canvas

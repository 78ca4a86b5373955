"""The table and the curves of learners that read a text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter

from sab_agents.train.plots import MEMORYLESS, figure, tidy


def table_of(curves: Mapping[str, Mapping[str, Any]]) -> str:
    """A Markdown table: bits per character over the whole text and over its last tenth."""
    lines = [
        "| learner | whole pass | last tenth | learning rate (bits where it was tried) | minutes |",
        "| --- | ---: | ---: | --- | ---: |",
    ]
    for name, found in curves.items():
        bits = found["bits"]
        last = np.mean(bits[-len(bits) // 10 :])
        tried = ", ".join(f"{rate} ({value:.3f})" for rate, value in found.get("tried", {}).items())
        chosen = f"{found['settings']['learner']['learning_rate']:g} of {tried}" if tried else "-"
        minutes = f"{found['seconds'] / 60:.0f}" if "seconds" in found else "-"
        lines.append(f"| {name} | {np.mean(bits):.3f} | {last:.3f} | {chosen} | {minutes} |")
    return "\n".join(lines) + "\n"


def plot_curves(path: Path, title: str, curves: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes a PNG of bits per character by characters seen."""
    canvas, (axes,) = figure(7.2, 4.2)
    for name, found in curves.items():
        bits = np.array(found["bits"])
        seen = found["characters"] * (np.arange(len(bits)) + 1) / len(bits)
        plain = "settings" not in found
        (line,) = axes.plot(seen / 1e6, bits, linewidth=1.3, label=f"{name}: {bits.mean():.3f}")
        if plain:
            line.set(color=MEMORYLESS, linestyle="--")
    levels = [np.array(found["bits"]) for found in curves.values()]
    axes.set_ylim(min(level.min() for level in levels) - 0.1, max(np.percentile(level, 98) for level in levels) + 0.1)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.legend(frameon=False, title="bits over the whole pass")
    tidy(axes, title, "million characters seen", "bits per character, before learning it")
    canvas.savefig(path)

"""The table and the curves of a comparison of several cores with several seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sab_agents.train.config import TrainConfig
from sab_agents.train.metrics import UNITS
from sab_agents.train.plots import figure, memoryless_line, tidy

Result = Mapping[str, Any]
Lines = list[dict[str, Any]]


def table_of(results: Sequence[tuple[TrainConfig, Result]]) -> str:
    """A Markdown table: for each core the mean (min … max over seeds) of each metric, of updates and of seconds.

    Args:
        results: of at least one run, all on one task.
    """
    metrics = results[0][1]["metrics"]
    heads = [f"{name.replace('_', ' ')}, {split}" for name in metrics for split in ("test", "validation")]
    lines = [
        "| core | seeds | parameters | " + " | ".join(heads) + " | updates | training seconds |",
        "| --- |" + " ---: |" * (len(heads) + 4),
    ]
    for core in dict.fromkeys(plan.core for plan, _ in results):
        own = [result for plan, result in results if plan.core == core]
        scores = [
            _spread([result["metrics"][name][split] for result in own], "{:.4f}")
            for name in metrics
            for split in ("test", "validation")
        ]
        counts = [_spread([result[key] for result in own], "{:.0f}") for key in ("steps", "seconds")]
        cells = [core, str(len(own)), str(own[0]["parameters"]), *scores, *counts]
        lines.append(f"| {' | '.join(cells)} |")
    lowest = [f"{values['memoryless']:.4f}" for values in metrics.values() for _ in range(2)]
    lines.append(f"| memoryless | | | {' | '.join(lowest)} | | |")
    return "\n".join(lines) + "\n"


def plot_curves(path: Path, runs: Sequence[tuple[TrainConfig, Lines]], metric: str, memoryless: float) -> None:
    """Writes a PNG: each core's validation score by updates and by training seconds, one line for each seed.

    Args:
        path: of the PNG.
        runs: the config and the lines of metrics.jsonl of each run.
        metric: what is drawn.
        memoryless: the score without a memory.
    """
    canvas, panels = figure(11, 4.2, columns=2)
    cores = list(dict.fromkeys(config.core for config, _ in runs))
    for axes, key, name in zip(panels, ("step", "seconds"), ("updates", "training time (s)"), strict=True):
        for config, lines in runs:
            held_out = [line for line in lines if line["split"] == "validation"]
            number = cores.index(config.core)
            axes.plot(
                [line[key] for line in held_out],
                [line[metric] for line in held_out],
                color=f"C{number}",
                linewidth=1.4,
                alpha=0.8,
                label=config.core,
            )
        memoryless_line(axes, memoryless)
        axes.set_xlim(left=0)
        tidy(axes, f"by {name.partition(' (')[0]}", name, f"validation {metric.replace('_', ' ')} ({UNITS[metric]})")
    handles, labels = panels[1].get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    canvas.legend(once.values(), once.keys(), frameon=False, loc="outside right upper")
    canvas.suptitle(f"{runs[0][0].task}: one line for each seed", fontsize=11)
    canvas.savefig(path)


def _spread(values: Sequence[float], form: str) -> str:
    mean = form.format(float(np.mean(values)))
    if len(values) == 1:
        return mean
    return f"{mean} ({form.format(min(values))} … {form.format(max(values))})"

"""What a learner does while it learns from a stream: how old what it reads is, whom it credits, what is wrong.

All figures are those of `OnlineLearner.diagnose` and of the stream's memory, under the names that they have there: a
board gets all of them, a terminal some, on a few lines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from sab_agents.online import OnlineLearner

BARS = " ▁▂▃▄▅▆▇█"
GROUP = "memory/"
"""Under which a board has the figures, as it has those of agents."""


def scalars_of(learner: OnlineLearner) -> dict[str, float]:
    """Returns all figures of a learner, by the names that a board has for them."""
    return {f"{GROUP}{name}": value for name, value in learner.diagnose().scalars().items()}


def learner_lines(learner: OnlineLearner) -> list[str]:
    """Returns what a learner does, on a few lines of a terminal, with the first advice of its diagnosis."""
    found, reads, entries = learner.diagnose(), learner.history.reads(), learner.credit_report().entries
    read = "" if reads is None else ages(reads.distance.numpy(force=True), reads.weight.numpy(force=True))
    distances = np.array([entry.loss_step - entry.credited_step for entry in entries])
    credit = ages(distances, np.array([entry.norm for entry in entries]))
    return [
        *figure_lines(found.scalars(), read, credit),
        *(f"advice    {name}: {line}" for name, line in list(found.advice.items())[:1]),
    ]


def figure_lines(figures: Mapping[str, float], read: str = "", credit: str = "") -> list[str]:
    """Returns figures on a line for each thing that they are about; those that are missing are left out.

    Args:
        figures: of a stream, by name.
        read: bars of the ages of what was read, see `ages`.
        credit: the same of what was credited.
    """
    rows = {
        "memory": (
            ("filled_slots", "{:,.0f} slots filled"),
            ("held_age", "written {:,.0f} steps ago"),
            ("write_rate", "{:.0%} of steps write"),
        ),
        "reads": (("read_distance", "{:,.1f} steps back"), ("reading_steps", "{:.0%} of steps read")),
        "credit": (("credit_distance", "{:,.1f} steps back"), ("credited_slots", "{:.1f} slots at a time")),
        "gradient": (("window_gradient", "{:.2g} from the window"), ("credit_gradient", "{:.2g} from credit")),
    }
    bars, found = {"reads": read, "credit": credit}, []
    for name, parts in rows.items():
        texts = [text.format(figures[key]) for key, text in parts if key in figures]
        if texts:
            found.append(f"{name:<9} {', '.join(texts)}  {bars.get(name, '')}".rstrip())
    return found


def ages(distance: npt.NDArray[np.int64], amount: npt.NDArray[np.floating]) -> str:
    """Returns a bar for each power of two of steps back, from 1 on, with the share of an amount that lies there.

    Args:
        distance: steps back.
        amount: of each, such as a weight of attention; of the same shape.
    """
    there = amount > 0
    if not there.any():
        return ""
    powers = np.log2(np.maximum(distance[there], 1)).astype(np.int64)
    parts = np.bincount(powers, weights=amount[there])
    bars = "".join(BARS[math.ceil((len(BARS) - 1) * part / parts.max())] for part in parts)
    return f"1 {bars} {2 ** len(parts) - 1:,}"

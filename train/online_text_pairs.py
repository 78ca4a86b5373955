"""What a reader without a memory makes of a text: the next character from the present one alone, learnt by counting."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt


def pairs_bits(text: npt.NDArray[np.int64], kinds: int, parts: int) -> dict[str, Any]:
    """Reads a text once; each pair is predicted from those before it, with one added to every count.

    Args:
        text: (steps + 1, rows) codes.
        kinds: of characters.
        parts: of the curve.

    Returns:
        The bits per character of each part, and how many characters there were.
    """
    steps, rows = len(text) - 1, text.shape[1]
    counts = [[1] * kinds for _ in range(kinds)]
    totals = [kinds] * kinds
    chances = np.empty(steps * rows)
    pairs = zip(text[:-1].ravel().tolist(), text[1:].ravel().tolist(), strict=True)
    for index, (now, after) in enumerate(pairs):
        seen = counts[now]
        chances[index] = seen[after] / totals[now]
        seen[after] += 1
        totals[now] += 1
    edges = np.linspace(0, steps, parts + 1).astype(int) * rows
    bits = [float(-np.log2(chances[first:last]).mean()) for first, last in pairwise(edges)]
    return {"bits": bits, "characters": steps * rows}

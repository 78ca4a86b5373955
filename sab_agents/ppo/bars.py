"""Bars with numbers, drawn in numpy: an image for TensorBoard that costs a training loop next to nothing.

Dimensions: H height, W width in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Image = npt.NDArray[np.uint8]

# Five rows of three dots for each glyph: an octal digit is a row.
GLYPHS = {
    "0": "75557", "1": "26227", "2": "71747", "3": "71717", "4": "55711", "5": "74717", "6": "74757", "7": "71122",
    "8": "75757", "9": "75717", "k": "45655", "M": "57755", "%": "51245",
}  # fmt: skip
ZOOM = 3
COLUMN, TALLEST, MARGIN = 18, 40, 7  # dots: width of a bar's place, height of a full bar, room for a number
WHITE, INK = 255, 60


def bars_by_power(shares: Sequence[float], colour: tuple[int, int, int]) -> Image:
    """Bars for distances 1, 2, 4, 8, …: above each its share in percent, below it where its distances begin.

    Args:
        shares: from 0 to 1, at least one.
        colour: red, green and blue, from 0 to 255.

    Returns:
        (H, W, 3).
    """
    dots = np.full((TALLEST + 2 * MARGIN, COLUMN * len(shares), 3), WHITE, np.uint8)
    ground = MARGIN + TALLEST
    for power, share in enumerate(shares):
        left = COLUMN * power
        top = ground - round(TALLEST * share)
        dots[top:ground, left + 2 : left + COLUMN - 2] = colour
        _write(dots, f"{100 * share:.0f}%", top - MARGIN + 1, left)
        _write(dots, label_of(power), ground + 1, left)
    dots[ground] = INK
    return dots.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)


def label_of(power: int) -> str:
    """2 to this power, in at most four glyphs up to 2^29: 512, 1k, 512k, 1M."""
    unit = min(power // 10, 2)
    return f"{2 ** (power - 10 * unit)}{('', 'k', 'M')[unit]}"


def text_of(text: str) -> Bools:
    """Text in dots, (5, 4 · glyphs − 1)."""
    rows = [[f"{int(GLYPHS[glyph][row]):03b}" for glyph in text] for row in range(5)]
    return np.array([[dot == "1" for dot in "0".join(row)] for row in rows])


def _write(dots: Image, text: str, top: int, left: int) -> None:
    """Writes text in the middle of a bar's place."""
    found = text_of(text)[:, :COLUMN]
    start = left + (COLUMN - found.shape[1]) // 2
    dots[top : top + 5, start : start + found.shape[1]][found] = INK

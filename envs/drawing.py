"""Pictures of boards of square tiles, in numpy alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sab_agents.envs.dynamics import Image

GROUND, FLOOR, AGENT, GOOD, BAD, SIGN, MARK = range(7)
"""What a tile shows: nothing, a place to be, the agent, what is wanted, what is not, what tells, what else there is."""
COLOURS = np.array(
    [(24, 26, 33), (62, 67, 84), (245, 245, 240), (92, 190, 120), (214, 90, 84), (240, 184, 72), (96, 150, 222)],
    dtype=np.uint8,
)
TILE = 24  # pixels
GAP = 2  # pixels of ground between two tiles

Tiles = npt.NDArray[np.int64]


def picture_of(tiles: Tiles, progress: float) -> Image:
    """Draws the tiles, with a bar below them that grows from left to right.

    Args:
        tiles: (rows, columns) what each tile shows.
        progress: how much of the bar is lit, from 0 to 1.

    Returns:
        (height, width, 3) a picture, framed by the colour of the ground.
    """
    rows, columns = tiles.shape
    image = np.empty((rows * TILE + 4 * GAP + TILE // 4, columns * TILE + 2 * GAP, 3), dtype=np.uint8)
    image[:] = COLOURS[GROUND]
    board = COLOURS[tiles].repeat(TILE, axis=0).repeat(TILE, axis=1)
    gap = np.arange(TILE * max(rows, columns)) % TILE < GAP
    board[gap[: rows * TILE]] = COLOURS[GROUND]
    board[:, gap[: columns * TILE]] = COLOURS[GROUND]
    image[GAP : GAP + rows * TILE, : columns * TILE] = board
    bar = image[-GAP - TILE // 4 : -GAP, GAP:-GAP]
    bar[:] = COLOURS[FLOOR]
    bar[:, : round(min(max(progress, 0.0), 1.0) * bar.shape[1])] = COLOURS[SIGN]
    return image


def squeezed(position: int, last: int, columns: int) -> int:
    """Returns the column of a position in 0 … last on a board of fewer columns; only the ends are shown at the ends."""
    if last < columns or position == 0:
        return position
    return 1 + (position - 1) * (columns - 2) // (last - 1)

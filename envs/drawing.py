"""RGB images of environments, in NumPy alone: boards of square tiles, and sequences of brightness values."""

from __future__ import annotations

import numpy as np

from sab_agents.envs.arrays import Array, Image, Ints

GROUND, FLOOR, AGENT, GOOD, BAD, SIGN, MARK = range(7)
"""Kinds of tiles: background, free cell, agent, desired object, undesired object, hint, any other object."""
COLOURS = np.array(
    [(24, 26, 33), (62, 67, 84), (245, 245, 240), (92, 190, 120), (214, 90, 84), (240, 184, 72), (96, 150, 222)],
    dtype=np.uint8,
)
TILE = 24  # side of a tile in screen pixels
GAP = 2  # screen pixels of background between two tiles
MAX_COLUMNS = 40  # of a board that shows the steps of an episode
CELL = 8  # side of a brightness value in screen pixels


def picture_of(tiles: Ints, progress: float) -> Image:
    """Draws a board of tiles with a progress bar below.

    Args:
        tiles: (rows, columns) kind of each tile.
        progress: filled fraction of the bar, clipped to 0 … 1.

    Returns:
        (height, width, 3) image.
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


def picture_of_values(brightness: Array, progress: float) -> Image:
    """Draws a matrix as squares from dark to light with a progress bar below.

    Args:
        brightness: (rows, columns) values, clipped to 0 … 1.
        progress: filled fraction of the bar, at most 1.

    Returns:
        (height, width, 3) image.
    """
    dark, light = COLOURS[GROUND].astype(np.float64), COLOURS[AGENT].astype(np.float64)
    board = (dark + (light - dark) * brightness[..., None].clip(0, 1)).astype(np.uint8)
    bar = np.full((1, board.shape[1], 3), COLOURS[FLOOR])
    bar[:, : round(min(progress, 1.0) * board.shape[1])] = COLOURS[SIGN]
    return np.concatenate([board, bar]).repeat(CELL, axis=0).repeat(CELL, axis=1)


def column_of(position: int, last: int, columns: int) -> int:
    """Returns the column that shows a position in 0 … last on a board that may have fewer columns than positions.

    The first and the last column show only the first and the last position.
    """
    if last < columns or position == 0:
        return position
    return 1 + (position - 1) * (columns - 2) // (last - 1)

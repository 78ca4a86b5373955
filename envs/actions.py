"""Checks of actions, made before the environment changes: each error says the rule, the value and the remedy.

Dimensions: n copies.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import Space, spaces

from sab_agents.envs.arrays import Array, Bools


class ActionCheck:
    """Converts the actions of n copies to an array and checks that each lies in the action space.

    Args:
        owner: name of the environment in error messages.
        space: action space of one copy.
        n: number of copies.
    """

    def __init__(self, owner: str, space: Space[Any], n: int) -> None:
        self._owner = owner
        self._space = space
        self._n = n
        self._shape = (n, *(space.shape or ()))
        self._discrete = isinstance(space, spaces.Discrete) and space.start == 0
        self._count = np.uint64(space.n) if isinstance(space, spaces.Discrete) else np.uint64(0)

    def __call__(self, actions: object, ignored: Bools | None = None) -> Array:
        """Returns the actions as an array with the dtype of the space.

        Args:
            actions: (n, …) array or nested sequence.
            ignored: (n,) bool, True for copies whose action has no effect and may have any value; None for no copy.

        Raises:
            TypeError: the actions are not numbers of the kind that the space has.
            ValueError: the actions have the wrong shape, or one of them is outside the space.
        """
        try:
            array = np.asarray(actions)
        except ValueError as error:  # nested sequences of different lengths
            raise ValueError(
                f"{self._owner}: actions must be one array, but are {actions}. Give all actions the same shape."
            ) from error
        if self._discrete and array.dtype == np.int64 and array.shape == self._shape:
            # Viewed as unsigned, a negative number is huge, so one comparison checks both bounds.
            if np.maximum.reduce(array.view(np.uint64)) < self._count:
                return array
        elif array.shape != self._shape:
            raise ValueError(
                f"{self._owner}: actions must have shape {self._shape}, but have shape {array.shape}. "
                f"Pass one action of {self._space} for each of the {self._n} copies."
            )
        elif array.dtype.kind not in ("iu" if isinstance(self._space, spaces.Discrete) else "iuf"):
            raise TypeError(
                f"{self._owner}: actions must be in {self._space}, but have dtype {array.dtype}. "
                f"Convert them to {self._space.dtype}."
            )
        return self._convert(array, ignored)

    def _convert(self, array: Array, ignored: Bools | None) -> Array:
        """Checks the values of an array of the right shape and kind, and converts it to the dtype of the space."""
        space = self._space
        if isinstance(space, spaces.Discrete):
            inside = (array >= space.start) & (array < space.start + space.n)
        elif isinstance(space, spaces.Box):
            inside = ((array >= space.low) & (array <= space.high)).reshape(self._n, -1).all(axis=1)
        else:
            inside = np.array([space.contains(row) for row in array])
        if ignored is not None and not inside[ignored].all():
            array = array.copy()
            array[ignored] = array[inside & ~ignored][0] if (inside & ~ignored).any() else space.sample()
            inside = inside | ignored
        if not inside.all():
            copy = int(np.flatnonzero(~inside)[0])
            which = f" of copy {copy}" if self._n > 1 else ""
            raise ValueError(
                f"{self._owner}: an action must be in {space}, but the action{which} is {array[copy]}. "
                "Take actions from env.action_space."
            )
        return array.astype(space.dtype)

"""Checks actions before anything changes: rule, what came, what to do.

Dimensions: n copies.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import Space, spaces

from sab_agents.envs.dynamics import Array, Bools


class ActionCheck:
    """Turns what a caller passes as actions into an array of n checked actions.

    Args:
        owner: who speaks in the messages.
        space: the action space of one copy.
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
        """Returns the actions as an array of the space's type.

        Args:
            actions: (n, …) whatever the caller passed.
            ignored: (n,) bool, copies whose action has no effect and may be anything; None = no copy.

        Raises:
            TypeError: they are no numbers of the space's kind.
            ValueError: their shape is wrong, or one lies outside the space.
        """
        try:
            array = np.asarray(actions)
        except ValueError as error:  # lists within lists, of different lengths
            raise ValueError(
                f"{self._owner}: actions must be one array, but are {actions}. Give all the same shape."
            ) from error
        if self._discrete and array.dtype == np.int64 and array.shape == self._shape:
            # A negative number read without a sign is huge, so one comparison checks both bounds.
            if np.maximum.reduce(array.view(np.uint64)) < self._count:
                return array
        elif array.shape != self._shape:
            raise ValueError(
                f"{self._owner}: actions must have shape {self._shape}, but have {array.shape}. "
                f"Pass one action of {self._space} for each of the {self._n} copies."
            )
        elif array.dtype.kind not in ("iu" if isinstance(self._space, spaces.Discrete) else "iuf"):
            raise TypeError(
                f"{self._owner}: actions must be in {self._space}, but have dtype {array.dtype}. "
                f"Convert them to {self._space.dtype}."
            )
        return self._slow(array, ignored)

    def _slow(self, array: Array, ignored: Bools | None) -> Array:
        """Converts and checks any array whose shape and kind are right."""
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

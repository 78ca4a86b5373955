"""Rollout buffers of stable-baselines3 for learning in rows: steps stay in their places, and states are elsewhere."""

from __future__ import annotations

import copy
from collections.abc import Generator
from typing import Any, NoReturn

from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer

STATES = ("hidden_states_pi", "cell_states_pi", "hidden_states_vf", "cell_states_vf", "hidden_state_shape")


class _InRows:
    """Says where the recurrent states are that sb3-contrib's buffers hold: learning replays rows from one state."""

    def __getattr__(self, name: str) -> NoReturn:
        if name in STATES:
            raise AttributeError(
                f"RecurrentPPO's rollout_buffer has no {name}: rows are replayed, and the states between their steps "
                "are not stored. A callback finds those after each step in self.locals['lstm_states'] (pi and vf); "
                "collect them in _on_step."
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def get(self, batch_size: int | None = None) -> Generator[Any, None, None]:
        """Yields shuffled steps, as the base class does, and leaves the buffer as it is: steps by environments."""
        yield from super(_InRows, copy.copy(self)).get(batch_size)  # type: ignore[misc]


class RowBuffer(_InRows, RolloutBuffer):
    """Rollouts of arrays."""


class DictRowBuffer(_InRows, DictRolloutBuffer):
    """Rollouts of dicts."""

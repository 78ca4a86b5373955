"""One step after another into the record of a window, each looked at and copied by one native call.

Dimensions: T steps that there is room for, I input size.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sab_agents.kernels.backend import is_plain
from sab_agents.kernels.native_backend.extension import FLAG, REAL, fits, native


class Recorder:
    """Records observations of one row, with which no episode starts.

    Only what the native kernel takes is recorded. A caller records everything else by itself.

    Args:
        size: I.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._shape = (1, size)
        self._into: tuple[Tensor, Tensor | None] | None = None  # what the arguments are bound to
        self._note: Any = None  # the arguments; None for tensors that the native kernel does not take

    def __reduce__(self) -> tuple[type[Recorder], tuple[int]]:
        """A copy is bound to nothing."""
        return Recorder, (self._size,)

    def put(self, x: Tensor, record: Tensor, starts: Tensor | None, time: int) -> bool:
        """Records x as step `time`, and that no episode starts there.

        Args:
            x: (1, I).
            record: (T, 1, I), changed.
            starts: (T, 1) bool, changed; None for none.
            time: below T.

        Returns:
            Whether it was done. It was not, and nothing has changed, if x is not finite, or not such a tensor as the
            native kernel takes.
        """
        if native is None or not is_plain(x) or not fits(x, self._shape, REAL):
            return False
        into = self._into
        if into is None or into[0] is not record or into[1] is not starts:
            self._bind(record, starts)
        note = self._note
        if note is None or not 0 <= time < self._room:
            return False
        note.x, note.time = x, time
        return bool(note.run())

    def _bind(self, record: Tensor, starts: Tensor | None) -> None:
        self._into, self._room, self._note = (record, starts), len(record), None
        if fits(record, (self._room, *self._shape), REAL) and (starts is None or fits(starts, (self._room, 1), FLAG)):
            self._note = native.Note(size=self._size, record=record, starts=starts)

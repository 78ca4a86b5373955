"""Buffers of scans that are run again and again, and where everything lies in them.

Dimensions: T steps, B rows, I input size, H hidden size, A attention size, S₀ slots of the starting memory, V = S₀ + T
versions, R = K + 1 slots that a read touches.
"""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

from torch import Tensor

from sab_agents.kernels.native_backend.extension import new_empty, threads
from sab_agents.kernels.native_backend.step import WHOLE


class RunSpace:
    """Buffers of one run at a time: making them anew for each would cost more than a short run does."""

    def __init__(self) -> None:
        self._floats, self._wholes = new_empty(0), new_empty(0, dtype=WHOLE)
        self._layouts: dict[Sizes, Layout] = {}

    def __reduce__(self) -> tuple[type[RunSpace], tuple[()]]:
        """A copy has buffers of its own."""
        return RunSpace, ()

    def layout(self, sizes: Sizes) -> Layout:
        """Where everything lies in a run of these sizes."""
        found = self._layouts.get(sizes)
        if found is None:
            places = sizes.places()
            if places[-1] > self._floats.numel() or sizes.reads_of_all > self._wholes.numel():
                self._floats = new_empty(max(places[-1], self._floats.numel()))
                self._wholes = new_empty(max(sizes.reads_of_all, self._wholes.numel()), dtype=WHOLE)
                self._layouts.clear()
            found = self._layouts[sizes] = Layout(sizes, places, self._floats, self._wholes)
        return found


class Sizes(NamedTuple):
    """What decides where everything lies."""

    T: int
    B: int
    inputs: int
    H: int
    A: int
    held: int
    R: int

    def places(self) -> list[int]:
        """Where each part of the floats begins, each at a cache line's start; last, where they end."""
        T, B, _, H, A, held, R = self
        state, versions = T * B * H, (held + T) * B
        tape = (
            4 * state,
            state + B * H,
            state,
            T * B * A,
            versions * A,
            T * B * R,
            state,
            versions * H,
            T * B * R,
            B * H,
        )
        sent = (versions * H, versions * A, T * B * A, B * A, 4 * state, B * H, B * H)
        return list(accumulate((-(-count // 16) * 16 for count in (*tape, *sent)), initial=0))

    @property
    def reads_of_all(self) -> int:
        """Whole numbers that are kept."""
        return self.T * self.B * self.R


class Layout:
    """Addresses in the buffers of a `RunSpace`.

    Attributes:
        sizes: what they are for.
        threads: that share the work.
        tape: as in `Forward` of src/arguments.h, from gates to last_cell.
        taken: those of them that `Backward` reads, in its order.
        sent: as in `Backward`, from grad_states to grad_cell.
        last_cell: (B, H), a view.
    """

    def __init__(self, sizes: Sizes, places: list[int], floats: Tensor, wholes: Tensor) -> None:
        T, B, H = sizes.T, sizes.B, sizes.H
        self.sizes, self._kept = sizes, (floats, wholes)
        self.threads = threads(T * B * 4 * H * H)
        first = floats.data_ptr()
        at = [first + 4 * place for place in places[:-1]]
        gates, cell, output, query, keys, scores, summary, hidden, weights, last_cell = at[:10]
        versions = wholes.data_ptr()
        self.tape = (gates, cell, output, query, keys, scores, summary, hidden, versions, weights, last_cell)
        self.taken = (gates, cell, output, query, keys, scores, summary, hidden, versions, weights)
        self.sent = at[10:17]
        self.last_cell = floats[places[9] : places[9] + B * H].view(B, H)

"""The present segment of a stream of one row, run again at every step for its last output, and back, in compiled C++.

Everything is where it was at the step before, so a step is one call, and so is the way back: their arguments lie in
arrays, in the order of src/segment.h, of which a step changes a few.

Dimensions: T steps of the segment, I input size, H hidden size, A attention size, S slots, R = K + 1 slots that a step
touches, L = bptt_steps, U = L·R, M pieces that are run again.
"""

from __future__ import annotations

from ctypes import addressof
from enum import IntEnum
from typing import Any, Self

import torch
from torch import Tensor

from sab_agents.kernels.native_backend.bound import BoundScan
from sab_agents.kernels.native_backend.extension import addresses, bits, native, new_empty, whole_numbers
from sab_agents.kernels.native_backend.space import Layout, RunSpace, Sizes
from sab_agents.kernels.native_backend.step import FLAG, REAL, WHOLE, fits
from sab_agents.kernels.native_backend.stream import CompiledStream
from sab_agents.kernels.types import StepState, StepWeights, WindowRecord

CHANGING = 0  # what is filled in elsewhere
# Numbers in front that change: of a `SegmentStep` and of a `SegmentBackward`.
STEP_HEAD, BACK_HEAD = 23, 18


class Mode(IntEnum):
    """What `CompiledSegment` does with an observation; see src/segment.h."""

    RUN, TAKE, PROPOSE = 0, 1, 2


class CompiledSegment:
    """Make it with `bound`.

    Args:
        stream: of one row, whose observations are the network's inputs.
        scan: with the network's weights.
        novelty: one number, or None where every h is worth a slot.
        credits: whether the slots pass on, by one link, what they receive; else `backward` returns it.
    """

    def __init__(self, stream: CompiledStream, scan: BoundScan, novelty: Tensor | None, *, credits: bool) -> None:
        self.stream, self._scan, self._novelty, self._credits = stream, scan, novelty, credits
        H, S, R = stream.size, stream.slots, stream.reads
        # What a step computes before it is taken: [h, s], c, the slots it read, their weights, and whether h is novel.
        self._computed = (
            *(new_empty(2 * H), new_empty(H), new_empty(R, dtype=WHOLE), new_empty(R)),
            None if novelty is None else new_empty(1, dtype=FLAG),
        )
        sizes = Sizes(stream.bptt_steps, 1, scan.inputs, H, scan.attention, S, R)
        self._space = RunSpace()
        self._layout = self._space.layout(sizes)
        self._pieces = _Pieces(stream, scan)
        # Zeros but for its last row: the gradient of the last of T outputs, seen from L − T rows on.
        self._whole = torch.zeros(stream.bptt_steps, 2 * H)
        self._cut = torch.zeros(stream.bptt_steps, 1, dtype=FLAG)
        self._cut[0] = True
        self._sent = new_empty(S, H)
        self._found = tuple(new_empty(count, dtype=WHOLE) for count in (S, S, S, 1))
        self._steps = whole_numbers([CHANGING] * STEP_HEAD + self._step_parts())
        self._back = whole_numbers([CHANGING] * BACK_HEAD + self._backward_parts())
        self._step_at = addressof(self._steps), len(self._steps)
        self._back_at = addressof(self._back), len(self._back)
        self._window: tuple[WindowRecord, StepState, Tensor] | None = None
        self._order: Tensor | None = None

    @classmethod
    def bound(
        cls, stream: CompiledStream, weights: StepWeights, novelty: Tensor | None, *, credit: bool, credits: bool
    ) -> Self | None:
        """One for these weights; None where something is not what the compiled code takes.

        Args:
            stream: see the class.
            weights: of the network.
            novelty: see the class.
            credit: whether gradient reaches the memories that were read at all.
            credits: see the class.
        """
        scan = BoundScan.bound(weights, credit=credit, gain=stream.gain)
        observed = stream.contexts[2].shape[3:]
        if scan is None or stream.rows != 1 or observed != (scan.inputs,) or scan.size != stream.size:
            return None
        return cls(stream, scan, novelty, credits=credits)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """A copy is bound to nothing."""
        return type(None), ()

    def enter(self, record: WindowRecord, before: StepState, reached: Tensor) -> None:
        """Says where the window is recorded, what was there before it, and where norms of credit (1, S) are added."""
        window = self._window
        if window is not None and window[0] is record and window[1] is before and window[2] is reached:
            return
        self._window = record, before, reached
        h, c, memory, filled, written_at, _ = addresses(*before)
        recorded = addresses(*record)
        self._steps[8:STEP_HEAD] = [h, c, memory, filled, *recorded]
        self._back[3:BACK_HEAD] = [h, filled, written_at, *recorded, reached.data_ptr()]

    def plan(self, order: Tensor, taken: Tensor) -> None:
        """Says which slots the next writes take."""
        if order is not self._order:
            self._order = order
            self._steps[5:8] = [order.shape[1], *addresses(order, taken)]

    def call(self, mode: Mode, time: int, x: Tensor | None, start: Tensor | None) -> Tensor | None:
        """The last output [h, s] (1, 2H) of the segment, run again, or the output that x would have.

        Args:
            mode: RUN runs the T steps that are taken; TAKE takes x first, as the T-th; PROPOSE computes x alone.
            time: T − 1.
            x: (1, I), or None to RUN.
            start: (1,) bool, whether an episode begins with x; or None.

        Returns:
            The output; None, and nothing done, where x is not what the compiled code takes.

        Raises:
            ValueError: a slot is out of range.
        """
        if mode is not Mode.RUN and (x is None or not fits(x, (1, self._scan.inputs), REAL)):
            return None
        if start is not None and not fits(start, (1,), FLAG):
            return None
        result = new_empty(1, 2 * self._scan.size)
        self._steps[:5] = [mode, *addresses(x, start), time, result.data_ptr()]
        found = native.segment_step(*self._step_at)
        if found > 1:
            raise ValueError(f"SABStream: the slots that steps write to must lie in -1 … {self.stream.slots - 1}.")
        return None if found else result

    def backward(self, steps: int, gradient: Tensor) -> Tensor | None:
        """Adds what the gradient (1, 2H) of the last output owes, slots included where it is this code that credits.

        Args:
            steps: T of the segment that was run last.
            gradient: of its last output.

        Returns:
            The gradient (1, S, H) of the memory before the segment; None where it was credited.

        Raises:
            ValueError: the gradient does not fit, or an index of the contexts is out of range.
        """
        if not fits(gradient, (1, 2 * self._scan.size), REAL):
            raise ValueError(f"SABLearner: a gradient must be float32 (1, 2H), but is {tuple(gradient.shape)}.")
        self._back[:2] = [steps, gradient.data_ptr()]
        M = native.segment_backward(*self._back_at)
        if M < 0:
            raise ValueError("SABStream.credit: the contexts must name pieces and steps that are there.")
        if self._pieces.capacity < M:
            self._pieces.make_room(M)
            self._back[2] = M
            self._back = whole_numbers([*self._back[:BACK_HEAD], *self._backward_parts()])
            self._back_at = addressof(self._back), len(self._back)
            native.segment_credit(*self._back_at)
        return None if self._credits else self._sent.unsqueeze(0)

    def _step_parts(self) -> list[int]:
        """`Step`, `Take` and `BoundForward`."""
        stream, scan = self.stream, self._scan
        H, S, R = stream.size, stream.slots, stream.reads
        output, new_c, read_slot, weight, novel = addresses(*self._computed)
        state = addresses(*stream.state)
        step = [
            *(
                1,
                1,
                scan.inputs,
                H,
                scan.attention,
                S,
                R,
                stream.write_every,
                bits(stream.gain),
                CHANGING,
                *scan.weights,
                CHANGING,
            ),
            *(*state, output, 0, new_c, 0, 0, 0, 0, read_slot, weight, *addresses(self._novelty), novel),
        ]
        take = [
            *(
                1,
                H,
                S,
                R,
                stream.write_every,
                stream.bptt_steps,
                4 * scan.inputs,
                CHANGING,
                CHANGING,
                CHANGING,
                CHANGING,
            ),
            *(output, new_c, read_slot, weight, novel, 0, CHANGING, CHANGING, *state, *[CHANGING] * 11),
        ]
        return [*step, *take, *scan.forward_arguments(self._layout, S, CHANGING, [CHANGING] * 6)]

    def _backward_parts(self) -> list[int]:
        """What stands behind the head of `SegmentBackward`."""
        stream, scan, pieces = self.stream, self._scan, self._pieces
        H, S, L, R = stream.size, stream.slots, stream.bptt_steps, stream.reads
        piece, offset, *contexts = addresses(*stream.contexts)
        column, row, place, steps = addresses(*self._found)
        x, h, c, value, used, target, grad_hidden, start, cut = pieces.room
        sent = self._sent.data_ptr()
        first_cut = self._cut.data_ptr()
        back = scan.backward_arguments(
            self._layout, (CHANGING, CHANGING, 2 * H), [CHANGING, CHANGING, CHANGING, first_cut, CHANGING], sent
        )
        select = [*(1, H, S, L, 0, sent, CHANGING, CHANGING, piece, offset, CHANGING), column, row, place, steps]
        gather = [*(1, H, S, L, R, 4 * scan.inputs, CHANGING, sent, column, offset, row, place), *contexts[:5]]
        gather += [contexts[7], x, h, c, value, used, target, start, cut, grad_hidden]
        again = scan.forward_arguments(pieces.layout, L * R + L, x, [h, c, value, start, target, used])
        last = scan.backward_arguments(pieces.layout, (grad_hidden, 0, H), [x, h, start, cut, target], 0)
        head = [int(self._credits), pieces.capacity, self._whole.data_ptr()]
        return [*head, *back, *select, *gather, *again, *last]


class _Pieces:
    """Room for the pieces that are run again.

    Attributes:
        capacity: pieces that there is room for.
        room: addresses of x (L, M, I), h (M, H), c (M, H), value (M, U, H), used (M, U), target (L, M), the gradient of
            h (L, M, H), and start and cut (L, M).
        layout: of a run of so many.
    """

    def __init__(self, stream: CompiledStream, scan: BoundScan) -> None:
        self._stream, self._scan = stream, scan
        self._space = RunSpace()
        self.make_room(4)

    def make_room(self, count: int) -> None:
        """Makes sure that `count` pieces have room."""
        stream, scan = self._stream, self._scan
        self.capacity = M = min(2 * count, stream.slots)
        H, L, U = stream.size, stream.bptt_steps, stream.bptt_steps * stream.reads
        self._kept: tuple[Any, ...] = (
            *(new_empty(L, M, scan.inputs), new_empty(M, H), new_empty(M, H), new_empty(M, U, H)),
            *(new_empty(M, U, dtype=FLAG), new_empty(L, M, dtype=WHOLE), new_empty(L, M, H)),
            *(new_empty(L, M, dtype=FLAG), new_empty(L, M, dtype=FLAG)),
        )
        self.room = addresses(*self._kept)
        self.layout: Layout = self._space.layout(Sizes(L, M, scan.inputs, H, scan.attention, U, stream.reads))

"""The present segment, replayed at every step for its last output, with the native kernel; and its backward pass.

Everything lies where it lay at the step before, so the arguments of each operation live on, and a step changes a few.

Dimensions: T steps of the segment, I input size, H hidden size, A attention size, S slots, R = K + 1 slots that a step
touches, L = bptt_steps, U = L·R, M pieces that are replayed.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from sab_agents.kernels.native_backend.extension import FLAG, REAL, WHOLE, fits, native, new_empty, new_row
from sab_agents.kernels.native_backend.pieces import PieceReplays, Selected
from sab_agents.kernels.native_backend.run import Given, LSTMWeights, Network, begin_with
from sab_agents.kernels.native_backend.stream import CompiledStream
from sab_agents.kernels.native_backend.tape import Sizes, Space
from sab_agents.kernels.stream_types import StreamState, WindowRecord
from sab_agents.kernels.types import NOTHING_READ, StepWeights


class CompiledLSTM:
    """The present segment of an LSTM, a scan that remembers nothing; make it with `bound`.

    Args:
        network: of the LSTM.
        steps: L.
    """

    def __init__(self, network: Network, steps: int) -> None:
        self._inputs, self._hidden_size, _ = network.sizes
        # No episode starts within a segment, gradient ends at its first step, and nothing is ever written.
        self._start = torch.zeros(steps, 1, dtype=FLAG)
        self._cut = torch.zeros(steps, 1, dtype=FLAG)
        self._cut[0] = True
        self._nowhere = torch.full((steps, 1), -1, dtype=WHOLE)
        self._steps = steps
        self.cell, self.peeked_cell = new_empty(1, self._hidden_size), new_empty(1, self._hidden_size)
        self._kept, self._backward = self._arguments(network, steps, self.cell)
        self._peeked, _ = self._arguments(network, 1, self.peeked_cell)
        self._peeked.steps = 1
        self._kept.parts = self._peeked.parts = 1
        # x, h and c, as they were passed and checked.
        self._last: tuple[Tensor, Tensor, Tensor] | None = None
        self._last_peeked: tuple[Tensor, Tensor] | None = None  # x and c
        self._hidden: Tensor | None = None  # after the last run

    def _arguments(self, network: Network, steps: int, cell: Tensor) -> tuple[Any, Any]:
        """Returns those of a forward and of a backward pass of at most `steps` steps, but for x and the states.

        Args:
            network: of the LSTM.
            steps: at most.
            cell: (1, H), gets c after the last step.
        """
        H, space = (
            self._hidden_size,
            Space.of(Sizes.of(steps, 1, self._inputs, self._hidden_size, 0, 0, network.reading)),
        )
        space.tape = space.tape._replace(last_cell=cell)
        given = Given((), (), (), (), self._start, self._cut, self._nowhere, (), None, None)
        backward = network.backward(
            space, given, grad_hidden=None, grad_summary=None, stride=H, last_only=True, grad_memory=None
        )
        return network.forward(space, given, slots=0), backward

    @classmethod
    def bound(cls, weights: tuple[Tensor, ...], steps: int) -> Self | None:
        """Returns one for these weights; None if the native kernel cannot take one of them or its gradient.

        Args:
            weights: (4H, I), (4H, H), (4H,) and (4H,), as `nn.LSTM` has them, each with a `.grad`.
            steps: L.
        """
        weight_ih, weight_hh, bias_ih, bias_hh = weights
        network = Network.bound(LSTMWeights(weight_ih, weight_hh, bias_ih, bias_hh), NOTHING_READ)
        return None if network is None else cls(network, steps)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """A copy is bound to nothing."""
        return type(None), ()

    def run(self, x: Tensor, steps: int, h: Tensor, c: Tensor) -> Tensor:
        """Returns h (1, H) after T steps, and leaves c in `cell`; for a `backward` to come.

        Args:
            x: (n, 1, I) inputs, of which T are there.
            steps: T ≤ L.
            h: (1, H) before the first step.
            c: (1, H) before the first step.
        """
        forward, backward, output = self._kept, self._backward, new_row(1, self._hidden_size)
        last = self._last
        if last is None or last[0] is not x or last[1] is not h or last[2] is not c:
            self._require(x, len(x), h, c)
            forward.x, forward.h, forward.c = self._last = x, h, c
            backward.x, backward.h = x, h
        if not 0 < steps <= min(len(x), self._steps):
            raise ValueError(f"TruncatedStream: a segment has from 1 to {self._steps} steps, but has {steps}.")
        forward.steps = backward.steps = steps
        forward.last_output = output
        forward.run()
        self._hidden = output
        return output

    def peek(self, x: Tensor, h: Tensor, c: Tensor) -> Tensor:
        """Returns h (1, H) after one step x (1, 1, I), and leaves c in `peeked_cell`."""
        forward, output, last = self._peeked, new_row(1, self._hidden_size), self._last_peeked
        if last is None or last[0] is not x or last[1] is not c or h is not self._hidden:
            self._require(x, 1, h, c)
            forward.x, forward.c = self._last_peeked = x, c
        forward.h, forward.last_output = h, output
        forward.run()
        return output

    def _require(self, x: Tensor, steps: int, h: Tensor, c: Tensor) -> None:
        H = self._hidden_size
        if not (fits(x, (steps, 1, self._inputs), REAL) and fits(h, (1, H), REAL) and fits(c, (1, H), REAL)):
            raise ValueError(
                f"TruncatedStream: observations must be float32 (1, {self._inputs}), but are {tuple(x.shape)}."
            )

    def backward(self, gradient: Tensor) -> None:
        """Adds to the gradients of the weights, given that of the last h that was kept.

        Args:
            gradient: (1, H).

        Raises:
            ValueError: the gradient is not float32 of that shape.
        """
        if not fits(gradient, (1, self._hidden_size), REAL):
            raise ValueError(f"TruncatedStream: a gradient must be float32 (1, H), but is {tuple(gradient.shape)}.")
        self._backward.grad_hidden = gradient
        self._backward.run()


class CompiledSegment:
    """The present segment of a stream of one row; make it with `bound`.

    Args:
        stream: of one row, whose observations are the network's inputs.
        network: of the stream.
        credits: whether the slots pass on, by one link, what they receive; else `backward` returns it.
    """

    def __init__(self, stream: CompiledStream, network: Network, *, credits: bool) -> None:
        self.stream, self._credits = stream, credits
        self._inputs, self._hidden_size, attention = network.sizes
        H, S, L, R = stream.size, stream.slots, stream.bptt_steps, stream.reads
        self._output, new_c, weight = new_empty(1, 2 * H), new_empty(H), new_empty(R)
        read_slot = new_empty(R, dtype=WHOLE)
        near = None if stream.limit is None else new_empty(1, dtype=WHOLE)
        reading = network.reading
        stored = new_empty(H) if reading.apart else None
        self._space = Space.of(Sizes.of(L, 1, self._inputs, H, attention, S, reading))
        step = self._step = stream.step_arguments(new_c, read_slot, weight, stored, near)
        step.threads, step.input, step.attention = 1, self._inputs, attention
        step.projection, step.recurrence = network.weights, network.weights
        take = self._take = stream.take_arguments(new_c, read_slot, weight, stored, near)
        take.output = self._output
        self._cut = torch.zeros(L, 1, dtype=FLAG)
        self._cut[0] = True
        self._grad_memory = new_empty(S, H)
        self._selected = Selected.empty(1, S)
        self._select = native.Select(
            rows=1,
            size=H,
            slots=S,
            steps=L,
            newest=False,
            gradient=self._grad_memory,
            contexts=stream.contexts,
            norm=None,
            credit=stream.state.credit,
            kept=stream.kept,
            column=self._selected.column,
            row=self._selected.row,
            place=self._selected.place,
        )
        self._pieces = PieceReplays(stream.shape, network, 8)
        times = ((), ()) if reading.age else (None, None)
        nothing = Given((), (), (), (), (), self._cut, (), (), *times)  # until a window is entered
        self._forward = network.forward(self._space, nothing, slots=S)
        self._backward = network.backward(
            self._space,
            nothing,
            grad_hidden=None,
            grad_summary=None,
            stride=2 * H,
            last_only=True,
            grad_memory=self._grad_memory,
        )
        self._window: tuple[WindowRecord, StreamState] | None = None

    @classmethod
    def bound(cls, stream: CompiledStream, weights: StepWeights, *, credits: bool) -> Self | None:
        """Returns one for these weights; None if the native kernel cannot take something.

        Args:
            stream: see the class.
            weights: of the network.
            credits: see the class.
        """
        network = Network.bound(weights, stream.rules.reading)
        if network is None or stream.rows != 1:
            return None
        inputs, H, _ = network.sizes
        if stream.contexts.observation.shape[3:] != (inputs,) or stream.size != H:
            return None
        return cls(stream, network, credits=credits)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """A copy is bound to nothing."""
        return type(None), ()

    def enter(self, record: WindowRecord, before: StreamState) -> None:
        """Says where the window is recorded, and what was there before it."""
        window = self._window
        if window is not None and window[0] is record and window[1] is before:
            return
        self._window = record, before
        forward, backward, select = self._forward, self._backward, self._select
        begin_with(forward, backward, before, age=self.stream.rules.reading.age)
        for scan in (forward, backward):
            scan.x, scan.start, scan.write_slot = record.observation, record.start, record.write_slot
        select.filled, select.written_at = before.filled, before.written_at
        self._take.window = record

    def step(self, time: int, x: Tensor, start: Tensor | None) -> Tensor | None:
        """Takes the step x as the T-th, and returns the last output [h, s] (1, 2H) of the replayed segment.

        Args:
            time: T − 1.
            x: (1, I).
            start: (1,) bool, whether an episode begins with x; or None.

        Returns:
            The output; None, and nothing is done, if the native kernel cannot take x.

        Raises:
            ValueError: a slot is out of range.
        """
        if not fits(x, (1, self._inputs), REAL) or not (start is None or fits(start, (1,), FLAG)):
            return None
        step, take, forward, output = self._step, self._take, self._forward, new_row(1, 2 * self._hidden_size)
        step.x, step.start, step.output = x, start, self._output
        if not step.run():
            return None
        take.observation, take.start, take.time = x, start, time
        forward.steps, forward.last_output = time + 1, output
        if not (take.run() and forward.run()):
            self._refuse_slots()
        return output

    def _refuse_slots(self) -> None:
        raise ValueError(f"SABStream: the slots that steps write to must lie in -1 … {self.stream.slots - 1}.")

    def backward(self, steps: int, gradient: Tensor) -> Tensor | None:
        """Adds to the gradients of the weights, given that of the last output, through slots too if these credit here.

        Args:
            steps: T of the segment that was replayed last.
            gradient: (1, 2H) of its last output.

        Returns:
            The gradient (1, S, H) of the memory before the segment; None if it was credited.

        Raises:
            ValueError: the gradient does not fit, or an index of the contexts is out of range.
        """
        H, backward = self._hidden_size, self._backward
        if not fits(gradient, (1, 2 * H), REAL):
            raise ValueError(f"SABStream.backward: a gradient must be float32 (1, 2H), but is {tuple(gradient.shape)}.")
        backward.steps, backward.grad_hidden, backward.grad_summary = steps, gradient, (gradient, H)
        backward.run()
        if not self._credits:
            return self._grad_memory.unsqueeze(0)
        selected = self._select.run()
        if selected < 0:
            raise ValueError("SABStream.credit: the contexts must name pieces and steps that are there.")
        if selected > 0:
            assert self._window is not None
            written_at, reached = self._window[1].written_at, self._select.steps_reached
            self._pieces.run(self._grad_memory, self._selected, selected, reached, written_at, None)
        return None

"""The present segment of a stream, run again at every step, for a learner who learns from each step's output alone.

Dimensions: S slots, H hidden size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sab_agents.kernels import CompiledSegment, Mode, Replay, StepState, are_leaves

if TYPE_CHECKING:
    from sab_agents.streaming.stream import SABStream


class Segment:
    """The window of a stream of one row, when it is advanced at each segment's start and at no other time.

    Args:
        stream: of one row, whose observations are the network's inputs.
    """

    def __init__(self, stream: SABStream) -> None:
        self._stream = stream
        self._binds = False
        self._code: CompiledSegment | None = None
        self._before: tuple[object, StepState] | None = None
        self._ran: CompiledSegment | Replay | None = None

    def bind(self, binds: bool = True) -> None:
        """Computes by compiled code from now on, where there is any; weights and gradients must stay where they are."""
        self._binds, self._code, self._ran = binds, None, None

    def forget(self) -> None:
        """What was run cannot be learnt from any more."""
        self._ran = None

    def step(self, observation: Tensor, start: Tensor | None) -> Tensor:
        """Takes a step, as `SABStream.step`; returns the last output (1, 2H) of the segment, run by today's weights."""
        stream, writer, window = self._stream, self._stream.writer, self._stream._window
        code = None if writer.draws or writer.due or window.full else self._compiled()
        output = None
        if code is not None:
            code.plan(writer.order, writer.taken)
            output = code.call(Mode.TAKE, window.steps, observation, start)
        if output is not None:
            window.steps += 1
            writer.planned += 1
            self._ran = code
            return output
        stream.step(observation, start)
        self._ran = code = self._compiled()
        output = None if code is None else code.call(Mode.RUN, stream.steps - 1, None, None)
        if output is None:
            self._ran = run = stream.run()
            output = run.outputs[-1]
        return output

    def peek(self, observation: Tensor) -> Tensor:
        """The output that `SABStream.step` would return for a next observation of the same episode."""
        code = self._compiled()
        output = None if code is None else code.call(Mode.PROPOSE, 0, observation, None)
        return self._stream.propose(observation).output if output is None else output

    def backward(self, gradient: Tensor) -> None:
        """Adds to the weights' `.grad` what they owe to the gradient (1, 2H) of the last output, through slots too."""
        stream, ran = self._stream, self._ran
        assert ran is not None, "backward before the first step"
        if isinstance(ran, CompiledSegment):
            memory = ran.backward(stream.steps, gradient)
            if memory is not None and stream.credit_depth != 0:
                stream.credit(memory)
            return
        whole = torch.zeros_like(ran.outputs)
        whole[-1] = gradient
        ran.backward(whole)
        stream.credit()

    def _compiled(self) -> CompiledSegment | None:
        """The compiled code for the stream as it stands; None where there is none."""
        stream = self._stream
        compiled = stream._compiled() if self._binds and stream._window.tensors else None
        if compiled is None:
            return None
        if self._code is None or self._code.stream is not compiled:
            weights, rules = stream.core.step_weights(), stream.core.rules
            self._code = (
                CompiledSegment.bound(
                    compiled, weights, stream.writer.limit, credit=rules.credit, credits=stream.credit_depth == 1
                )
                if are_leaves(*weights)
                else None
            )
        if self._code is not None:
            if self._before is None or self._before[0] is not stream.before:
                self._before = stream.before, StepState(*stream.before.tensors())
            self._code.enter(stream._window.record(), self._before[1], stream._reached)
        return self._code

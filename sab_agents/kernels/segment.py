"""The present segment of a plain LSTM of one row and one layer, replayed at every step for its last output.

The native kernel computes it in float32 on a CPU, torch's own LSTM everywhere else.

Dimensions: T steps of the segment, I input size, H hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sab_agents.kernels.backend import forced_way, runs_native
from sab_agents.kernels.binding import Binding, are_leaves
from sab_agents.kernels.lstm import LSTMWeights, lstm
from sab_agents.kernels.native_backend.segment import CompiledLSTM
from sab_agents.kernels.scan import Replay, graph_replay


class LSTMSegment:
    """Replays a segment, within which no episode starts and before which gradient ends.

    Every call takes the weights. The native kernel is bound to them and to their `.grad`, and is bound again when one
    of these was moved or replaced, or when `SAB_KERNEL` has changed. A copy, made by `copy` or `pickle`, is bound to
    nothing and has nothing to backpropagate until its first `run`.

    Args:
        steps: the most steps of a segment.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._bound: tuple[str, Binding, CompiledLSTM | None] | None = None
        self._last: tuple[Tensor, int, Tensor, Tensor] | None = None  # arguments of the last `run`
        self._ran: CompiledLSTM | Replay | None = None  # and what computed it
        self._cell: Tensor | None = None  # c after it; None if the native kernel still holds it
        self._peeked: CompiledLSTM | Tensor | None = None  # what holds c after the last `peek`

    def __reduce__(self) -> tuple[type[LSTMSegment], tuple[int]]:
        return LSTMSegment, (self._steps,)

    def run(self, weights: LSTMWeights, x: Tensor, steps: int, h: Tensor, c: Tensor) -> Tensor:
        """Replays the segment and saves what `backward` needs.

        Args:
            weights: of the LSTM.
            x: (n, 1, I) inputs, of which T are there, and must stay as they are until the backward pass.
            steps: T.
            h: (1, H) before the first step.
            c: (1, H) before the first step.

        Returns:
            h (1, H) after the last step; `cell` has c.
        """
        self._last = x, steps, h, c
        native = self._native(weights)
        if native is not None:
            self._ran, self._cell = native, None
            return native.run(x, steps, h, c)
        with torch.enable_grad():
            outputs, h, c = lstm(x[:steps], [weights], h.unsqueeze(1), c.unsqueeze(1), None, None)
        self._ran, self._cell = graph_replay(outputs), c[:, 0].detach()
        return self._ran.outputs[-1]

    def cell(self) -> Tensor:
        """Returns c (1, H) after the last `run`, which stays as it is."""
        if self._cell is None:
            assert isinstance(self._ran, CompiledLSTM)
            self._cell = self._ran.cell.clone()
        return self._cell

    def peek(self, weights: LSTMWeights, x: Tensor, h: Tensor, c: Tensor | None) -> Tensor:
        """Computes one step as `run` does; the segment of the last `run` can still be learnt from.

        Args:
            weights: of the LSTM.
            x: (1, 1, I) input.
            h: (1, H) before the step.
            c: (1, H) before the step; None is that after the last `run`.

        Returns:
            h (1, H) after the step; `peeked_cell` has c.
        """
        if c is None:
            held = self._cell is None and isinstance(self._ran, CompiledLSTM)
            c = self._ran.cell if held else self.cell()  # type: ignore[union-attr]
        native = self._native(weights)
        if native is not None:
            self._peeked = native
            return native.peek(x, h, c)
        with torch.no_grad():
            outputs, h, c = lstm(x, [weights], h.unsqueeze(1), c.unsqueeze(1), None, None)
        self._peeked = c[:, 0]
        return outputs[-1]

    def peeked_cell(self) -> Tensor:
        """Returns c (1, H) after the last `peek`."""
        assert self._peeked is not None
        return self._peeked.peeked_cell.clone() if isinstance(self._peeked, CompiledLSTM) else self._peeked

    def backward(self, weights: LSTMWeights, gradient: Tensor) -> None:
        """Adds to the weights' `.grad`, given the gradient (1, H) of the last h that `run` returned.

        Raises:
            RuntimeError: no segment was run since this object was made or copied.
        """
        if self._last is None:
            raise RuntimeError("LSTMSegment.backward: no segment was run since it was made or copied. Call run first.")
        bound = self._bound
        if isinstance(self._ran, CompiledLSTM) and not (bound and bound[2] is self._ran and bound[1].holds(weights)):
            cell = self.cell()  # of the step that was taken
            self.run(weights, *self._last)  # weights or gradients were replaced
            self._cell = cell
        if isinstance(self._ran, CompiledLSTM):
            self._ran.backward(gradient)
        elif self._ran is not None:
            whole = torch.zeros_like(self._ran.outputs)
            whole[-1] = gradient
            self._ran.backward(whole)

    def _native(self, weights: LSTMWeights) -> CompiledLSTM | None:
        """Returns the native kernel, bound to weights and gradients as they lie now; None if it does not take them."""
        way, bound = forced_way(), self._bound
        if bound is None or bound[0] != way or not bound[1].holds(weights):
            if not are_leaves(*weights):  # computed from others, so that their gradient needs a graph
                return None
            binding = Binding(weights)
            native = CompiledLSTM.bound(weights, self._steps) if runs_native(*weights) else None
            bound = self._bound = way, binding, native
        return bound[2]

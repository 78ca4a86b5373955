"""The present segment of a plain LSTM of one row and one layer, replayed at every step for its last output.

The native kernel computes it in float32 on a CPU, torch's own LSTM everywhere else.

Dimensions: T steps of the segment, I input size, H hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sab_agents.kernels.backend import forced_way, runs_native
from sab_agents.kernels.binding import Binding
from sab_agents.kernels.lstm import LSTMWeights, lstm
from sab_agents.kernels.native_backend.segment import CompiledLSTM
from sab_agents.kernels.scan import Replay, are_leaves, graph_replay


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
        self._last: tuple[Tensor, Tensor, Tensor] | None = None  # arguments of the last `run`
        self._ran: CompiledLSTM | Replay | None = None  # and what computed it

    def __reduce__(self) -> tuple[type[LSTMSegment], tuple[int]]:
        return LSTMSegment, (self._steps,)

    def run(self, weights: LSTMWeights, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Replays the segment and saves what `backward` needs.

        Args:
            weights: of the LSTM.
            x: (T, 1, I) inputs, which must stay as they are until the backward pass.
            h: (1, H) before the first step.
            c: (1, H) before the first step.

        Returns:
            h and c (1, H) after the last step.
        """
        self._last = x, h, c
        native = self._native(weights)
        if native is not None:
            self._ran = native
            return native.run(x, h, c, keep=True)
        with torch.enable_grad():
            outputs, h, c = lstm(x, [weights], h.unsqueeze(1), c.unsqueeze(1), None, None)
        self._ran = graph_replay(outputs)
        return self._ran.outputs[-1], c[:, 0].detach()

    def peek(self, weights: LSTMWeights, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Computes one step x (1, 1, I) as `run` does; the segment of the last `run` can still be learnt from."""
        native = self._native(weights)
        if native is not None:
            return native.run(x, h, c, keep=False)
        with torch.no_grad():
            outputs, h, c = lstm(x, [weights], h.unsqueeze(1), c.unsqueeze(1), None, None)
        return outputs[-1], c[:, 0]

    def backward(self, weights: LSTMWeights, gradient: Tensor) -> None:
        """Adds to the weights' `.grad`, given the gradient (1, H) of the last h that `run` returned.

        Raises:
            RuntimeError: no segment was run since this object was made or copied.
        """
        if self._last is None:
            raise RuntimeError("LSTMSegment.backward: no segment was run since it was made or copied. Call run first.")
        bound = self._bound
        if isinstance(self._ran, CompiledLSTM) and not (bound and bound[2] is self._ran and bound[1].holds(weights)):
            self.run(weights, *self._last)  # weights or gradients were replaced
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

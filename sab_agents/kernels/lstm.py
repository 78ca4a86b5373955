"""A plain LSTM over whole sequences that know of episode starts and gradient cuts, and over the segment of a stream.

The native kernel computes it as a scan without slots, layer by layer, of rows that may be laid out again (`layout.py`).
Elsewhere torch's own LSTM computes the stretches between events.

Dimensions: T steps, B rows, I input size, H hidden size, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sab_agents.kernels.backend import NATIVE, forced_way, is_known, kernel_in_use, runs_native, transforms_active
from sab_agents.kernels.binding import Binding, are_leaves
from sab_agents.kernels.layout import Layout, layout
from sab_agents.kernels.native_backend.segment import CompiledLSTM
from sab_agents.kernels.scan import Replay, graph_replay, replay, scan
from sab_agents.kernels.types import ScanPlan, StepWeights

LSTMWeights = tuple[Tensor, Tensor, Tensor, Tensor]
"""weight_ih (4H, I), weight_hh (4H, H), bias_ih (4H,) and bias_hh (4H,) of a layer."""


def lstm(
    x: Tensor,
    layers: Sequence[LSTMWeights],
    h: Tensor,
    c: Tensor,
    start: Tensor | None,
    cut: Tensor | None,
    *,
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Runs a sequence; gradient flows to x, the weights, h and c.

    Args:
        x: (T, B, I) inputs.
        layers: the weights of each layer.
        h: (B, L, H) before the first step.
        c: (B, L, H) before the first step.
        start: (T, B) bool, episode starts, where h and c are emptied; None for none.
        cut: (T, B) bool, steps that h and c enter without gradient; None for none.
        dropout: fraction of the features between layers that are zeroed.

    Returns:
        (T, B, H) hidden states of the last layer, and h and c (B, L, H) after the last step.
    """
    natively = kernel_in_use(x.device, x.dtype) == NATIVE and len(x) > 1
    # Stretches end where events are, which a trace or a transform cannot see.
    hidden = (start is not None or cut is not None) and not is_known(x, start, cut)
    # Torch's own has no rule for most transforms.
    compute = _by_scan if natively or hidden or transforms_active() else _in_stretches
    return compute(x, layers, h, c, start, cut, dropout)


def replay_lstm(
    x: Tensor,
    layers: Sequence[LSTMWeights],
    h: Tensor,
    c: Tensor,
    start: Tensor,
    cut: Tensor | None,
    *,
    dropout: float,
    laid: Layout | None = None,
) -> Replay:
    """Runs a sequence whose gradient goes straight to each leaf's `.grad`; see `replay`. The arguments are `lstm`'s.

    With `laid`, how the steps were laid out again, outputs and gradient are as they were given.

    Returns:
        A replay with outputs (T, B, H).
    """
    if len(layers) > 1 or kernel_in_use(x.device, x.dtype) != NATIVE:
        with torch.enable_grad():
            found = graph_replay(lstm(x, layers, h, c, start, cut, dropout=dropout)[0])
        return found if laid is None else found.given_by(laid)
    plan, memory = ScanPlan.without_memory(start, start if cut is None else start | cut), _no_memory(x, h)
    return replay(_with_attention(layers[0], h), x, h[:, 0], c[:, 0], memory, plan, summary=False, laid=laid)


def _by_scan(
    x: Tensor,
    layers: Sequence[LSTMWeights],
    h: Tensor,
    c: Tensor,
    start: Tensor | None,
    cut: Tensor | None,
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """By a scan without slots for each layer, which knows of events at any step of any row."""
    start = x.new_zeros(x.shape[:2], dtype=torch.bool) if start is None else start
    cut = start if cut is None else start | cut
    laid = layout(start) if is_known(x, start) else None
    if laid is not None:
        x, cut, start = laid.laid(x), laid.laid(cut) | laid.start, laid.start
        h, c = laid.begun(h), laid.begun(c)
    plan, memory = ScanPlan.without_memory(start, cut), _no_memory(x, h)
    ends = []
    for layer, weights in enumerate(layers):
        x = functional.dropout(x, dropout) if layer and dropout else x
        found = scan(_with_attention(weights, h), x, h[:, layer], c[:, layer], memory, plan)
        x = found.h
        ends.append((x[-1], found.c))
    h, c = (torch.stack(each, dim=1) for each in zip(*ends, strict=True))
    return (x, h, c) if laid is None else (laid.given(x), laid.ended(h), laid.ended(c))


def _with_attention(weights: LSTMWeights, like: Tensor) -> StepWeights:
    """The weights of an LSTM as those of a scan, whose attention has nothing to read."""
    unused = like.new_zeros(1, like.shape[2])
    return StepWeights(*weights, unused, unused, unused[:, 0])


def _no_memory(x: Tensor, like: Tensor) -> Tensor:
    return x.new_zeros(x.shape[1], 0, like.shape[2])


def _in_stretches(
    x: Tensor,
    layers: Sequence[LSTMWeights],
    h: Tensor,
    c: Tensor,
    start: Tensor | None,
    cut: Tensor | None,
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """By a call of torch's LSTM from each event to the next."""
    firsts = stretch_firsts(x.shape[0], start, cut)
    h, c = h.transpose(0, 1), c.transpose(0, 1)
    torch_lstm: Any = torch.lstm
    flat, outputs = [weight for layer in layers for weight in layer], []
    for first, end in zip(firsts, [*firsts[1:], x.shape[0]], strict=True):
        if start is not None:
            starts = start[first].unsqueeze(1)
            h, c = h.masked_fill(starts, 0), c.masked_fill(starts, 0)
        if cut is not None:
            cuts = cut[first].unsqueeze(1)
            h, c = torch.where(cuts, h.detach(), h), torch.where(cuts, c.detach(), c)
        # In training mode, for without it cuDNN does not backpropagate: dropout says how much is dropped.
        modes = {"has_biases": True, "num_layers": len(layers), "dropout": dropout, "train": True}
        output, h, c = torch_lstm(
            x[first:end], (h.contiguous(), c.contiguous()), flat, **modes, bidirectional=False, batch_first=False
        )
        outputs.append(output)
    return torch.cat(outputs), h.transpose(0, 1), c.transpose(0, 1)


def stretch_firsts(length: int, *events: Tensor | None) -> list[int]:
    """First steps of the stretches that can run in one call: 0, and each step at which a row of a (T, B) event is.

    Where nobody can read when events are, each step is a stretch.
    """
    if length == 1:
        return [0]
    happens = [event.any(dim=1) for event in events if event is not None]
    if not happens:
        return [0]
    if not is_known(*happens):
        return list(range(length))
    flags: list[bool] = torch.stack(happens).any(dim=0).tolist()
    return [t for t in range(length) if t == 0 or flags[t]]


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

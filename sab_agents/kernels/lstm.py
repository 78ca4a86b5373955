"""A plain LSTM over whole sequences that know of episode starts and gradient cuts.

The native kernel computes it as a scan without slots, layer by layer. For that, a few rows are cut at episode starts
and laid out again, side by side, as a shorter scan of more rows: what follows an episode's start does not depend on
what came before it, and a scan of few rows spends its time on reading the recurrent weights, once for each step.
Elsewhere torch's own LSTM computes the stretches between events.

Dimensions: T steps, B rows, I input size, H hidden size, L layers; in a layout N steps of M rows, N < T.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from sab_agents.kernels.backend import NATIVE, is_known, is_plain, kernel_in_use, transforms_active
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
    x: Tensor, layers: Sequence[LSTMWeights], h: Tensor, c: Tensor, start: Tensor, cut: Tensor | None, *, dropout: float
) -> Replay:
    """Runs a sequence whose gradient goes straight to each leaf's `.grad`; see `replay`. The arguments are `lstm`'s.

    Returns:
        A replay with outputs (T, B, H).
    """
    if len(layers) > 1 or kernel_in_use(x.device, x.dtype) != NATIVE:
        with torch.enable_grad():
            return graph_replay(lstm(x, layers, h, c, start, cut, dropout=dropout)[0])
    plan, memory = ScanPlan.without_memory(start, start if cut is None else start | cut), _no_memory(x, h)
    return replay(_with_attention(layers[0], h), x, h[:, 0], c[:, 0], memory, plan, summary=False)


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
    happens = [event.any(dim=1) for event in events if event is not None]
    if not happens:
        return [0]
    if not is_known(*happens):
        return list(range(length))
    flags: list[bool] = torch.stack(happens).any(dim=0).tolist()
    return [t for t in range(length) if t == 0 or flags[t]]


# ---- rows laid out again --------------------------------------------------------------------------------------------

ROWS = 4  # that one pass over the weights serves, at the cost of about one
WORTH = 0.8  # of the steps at most, or the new layout costs more than it saves


class Layout(NamedTuple):
    """Where each step of the given rows lies.

    Attributes:
        source: (N · M,) int64, the place t · B + b of what lies there; T · B for nothing.
        place: (T · B,) int64, where each given step lies, n · M + m.
        begins: (M,) int64, the given row whose state a new row begins with; B for none.
        ends: (B,) int64, the new row that ends with a given row's last step.
        start: (N, M) bool, episode starts; True where nothing lies.
    """

    source: Tensor
    place: Tensor
    begins: Tensor
    ends: Tensor
    start: Tensor

    def laid(self, steps: Tensor) -> Tensor:
        """Steps (T, B, …) as they lie, (N, M, …), zeros where nothing does."""
        flat = steps.flatten(0, 1)
        found = torch.cat([flat, flat.new_zeros(1, *flat.shape[1:])]).index_select(0, self.source)
        return found.view(*self.start.shape, *steps.shape[2:])

    def given(self, steps: Tensor) -> Tensor:
        """Steps (N, M, …) as they were given, (T, B, …)."""
        found = steps.flatten(0, 1).index_select(0, self.place)
        return found.view(-1, len(self.ends), *steps.shape[2:])

    def begun(self, state: Tensor) -> Tensor:
        """A state (B, …) before the first step, for the new rows, (M, …)."""
        return torch.cat([state, state.new_zeros(1, *state.shape[1:])]).index_select(0, self.begins)

    def ended(self, state: Tensor) -> Tensor:
        """A state (M, …) after the last step, for the given rows, (B, …)."""
        return state.index_select(0, self.ends)


@dataclass(frozen=True)
class _Piece:
    row: int
    first: int
    length: int
    head: bool  # begins with the row's carried state
    tail: bool  # ends with the row's last step


class _Row:
    """A new row: at most one piece with a carried state, in front, and at most one row's last, at the very end."""

    def __init__(self) -> None:
        self.pieces: list[_Piece] = []
        self.used = 0

    def takes(self, piece: _Piece, length: int) -> bool:
        fits = self.used + piece.length <= length
        return fits and not any((p.head and piece.head) or (p.tail and piece.tail) for p in self.pieces)

    def put(self, piece: _Piece) -> None:
        self.pieces.append(piece)
        self.used += piece.length

    def placed(self, length: int) -> list[tuple[int, _Piece]]:
        """Where each piece begins."""
        found, at = [], 0
        for piece in sorted(self.pieces, key=lambda piece: (piece.tail, not piece.head)):
            at = length - piece.length if piece.tail else at
            found.append((at, piece))
            at += piece.length
        return found


def relaid(start: Tensor, x: Tensor) -> Layout | None:
    """A shorter layout of rows with episode starts (T, B) for inputs x; None if that does not make them faster."""
    return layout(start) if is_plain(start, x) and kernel_in_use(x.device, x.dtype) == NATIVE else None


def layout(start: Tensor) -> Layout | None:
    """A shorter layout of rows with episode starts (T, B); None if the native kernel gains nothing by it."""
    T, B = start.shape
    if B >= ROWS or T < 2 or not bool(start[1:].any(dim=0).all()):
        return None
    pieces = [piece for row, flags in enumerate(start.t().tolist()) for piece in _pieces(row, flags)]
    pieces.sort(key=lambda piece: -piece.length)
    length = max(pieces[0].length, -(-T * B // ROWS))
    if length > WORTH * T:
        return None
    rows: list[_Row] = []
    for piece in pieces:
        chosen = next((row for row in rows if row.takes(piece, length)), None)
        if chosen is None:
            rows.append(chosen := _Row())
        chosen.put(piece)
    return _laid_out(rows, length, start)


def _pieces(row: int, flags: list[bool]) -> list[_Piece]:
    firsts = [t for t, flag in enumerate(flags) if flag or t == 0]
    return [
        _Piece(row, first, end - first, head=not flags[first], tail=end == len(flags))
        for first, end in zip(firsts, [*firsts[1:], len(flags)], strict=True)
    ]


def _laid_out(rows: list[_Row], length: int, start: Tensor) -> Layout:
    (T, B), M = start.shape, len(rows)
    source = torch.full((length, M), T * B)
    begins, ends = torch.full((M,), B), torch.empty(B, dtype=torch.int64)
    for m, row in enumerate(rows):
        for at, piece in row.placed(length):
            steps = torch.arange(piece.first, piece.first + piece.length)
            source[at : at + piece.length, m] = steps * B + piece.row
            if piece.head:
                begins[m] = piece.row
            if piece.tail:
                ends[piece.row] = m
    source = source.flatten()
    place = torch.empty(T * B + 1, dtype=torch.int64)
    place[source] = torch.arange(length * M)
    flags = torch.cat([start.flatten(), start.new_ones(1)])[source].view(length, M)
    return Layout(source, place[:-1], begins, ends, flags)

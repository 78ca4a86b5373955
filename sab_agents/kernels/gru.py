"""Replays of a GRU without a graph: torch's own takes a graph of several nodes for each step.

Dimensions: T steps, B rows, I input size, H hidden size; rows are cut at episode starts into M pieces, whose N = T · B
steps lie in the order of packed sequences.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sab_agents.kernels.backend import is_known
from sab_agents.kernels.binding import are_leaves
from sab_agents.kernels.layout import Packed, packed
from sab_agents.kernels.scan import Replay, gradient_like


class GRUWeights(NamedTuple):
    """The weights of one layer of `nn.GRU`: (3H, I), (3H, H), (3H,) and (3H,), of the gates r, z and n."""

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor


def replays_gru(x: Tensor, weights: GRUWeights, start: Tensor) -> bool:
    """Whether `replay_gru` can replay inputs x: gradients go to leaves alone, and everybody can see the starts."""
    autocast = torch.is_autocast_enabled(x.device.type)
    return is_known(x, start, *weights) and are_leaves(*weights) and not x.requires_grad and not autocast


@torch.no_grad()
def replay_gru(x: Tensor, weights: GRUWeights, h: Tensor, start: Tensor) -> Replay:
    """Runs a sequence whose gradient goes straight to each weight's `.grad`; see `sab_agents.kernels.replay`.

    Args:
        x: (T, B, I) inputs.
        weights: of the layer.
        h: (B, H) before the first step; no gradient flows into it.
        start: (T, B) bool, where h is emptied.

    Returns:
        A replay with outputs (T, B, H).
    """
    run = _Run(x, weights, h, packed(start))
    outputs = run.pieces.given(run.outputs)
    return Replay(outputs, lambda gradient: run.backward(gradient_like(outputs, gradient)))


class _Run:
    def __init__(self, x: Tensor, weights: GRUWeights, h: Tensor, pieces: Packed) -> None:
        self.pieces, self._weights, self._x = pieces, weights, pieces.laid(x)
        weight_ih, weight_hh, bias_ih, bias_hh = weights
        H, sizes = h.shape[1], pieces.batch_sizes.tolist()
        given = torch.addmm(bias_ih, self._x, weight_ih.t())
        self._opened, self._candidate = given[:, : 2 * H], given[:, 2 * H :]  # of r and z, and n; changed to these
        self._before, self._recurrent = given.new_empty(len(given), H), given.new_empty(len(given), H)
        self.outputs = given.new_empty(len(given), H)
        self._spans = []
        h, transposed, first = pieces.begun(h), weight_hh.t(), 0
        for size in sizes:
            span, h = slice(first, first + size), h[:size]
            self._spans.append(span)
            self._before[span] = h
            following = torch.addmm(bias_hh, h, transposed)
            opened = self._opened[span].add_(following[:, : 2 * H]).sigmoid_()
            self._recurrent[span] = following[:, 2 * H :]
            candidate = self._candidate[span].addcmul_(opened[:, :H], following[:, 2 * H :]).tanh_()
            h = torch.lerp(candidate, h, opened[:, H:], out=self.outputs[span])
            first += size

    @torch.no_grad()
    def backward(self, gradient: Tensor) -> None:
        """Adds to the weights' `.grad`, given the gradient (T, B, H) of the outputs."""
        weight_hh, n = self._weights.weight_hh, self._candidate
        H = n.shape[1]
        r, z = self._opened[:, :H], self._opened[:, H:]
        # What a gradient of h becomes at n, and at the recurrent parts of r, z and n, before their activations.
        to_n = (1 - z) * (1 - n * n)
        factors = torch.stack([to_n * self._recurrent * r * (1 - r), (self._before - n) * z * (1 - z), to_n * r], dim=1)
        of_h = self.pieces.laid(gradient)
        sent = of_h.new_empty(len(of_h), 3, H)
        passed = of_h[:0]  # to the step before, by the pieces that go on
        for span in reversed(self._spans):
            here = of_h[span]
            here[: len(passed)] += passed
            torch.mul(here.unsqueeze(1), factors[span], out=sent[span])
            passed = torch.addmm(here * z[span], sent[span].flatten(1), weight_hh)
        recurrent = sent.flatten(1)
        given = torch.cat([recurrent[:, : 2 * H], of_h * to_n], dim=1)
        gradients = given.t() @ self._x, recurrent.t() @ self._before, given.sum(0), recurrent.sum(0)
        for weight, found in zip(self._weights, gradients, strict=True):
            if weight.requires_grad:
                weight.grad = found if weight.grad is None else weight.grad.add_(found)

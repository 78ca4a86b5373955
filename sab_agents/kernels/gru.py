"""Replays of a GRU without a graph: torch's own takes a graph of several nodes for each step.

The native kernel computes them in float32 on a CPU, torch's operations elsewhere.

Dimensions: T steps, B rows, I input size, H hidden size; rows are cut at episode starts into M pieces, whose N = T · B
steps lie in the order of packed sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sab_agents.kernels.backend import is_known, runs_native
from sab_agents.kernels.binding import are_leaves
from sab_agents.kernels.layout import packed
from sab_agents.kernels.native_backend.gru import CompiledGRU
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
    pieces = packed(start)
    natively = runs_native(x, h, *weights)
    run = (CompiledGRU if natively else _Run)(pieces.laid(x), weights, pieces.begun(h), pieces.batch_sizes)
    outputs = pieces.given(run.outputs)

    @torch.no_grad()
    def backward(gradient: Tensor) -> None:
        wanted = [weight.requires_grad for weight in weights]
        received = pieces.laid(gradient_like(outputs, gradient))
        for weight, found in zip(weights, run.gradients(received, wanted), strict=True):
            if found is not None:
                weight.grad = found if weight.grad is None else weight.grad.add_(found)

    return Replay(outputs, backward)


class _Run:
    """By torch's operations; arguments and results are those of `CompiledGRU`, but the gradient is changed."""

    def __init__(self, x: Tensor, weights: GRUWeights, h: Tensor, batch_sizes: Tensor) -> None:
        self._weight_hh, self._x = weights.weight_hh, x
        H = h.shape[1]
        given = torch.addmm(weights.bias_ih, x, weights.weight_ih.t())
        self._opened, self._candidate = given[:, : 2 * H], given[:, 2 * H :]  # of r and z, and n; changed to these
        self._before, self._recurrent = given.new_empty(len(given), H), given.new_empty(len(given), H)
        self.outputs = given.new_empty(len(given), H)
        self._spans = []
        transposed, first = self._weight_hh.t(), 0
        for size in batch_sizes.tolist():
            span, h = slice(first, first + size), h[:size]
            self._spans.append(span)
            self._before[span] = h
            following = torch.addmm(weights.bias_hh, h, transposed)
            opened = self._opened[span].add_(following[:, : 2 * H]).sigmoid_()
            self._recurrent[span] = following[:, 2 * H :]
            candidate = self._candidate[span].addcmul_(opened[:, :H], following[:, 2 * H :]).tanh_()
            h = torch.lerp(candidate, h, opened[:, H:], out=self.outputs[span])
            first += size

    def gradients(self, of_h: Tensor, wanted: Sequence[bool]) -> list[Tensor | None]:
        n, H = self._candidate, of_h.shape[1]
        r, z = self._opened[:, :H], self._opened[:, H:]
        # What a gradient of h becomes at n, and at the recurrent parts of r, z and n, before their activations.
        to_n = (1 - z) * (1 - n * n)
        factors = torch.stack([to_n * self._recurrent * r * (1 - r), (self._before - n) * z * (1 - z), to_n * r], dim=1)
        sent = of_h.new_empty(len(of_h), 3, H)
        passed = of_h[:0]  # to the step before, by the pieces that go on
        for span in reversed(self._spans):
            here = of_h[span]
            here[: len(passed)] += passed
            torch.mul(here.unsqueeze(1), factors[span], out=sent[span])
            passed = torch.addmm(here * z[span], sent[span].flatten(1), self._weight_hh)
        recurrent = sent.flatten(1)
        given = torch.cat([recurrent[:, : 2 * H], of_h * to_n], dim=1)
        found = given.t() @ self._x, recurrent.t() @ self._before, given.sum(0), recurrent.sum(0)
        return [each if wants else None for each, wants in zip(found, wanted, strict=True)]

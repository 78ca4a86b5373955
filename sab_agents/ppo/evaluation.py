"""Rows of a rollout evaluated with today's weights, and the backward pass through their cores and what they remember.

Dimensions: n environments, T steps of a segment, W segments of a rollout, R = W · n rows, b rows of a minibatch, F
features or output size of a core.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sab_agents.kernels.threads import one_by_one, side_by_side
from sab_agents.streaming import ClosedWindow, Credit, Replay


class Rollout(NamedTuple):
    """Collected segments, R rows of T steps.

    Attributes:
        stored: (T, R, F) features, if they never change, and else (T, R, 1) numbers of the observations.
        actor: segments of the actor's core.
        critic: segments of the critic's core; None if it has none of its own.
        pass_on: calls the `credit` of segments in place of those who learn from them; None if nobody asks for that.
    """

    stored: Tensor
    actor: ClosedWindow
    critic: ClosedWindow | None
    pass_on: Callable[[ClosedWindow], Credit] | None = None


class Evaluation(NamedTuple):
    """Rows of a rollout evaluated with today's weights; N = T · b, step by step, the rows of a step side by side.

    Attributes:
        values: (N,) with gradient.
        log_prob: (N,) with gradient.
        entropy: (N,) with gradient; None if the distribution has no formula for it.
        backward: to be called after the loss's own `backward`: backpropagates further into cores, extractors and the
            past. Returns what was credited to the actor's memory; None if no gradient reached the actor.
    """

    values: Tensor
    log_prob: Tensor
    entropy: Tensor | None
    backward: Callable[[], Credit | None]


class _Replayed(NamedTuple):
    window: ClosedWindow
    replay: Replay


class Replays:
    """Replays of cores, whose outputs are leaves for a loss: backpropagation continues from their gradients.

    Args:
        threaded: whether the cores may run in threads of their own, since they share nothing to which they add.
        pass_on: see `Rollout`.
    """

    def __init__(self, *, threaded: bool, pass_on: Callable[[ClosedWindow], Credit] | None = None) -> None:
        self._pass_on = pass_on
        self._call_all: Any = side_by_side if threaded else one_by_one
        self._replayed: list[_Replayed] = []
        self._leaves: list[tuple[Tensor, Tensor]] = []

    def leaf_of(self, features: Tensor) -> Tensor:
        """Returns features without their graph: `backward` passes their gradient on, once for all who use them."""
        leaf = features.detach().requires_grad_(features.requires_grad)
        self._leaves.append((features, leaf))
        return leaf

    def outputs(self, cores: Sequence[tuple[ClosedWindow, Tensor | None]], rows: Tensor) -> list[Tensor]:
        """Returns the outputs (T, b, F) of each core, as leaves.

        Args:
            cores: segments, and the features (T, b, I) of the rows; None if they are what the segments observed.
            rows: (b,) int64.
        """

        def replayed(window: ClosedWindow, x: Tensor | None) -> _Replayed:
            replay = window.replay(rows, x)
            replay.outputs.requires_grad_()
            return _Replayed(window, replay)

        calls = [
            partial(replayed, window, None if features is None else self.leaf_of(features))
            for window, features in cores
        ]
        self._replayed = self._call_all(calls)
        return [each.replay.outputs for each in self._replayed]

    def backward(self) -> Credit | None:
        """Backpropagates from the outputs' `.grad`, which a graph left, through cores, memory and features."""
        reached = [(each, each.replay.outputs.grad) for each in self._replayed]
        calls = [partial(self._backpropagated, each, gradient) for each, gradient in reached if gradient is not None]
        credits: list[Credit] = self._call_all(calls)
        self._learn_features()
        return credits[0] if credits else None

    def learn(
        self,
        cores: Sequence[tuple[ClosedWindow, Tensor | None]],
        rows: Tensor,
        heads: Sequence[Callable[[Tensor], Tensor]],
    ) -> Credit:
        """Learns from rows: each core with what stands behind it in one call, which waits for no other.

        Args:
            cores: as for `outputs`.
            rows: (b,) int64.
            heads: behind each core; it takes the outputs (T, b, F) and returns their gradient.

        Returns:
            What was credited to the memory of the first core.
        """

        def learnt(window: ClosedWindow, x: Tensor | None, head: Callable[[Tensor], Tensor]) -> Credit:
            replay = window.replay(rows, x)
            return self._backpropagated(_Replayed(window, replay), head(replay.outputs))

        inputs = [None if features is None else self.leaf_of(features) for _, features in cores]
        calls = [partial(learnt, window, x, head) for (window, _), x, head in zip(cores, inputs, heads, strict=True)]
        credits: list[Credit] = self._call_all(calls)
        self._learn_features()
        return credits[0]

    def _backpropagated(self, each: _Replayed, gradient: Tensor) -> Credit:
        each.replay.backward(gradient)
        return each.window.credit() if self._pass_on is None else self._pass_on(each.window)

    def _learn_features(self) -> None:
        """Backpropagates once through the features, for all cores."""
        learnt = [(features, leaf.grad) for features, leaf in self._leaves if leaf.grad is not None]
        if learnt:
            torch.autograd.backward([features for features, _ in learnt], [gradient for _, gradient in learnt])


def in_rows(steps: Tensor, segments: int) -> Tensor:
    """Returns steps (W · T, n, …) as rows (T, W · n, …): those of the first of W segments, of the second, …."""
    if segments == 1:
        return steps
    T = steps.shape[0] // segments
    parts = steps.view(segments, T, *steps.shape[1:])
    return parts.transpose(0, 1).flatten(1, 2)

"""Collected rows evaluated with today's weights, and the way that the gradient takes back through cores and memory.

Dimensions: T steps of a segment, R rows of a rollout, b rows of a minibatch, P numbers that are stored, F numbers in an
output of a core.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from sab_agents.kernels import Replay
from sab_agents.ppo.rollout_cores import Segments
from sab_agents.ppo.side_by_side import one_by_one, side_by_side
from sab_agents.streaming import Credit


class Rollout(NamedTuple):
    """Collected segments, R rows of T steps.

    Attributes:
        stored: (T, R, P) of `Features`.
        actor: segments of the actor's core.
        critic: segments of the critic's; None where it has none of its own.
    """

    stored: Tensor
    actor: Segments
    critic: Segments | None


class Evaluation(NamedTuple):
    """Rows of a rollout evaluated with today's weights; N = T · b, step by step, the rows of a step side by side.

    Attributes:
        values: (N,) with gradient.
        log_prob: (N,) with gradient.
        entropy: (N,) with gradient; None where the distribution has no formula for it.
        backward: after the loss's own `backward`: takes the gradient on into cores, encoder and past, and returns what
            was credited to the actor's memory, None where there is none.
    """

    values: Tensor
    log_prob: Tensor
    entropy: Tensor | None
    backward: Callable[[], Credit | None]


class _Way(NamedTuple):
    segments: Segments
    run: Replay
    output: Tensor


class Ways:
    """The ways that the gradient of cores' outputs takes back.

    Args:
        threaded: whether cores may run in threads of their own, because what they add to has nothing in common.
    """

    def __init__(self, *, threaded: bool) -> None:
        self._side_by_side = side_by_side if threaded else one_by_one
        self._taken: list[_Way] = []
        self._leaves: list[tuple[Tensor, Tensor]] = []

    def leaf_of(self, features: Tensor) -> Tensor:
        """The features without their graph: what reaches them goes on in `backward`, once for all who use them."""
        leaf = features.detach().requires_grad_(features.requires_grad)
        self._leaves.append((features, leaf))
        return leaf

    def through(self, cores: Sequence[tuple[Segments, Tensor]], rows: Tensor) -> list[Tensor]:
        """Outputs of rows of segments from their features, whose gradients `backward` will take from there."""

        def taken(segments: Segments, x: Tensor) -> _Way:
            run = segments.run(rows, x)
            return _Way(segments, run, run.outputs.requires_grad_())

        works = [partial(taken, segments, self.leaf_of(features)) for segments, features in cores]
        self._taken = self._side_by_side(works)
        return [way.output for way in self._taken]

    def backward(self) -> Credit | None:
        """From the outputs through cores and memory, and then once through the features."""

        def taken_back(way: _Way, gradient: Tensor) -> Credit | None:
            way.run.backward(gradient)
            return way.segments.credit()

        reached = [(way, way.output.grad) for way in self._taken if way.output.grad is not None]
        credits = self._side_by_side([partial(taken_back, way, gradient) for way, gradient in reached])
        learnt = [(features, leaf.grad) for features, leaf in self._leaves if leaf.grad is not None]
        if learnt:
            torch.autograd.backward([features for features, _ in learnt], [gradient for _, gradient in learnt])
        return credits[0] if credits else None

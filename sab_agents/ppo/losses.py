"""The losses of proximal policy optimisation, and the minibatches from which they are computed.

Source: Schulman et al. 2017, section 3; details as in stable-baselines3.
Dimensions: n environments, T steps of a segment, R rows of a rollout, b rows of a minibatch, N = T · b.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from torch import Tensor
from torch.autograd.function import once_differentiable

from sab_agents.kernels import surrogate_loss, value_loss
from sab_agents.ppo.evaluation import in_rows

Moments = tuple[Tensor, Tensor]
"""Mean and standard deviation."""


class Batch(NamedTuple):
    """What was recorded of steps when they were taken, (T, R) in rows, or (N,) in a minibatch.

    Attributes:
        actions: (T, R, …) or (N, …).
        values: of the critic.
        log_prob: of the actions.
        advantages: estimated by GAE.
        returns: advantages plus values.
    """

    actions: Tensor
    values: Tensor
    log_prob: Tensor
    advantages: Tensor
    returns: Tensor

    @classmethod
    def of(cls, buffer: RolloutBuffer, segments: int) -> Self:
        """Returns all steps of a full buffer in rows."""
        space = buffer.action_space
        parts = (buffer.actions, buffer.values, buffer.log_probs, buffer.advantages, buffer.returns)
        actions, *estimates = (in_rows(buffer.to_torch(part), segments) for part in parts)
        if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
            return cls(actions.long().squeeze(2) if isinstance(space, spaces.Discrete) else actions.long(), *estimates)
        return cls(actions.float(), *estimates)

    def minibatch(self, rows: Tensor) -> Batch:
        """Returns some rows, step by step, the rows of a step side by side."""
        return Batch(*(part[:, rows].flatten(0, 1) for part in self))


class Minibatches:
    """Minibatches with normalised advantages; one of a single row, which comes again in every epoch, is kept.

    Args:
        batch: all steps in rows.
        normalize: whether advantages are normalised to mean 0 and standard deviation 1 in each minibatch.
    """

    def __init__(self, batch: Batch, *, normalize: bool) -> None:
        self._batch, self._normalize = batch, normalize
        self._kept: dict[int, Batch] = {}

    def of(self, rows: Tensor, moments: Moments | None) -> Batch:
        """Returns that of rows (b,), normalised by these moments; None takes its own."""
        if len(rows) > 1 or moments is not None:
            return self._normalised(rows, moments)
        row = int(rows)
        if row not in self._kept:
            self._kept[row] = self._normalised(rows, None)
        return self._kept[row]

    def _normalised(self, rows: Tensor, moments: Moments | None) -> Batch:
        found = self._batch.minibatch(rows)
        return found._replace(advantages=normalised(found.advantages, moments)) if self._normalize else found


def normalised(advantages: Tensor, moments: Moments | None = None) -> Tensor:
    """Returns advantages (N,) with mean 0 and standard deviation 1, or by the moments of more than these."""
    if moments is None:
        if len(advantages) < 2:
            return advantages
        std, mean = torch.std_mean(advantages)
        moments = mean, std
    return (advantages - moments[0]) / (moments[1] + 1e-8)


class Losses(NamedTuple):
    """The losses of one minibatch; all but `total` are without gradient.

    Attributes:
        total: what is minimised.
        policy: the clipped surrogate.
        value: mean squared error of the values.
        entropy: mean negative entropy.
        approx_kl: how far the policy has moved from the one that acted.
        clip_fraction: fraction of steps whose ratio is clipped.
    """

    total: Tensor
    policy: Tensor
    value: Tensor
    entropy: Tensor
    approx_kl: Tensor
    clip_fraction: Tensor

    @classmethod
    def of(cls, figures: Tensor, value: Tensor, weights: Weights) -> Self:
        """Returns the losses, of the figures (4,) of the policy and the mean squared error of the values."""
        policy, entropy, approx_kl, clip_fraction = figures.unbind()
        total = policy + weights.ent_coef * entropy + weights.vf_coef * value
        return cls(total, policy, value, entropy, approx_kl, clip_fraction)


class Weights(NamedTuple):
    """The weights and limits of the losses.

    Attributes:
        clip_range: ε of the surrogate.
        clip_range_vf: greatest change of a value; None for any.
        ent_coef: of the negative entropy.
        vf_coef: of the value loss.
    """

    clip_range: float
    clip_range_vf: float | None
    ent_coef: float
    vf_coef: float

    @property
    def of_policy(self) -> dict[str, float]:
        """Those of `surrogate_loss` and `categorical_loss`."""
        return {"clip_range": self.clip_range, "entropy_weight": self.ent_coef}

    @property
    def of_values(self) -> dict[str, Any]:
        """Those of `value_loss`."""
        return {"limit": self.clip_range_vf, "weight": self.vf_coef}


def ppo_losses(values: Tensor, log_prob: Tensor, entropy: Tensor | None, batch: Batch, weights: Weights) -> Losses:
    """Returns the losses of N steps.

    Args:
        values: (N,) by today's weights.
        log_prob: (N,) of the actions taken, by today's weights.
        entropy: (N,) of the distributions; None estimates it from the log-probabilities.
        batch: what was recorded of the steps.
        weights: of the losses.
    """
    total, *figures = _PPOLosses.apply(values, log_prob, entropy, batch, weights)  # type: ignore[no-untyped-call]
    return Losses(total, *figures)


class _PPOLosses(torch.autograd.Function):
    """The losses, in the order of `Losses`, and the gradient of their total.

    A graph of these few operations on N numbers would take longer to build than to compute.
    """

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        log_prob: Tensor,
        entropy: Tensor | None,
        batch: Batch,
        weights: Weights,
    ) -> tuple[Tensor, ...]:
        figures, of_log_prob, ctx.of_entropy = surrogate_loss(
            log_prob, entropy, batch.log_prob, batch.advantages, **weights.of_policy
        )
        value, of_values = value_loss(values, batch.values, batch.returns, **weights.of_values)
        losses = Losses.of(figures, value, weights)
        ctx.save_for_backward(of_values, of_log_prob)
        ctx.mark_non_differentiable(*losses[1:])
        return tuple(losses)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        of_values, of_log_prob = ctx.saved_tensors
        of_entropy = None if ctx.of_entropy is None else (gradient * ctx.of_entropy).expand_as(of_log_prob)
        return gradient * of_values, gradient * of_log_prob, of_entropy, None, None


def segment_steps(n_steps: int, batch_size: int, n_envs: int) -> int:
    """Returns the length T of the segments of rows with which a minibatch of whole segments has `batch_size` steps."""
    if batch_size >= n_steps * n_envs or batch_size % n_steps == 0:
        return n_steps
    length = math.gcd(n_steps, batch_size)
    if length < min(n_steps, batch_size):
        warnings.warn(
            f"RecurrentPPO: batch_size should divide n_steps or be a multiple of it, but is {batch_size} with n_steps "
            f"{n_steps}: rows are cut into segments of {length} steps, which plain backpropagation does not leave.",
            stacklevel=4,
        )
    return length


def minibatches(rows: int, size: int) -> list[Tensor]:
    """Returns all rows once, in random order, `size` at a time; the last minibatch may be smaller."""
    return list(torch.split(torch.from_numpy(np.random.permutation(rows)), size))

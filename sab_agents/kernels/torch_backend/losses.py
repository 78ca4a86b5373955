"""The losses of PPO and their gradients in torch: their definition.

Dimensions: N steps, k actions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def surrogate_loss(
    log_prob: Tensor,
    entropy: Tensor | None,
    before: Tensor,
    advantages: Tensor,
    *,
    clip_range: float,
    entropy_weight: float,
) -> tuple[Tensor, Tensor, float | None]:
    """Returns the clipped surrogate of any distributions.

    Args:
        log_prob: (N,) of the actions taken, by today's weights.
        entropy: (N,) of the distributions; None estimates it from the log-probabilities.
        before: (N,) the log-probabilities when the actions were taken.
        advantages: (N,).
        clip_range: ε of the surrogate.
        entropy_weight: of the mean negative entropy in the loss.

    Returns:
        The means (4,) of the surrogate loss, of the negative entropy, of the estimated KL divergence from the policy
        that acted, and of whether a ratio is clipped; the gradient (N,) of `log_prob`; and that of each entropy, which
        is the same for all, None if it is 0.
    """
    N = len(log_prob)
    log_ratio = log_prob - before
    ratio = log_ratio.exp()
    surrogate = advantages * ratio
    clipped = advantages * ratio.clamp(1 - clip_range, 1 + clip_range)
    negative_entropy = log_prob if entropy is None else -entropy
    beyond = (ratio - 1).abs() > clip_range
    each = (-torch.min(surrogate, clipped), negative_entropy, ratio - 1 - log_ratio, beyond)
    # A clipped term that is the smaller one has no gradient; within the limits both are the same.
    of_log_prob = torch.where(surrogate <= clipped, surrogate, 0) / -N
    if entropy is None:
        of_log_prob += entropy_weight / N
    of_entropy = None if entropy is None or entropy_weight == 0 else -entropy_weight / N
    return torch.stack(each).mean(1), of_log_prob, of_entropy


def categorical_loss(
    logits: Tensor,
    actions: Tensor,
    before: Tensor,
    advantages: Tensor,
    *,
    first: int,
    clip_range: float,
    entropy_weight: float,
) -> tuple[Tensor, Tensor]:
    """Returns figures and the gradient of the logits; see `sab_agents.kernels.losses.categorical_loss`."""
    known, chosen = functional.log_softmax(logits, dim=1), (actions - first).view(-1, 1)
    least = torch.finfo(known.dtype).min  # the logarithm that is taken of no probability
    shares, bounded = known.exp(), known.clamp(min=least)
    log_prob, entropy = known.gather(1, chosen).squeeze(1), -(shares * bounded).sum(1)
    figures, of_log_prob, of_entropy = surrogate_loss(
        log_prob, entropy, before, advantages, clip_range=clip_range, entropy_weight=entropy_weight
    )
    found = torch.zeros_like(known).scatter_add_(1, chosen, of_log_prob.unsqueeze(1))
    if of_entropy is not None:
        found += (known >= least) * (shares * -of_entropy) + bounded * -of_entropy * shares
    return figures, torch.ops.aten._log_softmax_backward_data(found, known, 1, known.dtype)


def value_loss(
    values: Tensor, before: Tensor, returns: Tensor, *, limit: float | None, weight: float
) -> tuple[Tensor, Tensor]:
    """Returns the figure and the gradient of the values; see `sab_agents.kernels.losses.value_loss`."""
    change = values - before
    error = values - returns if limit is None else before + change.clamp(-limit, limit) - returns
    gradient = error * (2 * weight / len(values))
    if limit is not None:
        gradient.masked_fill_(change.abs() > limit, 0)
    return error.square().mean(), gradient

"""The losses of proximal policy optimisation with their gradients, without a graph.

Source: Schulman et al. 2017, section 3; details as in stable-baselines3.
Dimensions: N steps, k actions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sab_agents.kernels.backend import runs_native
from sab_agents.kernels.native_backend import losses as native_losses
from sab_agents.kernels.torch_backend import losses as torch_losses


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
    """Returns the clipped surrogate of categorical distributions: the figures, and the gradient (N, k) of the logits.

    Args:
        logits: (N, k).
        actions: (N,) int64 that were taken.
        before: (N,) the log-probabilities when the actions were taken.
        advantages: (N,).
        first: the number of the first action.
        clip_range: ε of the surrogate.
        entropy_weight: of the mean negative entropy in the loss.

    Raises:
        ValueError: an action is out of range, with the native kernel.
        RuntimeError: an action is out of range, in torch.
    """
    tensors = logits, before, advantages
    natively = runs_native(*tensors, actions) and all(each.dtype is torch.float32 for each in tensors)
    compute = native_losses.categorical_loss if natively else torch_losses.categorical_loss
    settings = {"clip_range": clip_range, "entropy_weight": entropy_weight}
    return compute(logits, actions.long(), before, advantages, first=first, **settings)


def value_loss(
    values: Tensor, before: Tensor, returns: Tensor, *, limit: float | None, weight: float
) -> tuple[Tensor, Tensor]:
    """Returns the mean squared error of values (N,), and the gradient (N,) of `weight` times it.

    Args:
        values: (N,) by today's weights.
        before: (N,) when the steps were taken.
        returns: (N,).
        limit: greatest change of a value, beyond which it has no gradient; None for any.
        weight: of the error in the loss.
    """
    tensors = values, before, returns
    natively = runs_native(*tensors) and all(each.dtype is torch.float32 for each in tensors)
    compute = native_losses.value_loss if natively else torch_losses.value_loss
    return compute(values, before, returns, limit=limit, weight=weight)

"""The losses of PPO and their gradients with the native kernel, in float32 on a CPU.

Dimensions: N steps, k actions.
"""

from __future__ import annotations

from math import inf

from torch import Tensor

from sab_agents.kernels.native_backend.extension import native, new_empty


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
    count, choices = logits.shape
    figures, gradient = new_empty(4), new_empty(count, choices)
    loss = native.PolicyLoss(
        count=count,
        choices=choices,
        first=first,
        clip_range=clip_range,
        entropy_weight=entropy_weight,
        logits=logits.contiguous(),
        actions=actions.contiguous(),
        log_prob=before.contiguous(),
        advantages=advantages.contiguous(),
        figures=figures,
        gradient=gradient,
    )
    if not loss.run():
        raise ValueError(f"categorical_loss: actions must lie in {first} … {first + choices - 1}.")
    return figures, gradient


def value_loss(
    values: Tensor, before: Tensor, returns: Tensor, *, limit: float | None, weight: float
) -> tuple[Tensor, Tensor]:
    """Returns the figure and the gradient of the values; see `sab_agents.kernels.losses.value_loss`."""
    figure, gradient = new_empty(1), new_empty(len(values))
    native.ValueLoss(
        count=len(values),
        limit=inf if limit is None else limit,
        weight=weight,
        values=values.contiguous(),
        before=before.contiguous(),
        returns=returns.contiguous(),
        figures=figure,
        gradient=gradient,
    ).run()
    return figure[0], gradient

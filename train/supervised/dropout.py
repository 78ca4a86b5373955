"""Dropout of recurrent weights, for a core that fits its training sequences better than others.

Each update leaves out some of the weights that lead from one state to the next, the same at all steps and in all
sequences (DropConnect; Merity, Keskar and Socher 2018, "Regularizing and Optimizing LSTM Language Models"). Evaluation
uses all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

from sab_agents.train.errors import UserError

if TYPE_CHECKING:
    from torch import nn


def recurrent_weights(core: nn.Module) -> list[nn.Parameter]:
    """Returns the weights between consecutive states, (G·H, H) with G gates: those named weight_hh, as in `nn.LSTM`.

    Raises:
        UserError: the core has none.
    """
    weights = [weight for name, weight in core.named_parameters() if "weight_hh" in name]
    if not weights:
        raise UserError(
            f"weight_dropout: {type(core).__name__} has no recurrent weight matrix (weight_hh) to drop. "
            f"Set it to 0, or choose a core that has one, such as sab, lstm or gru."
        )
    return weights


@contextmanager
def dropped(weights: Sequence[nn.Parameter], fraction: float, seed: Sequence[int]) -> Iterator[None]:
    """Within it, `fraction` of the weights are 0 and the others larger by 1/(1 − fraction); after it, as before.

    The forward and the backward pass both belong inside. On leaving, the gradient becomes that of the whole weights: 0
    where a weight was left out.

    Args:
        weights: changed in place.
        fraction: from 0 to below 1, the chance of each weight to be left out.
        seed: which ones; all ranks must name the same, because they average their gradients.
    """
    rng = np.random.default_rng(seed)
    masks = [torch.as_tensor(rng.random(weight.shape) >= fraction).to(weight) / (1 - fraction) for weight in weights]
    whole = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for weight, mask in zip(weights, masks, strict=True):
            weight.mul_(mask)
        try:
            with torch.enable_grad():
                yield
        finally:
            for weight, mask, value in zip(weights, masks, whole, strict=True):
                weight.copy_(value)
                if weight.grad is not None:
                    weight.grad.mul_(mask)

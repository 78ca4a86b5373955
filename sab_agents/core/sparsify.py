"""The sparsifier: attention weights of which all but a few are exactly zero.

Dimensions: B rows, S slots, K = top_k.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-8
"""Smallest sum that the weights are divided by, so that exact ties give zeros and not NaN."""


def sparsify(scores: Tensor, filled: Tensor, top_k: int) -> Tensor:
    """Keeps the `top_k` best scores, shifted so that the next one is zero, and scales them to sum 1.

    With n filled slots, θ is the (K+1)-th largest score, or the smallest filled score − 1 where n ≤ K, so that every
    filled slot takes part; the weights are max(a − θ, 0) / max(Σ max(a − θ, 0), 1e-8). θ carries gradient. At an
    exact tie with θ the subgradient of max is 0; which of several slots that tie for θ is credited is not specified.
    The slope grows without bound as the best scores approach a tie: clip the gradient norm when you train.

    Args:
        scores: (B, S) any finite real numbers; values of empty slots are ignored.
        filled: (B, S) bool, which slots hold a memory.
        top_k: how many slots may take part, at least 1.

    Returns:
        (B, S) weights: at most `top_k` non-zero in a row, rows sum to 1, or to 0 where the best scores tie exactly
        with θ or nothing is filled.

    Raises:
        ValueError: top_k < 1, or shapes differ.

    Source: Ke et al. 2018, section 3.1.
    """
    if top_k < 1:
        raise ValueError(f"sparsify: top_k must be at least 1, but is {top_k}.")
    if scores.dim() != 2 or scores.shape != filled.shape:
        raise ValueError(
            f"sparsify: scores and filled must both have shape (B, S), but have {tuple(scores.shape)} "
            f"and {tuple(filled.shape)}."
        )
    slots = scores.shape[1]
    if slots == 0:
        return scores
    masked = scores.masked_fill(~filled, -torch.inf)
    # A row without memory has no smallest score; its weights are zeroed below, and 0 keeps them free of NaN.
    smallest = scores.masked_fill(~filled, torch.inf).amin(dim=1, keepdim=True)
    smallest = smallest.masked_fill(~filled.any(dim=1, keepdim=True), 0.0)
    threshold = smallest - 1.0
    if slots > top_k:
        next_best = masked.topk(top_k + 1, dim=1).values[:, top_k:]
        threshold = torch.where(next_best > -torch.inf, next_best, threshold)
    above = torch.relu(scores - threshold).masked_fill(~filled, 0.0)
    return above / above.sum(dim=1, keepdim=True).clamp(min=EPSILON)

"""The weights that follow from scores: the definition, and what hand-written passes need.

Dimensions: B rows, S slots, K = top_k, R slots that a read names.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-8
"""Smallest sum that the weights are divided by, so that exact ties give zeros and not NaN."""


def sparsify(scores: Tensor, filled: Tensor, top_k: int, floor: float = 0.0, sharpness: float = 0.0) -> Tensor:
    """Keeps the `top_k` best scores, shifted so that the next one is zero, and scales them to sum 1 at most.

    With n filled slots, θ is the (K+1)-th largest score, or the smallest filled score − 1 where n ≤ K, so that every
    filled slot takes part; with u_i = max(a_i − θ, 0), the sharpness κ and g_i = (exp(κu_i) − 1)/κ, or u_i for κ = 0,
    the weights are g_i / max(m + Σg, 1e-8) with the floor m. θ carries gradient. At an exact tie with θ the subgradient
    of max is 0; which of several slots that tie for θ is credited is not specified. Without a floor the slope grows
    without bound as the best scores approach a tie: clip the gradient norm when you train. With one it is at most about
    1/m + κ.

    Without sharpness only ratios of u count, and no scale of the scores makes one slot stand out among K. With it,
    scores that differ by less than 1/κ are weighed much as without, and of scores that differ by more the best takes
    nearly all, as in a softmax of the K.

    Args:
        scores: (B, S) any finite real numbers; values of empty slots are ignored.
        filled: (B, S) bool, which slots hold a memory.
        top_k: how many slots may take part, at least 1.
        floor: m, at least 0; 0 is the paper's.
        sharpness: κ, at least 0; 0 is the paper's.

    Returns:
        (B, S) weights: at most `top_k` non-zero in a row. Rows sum to 1 without a floor, to less with one, and to 0
        where the best scores tie exactly with θ or nothing is filled.

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
    lowest = smallest - 1.0
    if slots > top_k:
        next_best = masked.topk(top_k + 1, dim=1).values[:, top_k:]
        lowest = torch.where(next_best > -torch.inf, next_best, lowest)
    return weighed(masked, lowest, floor, sharpness)


def weighed(scores: Tensor, theta: Tensor, floor: float, sharpness: float) -> Tensor:
    """The weights (…, S) of scores (…, S), −inf where there is none, with thresholds θ (…, 1)."""
    mass, total, _ = masses(scores, theta, floor, sharpness)
    return mass / total.clamp(min=EPSILON)


def masses(scores: Tensor, theta: Tensor, floor: float, sharpness: float) -> tuple[Tensor, Tensor, Tensor | None]:
    """The parts g (…, S), m + Σg (…, 1), and the slope ∂g/∂u (…, S) above θ, or None for 1.

    With κ all three are multiplied by exp(κ(θ − best)), which changes no weight: no exponential is above 1.
    """
    above = torch.relu(scores - theta)
    if not sharpness:
        total = above.sum(dim=-1, keepdim=True)
        return above, total + floor if floor else total, None
    best = scores.detach().amax(dim=-1, keepdim=True)
    best = best.masked_fill(best == -torch.inf, 0.0)  # a row without memory, whose weights are 0
    slope = torch.exp(sharpness * (scores - best))
    mass = slope * torch.expm1(-sharpness * above) / -sharpness
    total = mass.sum(dim=-1, keepdim=True)
    if floor:
        total = total + floor * torch.exp(sharpness * (theta - best))
    return mass, total, slope


def softmax(scores: Tensor, filled: Tensor, temperature: float) -> Tensor:
    """Weights (B, S) of every filled slot: the dense attention that the sparsifier replaces."""
    # Rows without memory would be 0/0: they get finite scores, and their weights are zeroed.
    scores = (scores / temperature).masked_fill(~filled & filled.any(dim=1, keepdim=True), -torch.inf)
    return torch.softmax(scores, dim=1).masked_fill(~filled, 0.0)


def threshold(best: Tensor, *, full: bool) -> Tensor:
    """θ (…, 1) of the best R scores (…, R), falling, −inf where fewer are filled; `full`: R are, in every row."""
    last = best[..., -1:]
    if full:
        return last
    smallest = best.masked_fill(best == -torch.inf, torch.inf).amin(dim=-1, keepdim=True)
    return torch.where(last > -torch.inf, last, smallest - 1)


def summary_by_scores(
    best: Tensor, weights: Tensor, values: Tensor, summary: Tensor, floor: float, sharpness: float
) -> Tensor:
    """∂s/∂scores of the sparsifier, transposed: (steps, B, R, H), written over `values`.

    With u_i = relu(a_i − θ), Σ = m + Σg and D = max(Σ, ε): ∂s/∂u_i = ∂g_i/∂u_i · (m_i − [Σ > ε]·s)/D where u_i > 0,
    else 0; a_i receives it, and the score that set θ receives minus their sum.

    Args:
        best: (steps, B, R) scores, falling, −inf where there is none.
        weights: (steps, B, R) of these.
        values: (steps, B, R, H) what the slots held.
        summary: (steps, B, H).
        floor: m.
        sharpness: κ.
    """
    filled = best > -torch.inf
    theta = threshold(best, full=False)
    _, total, slope = masses(best, theta, floor, sharpness)
    scale = (best > theta) / total.clamp(min=EPSILON)
    if slope is not None:
        scale = scale * slope
    normalised = (total > EPSILON).to(summary.dtype)
    derivative = values.sub_((summary * normalised).unsqueeze(2)).mul_(scale.unsqueeze(3))
    lowest = (filled.sum(dim=-1, keepdim=True) - 1).clamp(min=0)
    at_threshold = torch.zeros_like(weights).scatter_(2, lowest, 1.0).mul_(filled)
    return derivative.sub_(at_threshold.unsqueeze(3) * derivative.sum(dim=2, keepdim=True))
